"""Controls of a comparison: chance where there is nothing to learn, nested curves, seeds, variants."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.preprocessing import StandardScaler

from iris_nb.candidates import candidate_named, candidates_named
from iris_nb.comparison import Question, compare
from iris_nb.contract import Column, Contract
from iris_nb.control import (
    Rows,
    compare_variants,
    control_facts,
    label_permutation,
    learning_curve,
    nested_order,
    plot_control,
    seed_sensitivity,
    show_control,
    shuffle_labels,
    stop_on_leak,
)
from iris_nb.errors import ParameterError, StageError
from iris_nb.features import FeatureOptions, FeaturePlan, feature_variants, plan_features

IRIS = load_iris(as_frame=True)
FLOWERS = Rows(IRIS.data, pd.Series(IRIS.target_names[IRIS.target]))
ASKED = Question(tuple(IRIS.target_names), "", "balanced_accuracy", 3, 1, 0, "none", 0)
SCALED = StandardScaler().set_output(transform="pandas")
LDA = candidate_named("lda")


def iris_plan(select: str = "none") -> FeaturePlan:
    columns = [Column(name, "number", "feature", unit="cm") for name in IRIS.data.columns]
    target = Column("species", "category", "target", categories=ASKED.classes)
    options = FeatureOptions("auto", "standard", 20, 0.01, select=select)
    return plan_features(Contract("iris", "species", (*columns, target)), options)


def noise(rows: int, columns: int, seed: int) -> Rows:
    X = pd.DataFrame(np.random.default_rng(seed).normal(size=(rows, columns))).add_prefix("x")
    return Rows(X, pd.Series(["a", "b"] * (rows // 2)))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_shuffling_keeps_every_label(labels: list[str], seed: int) -> None:
    y = pd.Series(labels)
    assert sorted(shuffle_labels(y, None, seed)) == sorted(labels)
    groups = np.arange(len(labels)) // 2
    together = shuffle_labels(pd.Series([labels[g] for g in groups]), groups, seed)
    assert all(together[groups == g].nunique() == 1 for g in groups)


@settings(max_examples=60)
@given(st.lists(st.sampled_from("aab"), min_size=2, max_size=60), st.integers(0, 2**32 - 1))
def test_beginnings_of_the_order_hold_the_proportions(labels: list[str], seed: int) -> None:
    y = pd.Series(labels)
    order = nested_order(y, None, seed)
    assert sorted(order) == list(range(len(y)))
    for n in range(y.nunique(), len(y) + 1):
        part = y.iloc[order[:n]]
        assert set(part) == set(y)
        assert all(abs((part == c).sum() - n * (y == c).mean()) <= 2 for c in set(y))


def test_iris_falls_to_chance_on_shuffled_labels() -> None:
    facts = label_permutation(LDA, SCALED, FLOWERS, ASKED, 5)
    assert facts["p_value"] == pytest.approx(1 / 6) and not facts["findings"]
    assert facts == label_permutation(LDA, SCALED, FLOWERS, ASKED, 5), "deterministic"
    assert label_permutation(LDA, SCALED, FLOWERS, replace(ASKED, metric="log_loss"), 5)["as_good"] == 0


def test_a_leak_is_an_error_unless_silenced_and_noise_is_a_warning() -> None:
    rows = noise(60, 300, 0)
    asked = Question(("a", "b"), "", "accuracy", 5, 1, 0, "none", 0)

    def careless(candidates, features, rows, asked):  # type: ignore[no-untyped-def]
        picked = SelectKBest(f_classif, k=10).set_output(transform="pandas").fit_transform(rows.X, rows.y)
        return compare(candidates, features, picked, rows.y, rows.groups, asked)

    leaking = label_permutation(LDA, SCALED, rows, asked, 5, procedure=careless)
    assert leaking["leaks"] and leaking["findings"][0]["code"] == "L101"
    with pytest.raises(StageError, match="L101"):
        stop_on_leak(leaking)
    stop_on_leak(label_permutation(LDA, SCALED, rows, asked, 5, silence=["L101"], procedure=careless))
    for seed in (1, 2, 3):
        assert not label_permutation(LDA, SCALED, noise(60, 20, seed), asked, 9)["leaks"], "no false alarm"


def test_guessing_with_rare_classes_and_other_metrics_is_no_leak() -> None:
    random = np.random.default_rng(0)
    y = pd.Series(["common"] * 40 + ["other"] * 38 + ["rare", "single"])
    rows = Rows(pd.DataFrame(random.normal(size=(80, 3))).add_prefix("x"), y)
    asked = Question(("common", "other", "rare", "single"), "", "macro_f1", 3, 1, 0, "balanced", 0)
    assert not label_permutation(LDA, SCALED, rows, asked, 6)["leaks"]


def test_groups_are_shuffled_and_dealt_whole() -> None:
    rows = replace(noise(80, 4, 0), y=pd.Series(np.repeat(["a", "b"] * 10, 4)), groups=np.repeat(np.arange(20), 4))
    asked = Question(("a", "b"), "", "balanced_accuracy", 4, 1, 0, "none", 0)
    assert not label_permutation(LDA, SCALED, rows, asked, 9)["leaks"]
    assert learning_curve(LDA, SCALED, rows, asked, 3)["points"][-1]["rows"] == 60


def test_shuffles_of_a_subsample_have_folds_of_their_own() -> None:
    groups = np.arange(600) // 10
    labels = np.where(np.arange(60) < 54, "p", "q")[groups]
    rows = Rows(pd.DataFrame(np.random.default_rng(0).normal(size=(600, 3))).add_prefix("x"), pd.Series(labels), groups)
    asked = Question(("p", "q"), "", "balanced_accuracy", 0, 1, 1, "none", 60)
    assert label_permutation(LDA, SCALED, rows, asked, 8)["rounds"] == 8
    coarse = replace(noise(600, 3, 0), times=np.repeat([0, 1, 2, 3], 150))
    few = Question(("a", "b"), "", "accuracy", 3, 1, 21, "none", 30)  # two of the shuffles allow two folds only
    assert label_permutation(LDA, SCALED, coarse, few, 6)["made"]


def test_the_curve_ends_at_the_row_limit() -> None:
    class Capped(type(LDA)):  # type: ignore[misc]
        row_limit = 50

    asked = Question(("a", "b"), "", "accuracy", 5, 1, 0, "none", 0)
    curve = learning_curve(Capped(), SCALED, noise(200, 2, 0), asked, 3)
    assert [point["rows"] for point in curve["points"]] == [12, 25, 50]
    assert (
        "from 25 to 50 training rows" in curve["sentence"] and "the most that it is ever fitted on" in curve["sentence"]
    )
    assert "ever fitted on" not in learning_curve(LDA, SCALED, noise(200, 2, 0), asked, 3)["sentence"]


def test_rows_in_time_are_judged_by_earlier_ones() -> None:
    rows = replace(noise(90, 3, 0), times=np.arange(90))
    rows = replace(rows, X=rows.X.assign(x0=rows.X["x0"] + 3 * (rows.y == "a")))
    asked = Question(("a", "b"), "", "accuracy", 2, 1, 0, "none", 0)
    curve = learning_curve(LDA, SCALED, rows, asked, 2)
    assert curve["points"][-1]["rows"] == 45 and curve["points"][-1]["mean"] > 0.8
    assert label_permutation(LDA, SCALED, rows, asked, 5)["real"] > 0.8


def test_the_curve_rises_where_rows_help_and_is_flat_where_they_do_not() -> None:
    easy = noise(400, 2, 0)
    easy = replace(easy, X=easy.X.assign(x0=easy.X["x0"] + np.where(easy.y == "a", 9.0, -9.0)))
    asked = Question(("a", "b"), "", "accuracy", 5, 1, 0, "none", 0)
    assert learning_curve(LDA, SCALED, easy, asked, 3)["verdict"] == "flat"
    hard = noise(240, 80, 0)
    hard = replace(hard, X=hard.X.add(np.where(hard.y == "a", 0.25, -0.25), axis=0))
    curve = learning_curve(LDA, SCALED, hard, replace(asked, repeats=5), 2)
    assert curve["verdict"] == "rises" and curve["gain"]["low"] > 0


def test_seeds_that_agree_and_seeds_that_do_not() -> None:
    facts = seed_sensitivity(candidates_named(["logistic", "knn"]), SCALED, FLOWERS, ASKED, 4)
    assert [len(facts[key]) for key in ("first", "chosen")] == [4, 4]
    assert sum(line["first"] for line in facts["candidates"]) == 4
    assert "majority" not in {line["name"] for line in facts["candidates"]}
    alone = seed_sensitivity(candidates_named(["lda"]), SCALED, FLOWERS, ASKED, 2)
    assert alone["kendall"] is None and alone["disagree_first"] == 0


def test_variants_are_tested_on_the_same_folds() -> None:
    facts = compare_variants(LDA, feature_variants(iris_plan()), FLOWERS, ASKED, iris_plan())
    names = [line["name"] for line in facts["variants"]]
    assert names == ["as measured", "with made columns", "with selection", "with both"]
    plain = compare([LDA], iris_plan().build(), FLOWERS.X, FLOWERS.y, None, ASKED)
    assert facts["variants"][1]["mean"] == pytest.approx(plain.facts["leaderboard"][0]["mean"])
    assert [line["own"] for line in facts["variants"]] == [False, True, False, False]


def test_all_of_it_is_plain_and_shows() -> None:
    candidates = candidates_named(["lda", "knn"])
    facts = control_facts(candidates, "lda", iris_plan("mutual_info"), FLOWERS, ASKED, 5, 3, 2, True, [])
    json.dumps(facts, allow_nan=False)
    assert len(show_control(facts).sentences) == 4
    figure = plot_control(facts)
    assert figure is not None and sum(axes.get_visible() for axes in figure.axes) == 4


@pytest.mark.parametrize(("rounds", "points", "seeds"), [(1, 0, 0), (4, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_numbers_that_make_no_sense_are_refused(rounds: int, points: int, seeds: int) -> None:
    with pytest.raises(ParameterError, match="must be 0"):
        control_facts([LDA], "lda", iris_plan(), FLOWERS, ASKED, rounds, points, seeds, False, [])
