"""Selection: noise is seldom kept, nothing leaks out of the folds, names and categories stay whole."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from iris_nb.candidates import candidate_named
from iris_nb.comparison import Question, compare
from iris_nb.construct import FEATURE_TYPES
from iris_nb.contract import Column, Contract
from iris_nb.errors import ParameterError, StageError
from iris_nb.features import FeatureOptions, build_features, feature_variants, plan_features
from iris_nb.selection import METHODS, Select, selection_facts, selection_stability, stability_index, training_parts

SELECTED = {"construct": "auto", "scale": "standard", "max_categories": 20, "rare": 0.01}


def signal_and_noise(seed: int, rows: int = 120) -> tuple[pd.DataFrame, pd.Series]:
    "Two features that tell the class, and ten of noise."
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, rows)
    table = pd.DataFrame(random.normal(size=(rows, 12))).add_prefix("noise ")
    table = table.rename(columns={"noise 0": "first", "noise 1": "second"})
    table["first"] += 2 * y
    table["second"] -= 2 * y
    return table, pd.Series(np.where(y == 1, "ill", "well"))


@pytest.mark.parametrize("method", METHODS)
def test_noise_is_seldom_selected_and_signal_always(method: str) -> None:
    noise = 0
    for seed in range(3):
        X, y = signal_and_noise(seed)
        kept = set(Select(method, 0.5, 0, []).fit(X, y).get_feature_names_out())
        assert kept & {"first", "second"}
        assert {"first", "second"} <= kept or method == "rfe"
        noise += len(kept - {"first", "second"})
    if method != "mutual_info":  # which fills its share
        assert noise <= 10


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_selects_the_same_whatever_the_labels_are_called(method: str) -> None:
    X, y = signal_and_noise(0)
    one = Select(method, 0.3, 7, []).fit(X, y)
    two = clone(one).fit(X, y.map({"ill": "1", "well": "2"}))
    assert one.support_.tolist() == two.support_.tolist() and np.array_equal(one.scores_, two.scores_)


def test_selection_inside_the_folds_stays_at_chance_where_selection_before_does_not() -> None:
    "Ambroise & McLachlan 2002: 500 columns of noise."
    noise = pd.DataFrame(np.random.default_rng(1).normal(size=(60, 500))).add_prefix("gene ")
    y = pd.Series(["sick", "well"] * 30)
    asked = Question(("sick", "well"), "", "balanced_accuracy", 5, 2, 0, "none", 0)
    scaled = StandardScaler().set_output(transform="pandas")
    select = Select("l1", 0.04, 0, [])
    inside = Pipeline([("scale", scaled), ("select", select)]).set_output(transform="pandas")
    picked = clone(select).set_output(transform="pandas").fit_transform(noise, y)
    lda = [candidate_named("lda")]
    honest = compare(lda, inside, noise, y, None, asked).scores["balanced_accuracy"].mean()
    fooled = compare(lda, scaled, picked, y, None, asked).scores["balanced_accuracy"].mean()
    assert fooled > 0.75 and abs(honest - 0.5) < 0.15


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(METHODS[:2]),
    st.floats(0.01, 1.0),
    st.integers(1, 5),
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=4, max_size=14),
    st.integers(0, 2**32 - 1),
)
def test_something_is_kept_on_any_rows(method: str, share: float, width: int, labels: list[str], seed: int) -> None:
    X = pd.DataFrame(np.random.default_rng(seed).integers(0, 3, (len(labels), width)).astype(float)).add_prefix("f")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = Select(method, share, seed, []).set_output(transform="pandas").fit(X, pd.Series(labels))
    kept = fitted.transform(X)
    assert kept.shape[1] >= 1 and list(kept.columns) == list(fitted.get_feature_names_out())
    assert kept.shape[1] <= max(1, int(share * width + 1e-9)) or fitted.note_


@pytest.mark.parametrize("method", ["rfe", "permutation"])
@pytest.mark.parametrize("rows", [20, 6000])
def test_every_feature_is_kept_where_a_class_has_one_row(method: str, rows: int) -> None:
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(rows + 1, 3)), columns=list("abc"))
    select = Select(method, 0.5, 0, []).fit(table, ["a"] * rows + ["b"])
    assert select.support_.all() and "every feature was kept" in select.note_


def meadow(select: str) -> tuple[Contract, pd.DataFrame, pd.Series, FeatureOptions]:
    "A category, a date, two lengths and their plan."
    columns = (
        Column("petal length", "number", "feature", nullable=True, unit="cm"),
        Column("petal width", "number", "feature", unit="cm"),
        Column("Farbe", "category", "feature", categories=("blau", "rot", "weiß")),
        Column("picked", "date", "feature"),
        Column("species", "category", "target", categories=("s", "v")),
    )
    random = np.random.default_rng(0)
    y = np.arange(60) % 2
    frame = pd.DataFrame({
        "petal length": np.where(np.arange(60) % 9 == 0, np.nan, random.normal(5, 1, 60) + 2 * y),
        "petal width": random.normal(2, 0.5, 60),
        "Farbe": np.array(["blau", "rot", "weiß"], dtype=object)[(y + random.integers(0, 2, 60))],
        "picked": pd.Timestamp("1936-09-01") + pd.to_timedelta(random.integers(0, 400, 60), "D"),
    })  # fmt: skip
    options = FeatureOptions(**SELECTED, polynomial=3, select=select, select_share=0.4, seed=3)
    return Contract("meadow", "species", columns), frame, pd.Series(np.where(y == 1, "v", "s")), options


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_with_a_selection_survives_the_model_file(method: str) -> None:
    contract, frame, y, options = meadow(method)
    fitted = build_features(contract, options).fit(frame, y)
    stored = skops.io.dumps(fitted)
    unknown = skops.io.get_untrusted_types(data=stored)
    assert set(unknown) - {"numpy.dtype"} <= set(FEATURE_TYPES)
    pd.testing.assert_frame_equal(skops.io.loads(stored, trusted=unknown).transform(frame), fitted.transform(frame))
    colours = [name.startswith("Farbe = ") for name in fitted.get_feature_names_out()]
    assert sum(colours) in (0, 3), "a category is kept or dropped whole"


def test_made_columns_are_named_planned_and_standardized() -> None:
    contract, frame, y, options = meadow("none")
    prepared = build_features(contract, options).fit_transform(frame, y)
    assert {"petal length²", "petal width²", "petal length × petal width"} <= set(prepared.columns)
    assert np.allclose(prepared["petal length²"].mean(), 0) and np.allclose(prepared["petal length²"].std(ddof=0), 1)
    raw = build_features(contract, FeatureOptions(**(SELECTED | {"scale": "none"}), polynomial=3)).fit_transform(frame)
    filled = frame["petal length"].fillna(frame["petal length"].median())
    assert np.allclose(raw["petal length²"], ((filled - filled.mean()) / filled.std(ddof=0)) ** 2)


def test_variants_are_with_and_without() -> None:
    contract, *_, options = meadow("l1")
    variants = feature_variants(plan_features(contract, options))
    assert list(variants) == ["as measured", "with made columns", "with selection", "with both"]
    assert [v.options.select for v in variants.values()] == ["none", "none", "l1", "l1"]
    assert [v.options.construct for v in variants.values()] == ["none", "auto", "none", "auto"]
    alone = Contract("t", "y", (Column("a", "number", "feature"), Column("y", "category", "target")))
    assert list(feature_variants(plan_features(alone, FeatureOptions(**SELECTED)))) == ["as measured"]


def test_stability_counts_categories_once_and_is_right_at_its_ends() -> None:
    contract, frame, y, options = meadow("mutual_info")
    dealt = np.vstack([np.random.default_rng(i).permutation(60) % 5 for i in range(2)])
    facts = selection_facts(build_features(contract, options), frame, y, dealt)
    names = [line["feature"] for line in facts["table"]]
    assert "Farbe" in names and not any(name.startswith("Farbe =") for name in names)
    assert facts["folds"] == 10 and 0 < facts["kept_mean"] <= 0.4 * len(names)
    assert stability_index([1, 0], 3) == 1 and stability_index([0.5, 0.5], 2) < 0
    everything = selection_stability(build_features(contract, FeatureOptions(**SELECTED)), frame, y, dealt)
    assert (everything["share"] == 1).all()
    none = selection_facts(build_features(contract, FeatureOptions(**SELECTED)), frame, y, dealt)
    assert none["made"] is False and "none" in none["sentence"]


def test_folds_in_time_are_fitted_on_earlier_rows_of_other_groups() -> None:
    parts = training_parts(np.array([-1, -1, 0, 0, 1, 1]), np.array([0, 1, 1, 2, 2, 3]))
    assert [part.tolist() for part in parts] == [[0], [0, 1, 2]]


@pytest.mark.parametrize(
    "wrong", [{"select": "anova"}, {"select_share": 0.0}, {"select_share": 1.5}, {"polynomial": -1}]
)
def test_wrong_parameters_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        FeatureOptions(**SELECTED, **wrong)  # type: ignore[arg-type]


def test_a_fit_without_labels_is_refused_in_words() -> None:
    with pytest.raises(StageError, match="no labels"):
        Select("l1", 0.5, 0, []).fit(signal_and_noise(0)[0])
