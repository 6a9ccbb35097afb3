"""Prediction sets: small cases by hand, coverage by simulation, and a file that gives the same sets."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iris_nb.conformal import (
    Conformal,
    conformal_of,
    conformal_sentences,
    coverage_spread,
    measure_coverage,
    plot_sets,
    set_texts,
    share_interval,
    share_interval_of_groups,
    strangeness,
    threshold,
)
from iris_nb.errors import ModelFileError, ParameterError
from iris_nb.evaluation import Answers


def honest(rows: int, classes: int, seed: int, sharp: float = 0.5) -> Answers:
    """Answers whose truth is drawn from the probabilities."""
    rng = np.random.default_rng(seed)
    names = tuple(f"c{i}" for i in range(classes))
    proba = rng.dirichlet(np.full(classes, sharp), rows)
    codes = (rng.random((rows, 1)) > proba.cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    return Answers(np.array(names, dtype=object)[codes], proba, names)


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize("kind", ["marginal", "class"])
def test_coverage_is_what_was_promised(score: str, kind: str) -> None:
    shares = []
    for seed in range(60):
        conformal = conformal_of(honest(60, 3, seed), 0.8, score, kind)
        shares.append(measure_coverage(conformal, honest(400, 3, 1000 + seed), kind, 0.95).share)
    assert 0.785 < np.mean(shares) < 0.9
    if (score, kind) == ("lac", "marginal"):
        assert np.mean(shares) == pytest.approx(49 / 61, abs=0.02)  # ⌈61 · 0.8⌉ / 61: exact for scores without ties


def test_sets_of_each_class_cover_each_class() -> None:
    shares = np.array(
        [
            [line["share"] for line in measure_coverage(conformal, honest(900, 3, 500 + seed), "class", 0.95).per_class]
            for seed in range(40)
            for conformal in [conformal_of(honest(150, 3, seed), 0.8, "lac", "class")]
        ]
    )
    assert (shares.mean(axis=0) > 0.79).all()


@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0.05, 0.99))
def test_the_threshold_is_the_least_that_enough_scores_meet(scores: list[float], coverage: float) -> None:
    limit = threshold(scores, coverage)
    needed = (len(scores) + 1) * coverage
    assert np.isinf(limit) == (np.ceil(needed - 1e-9) > len(scores))
    if np.isfinite(limit):
        assert sum(s <= limit for s in scores) >= needed - 1e-6
        assert sum(s < limit for s in scores) < np.ceil(needed - 1e-9)


@given(st.integers(1, 30), st.integers(2, 6), st.integers(0, 99), st.sampled_from(["lac", "aps"]))
@settings(deadline=None)
def test_a_file_gives_the_same_sets(rows: int, classes: int, seed: int, score: str) -> None:
    answers = honest(rows, classes, seed)
    for kind in ("marginal", "class"):
        conformal = conformal_of(answers, 0.9, score, kind)
        again = Conformal.from_dict(json.loads(json.dumps(conformal.to_dict(), allow_nan=False)))
        assert again == conformal and (again.sets(answers.proba) == conformal.sets(answers.proba)).all()


def test_more_coverage_never_makes_a_set_smaller() -> None:
    answers, new = honest(200, 4, 0), honest(100, 4, 1)
    for score in ("lac", "aps"):
        sets = [conformal_of(answers, c, score, "marginal").sets(new.proba) for c in (0.5, 0.8, 0.9, 0.99)]
        assert all((small <= large).all() for small, large in pairwise(sets))


def test_aps_counts_the_class_itself() -> None:
    assert strangeness(np.array([[0.2, 0.5, 0.3]]), "aps")[0] == pytest.approx([1.0, 0.5, 0.8])


def test_thirty_rows_are_eleven_points() -> None:
    low, high = coverage_spread(30, 0.9, 0.95)
    assert (high - low) / 2 == pytest.approx(0.10, abs=0.011) and 0.9 - low == pytest.approx(0.12, abs=0.01)
    assert coverage_spread(5, 0.9, 0.95) == (1.0, 1.0)
    assert share_interval(0, 10, 0.95)[0] == 0


def test_sets_as_text_are_json_of_the_own_labels() -> None:
    sets = np.array([[True, False], [False, False], [True, True]])
    assert [json.loads(t) for t in set_texts(sets, np.array([3, 7]))] == [[3], [], [3, 7]]
    assert [json.loads(t) for t in set_texts(sets, np.array([False, True]))][2] == [False, True]
    assert set_texts(sets[:0], ["a", "b"]).tolist() == []
    assert set_texts(sets, ['a "ß"', "b"])[0] == '["a \\"ß\\""]'


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"coverage": 1.0}, "between 0 and 1"), ({"score": "lca"}, "did you mean 'lac'"), ({"kind": "clas"}, "'class'")],
)
def test_bad_parameters_are_one_sentence(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        conformal_of(honest(20, 2, 0), **({"coverage": 0.9, "score": "lac", "kind": "marginal"} | changes))


@pytest.mark.parametrize(
    "damage", [{"score": "magic"}, {"per_class": [1]}, {"marginal": {}}, {"format": 9}, {"per_class": None}]
)
def test_a_damaged_file_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(ModelFileError, match=r"conformal\.json"):
        Conformal.from_dict(conformal_of(honest(20, 2, 0), 0.9, "lac", "marginal").to_dict() | damage)


def test_a_model_better_than_the_coverage_is_told_about_its_empty_sets() -> None:
    answers = Answers(np.array(["a"] * 50, dtype=object), np.tile([0.99, 0.01], (50, 1)), ("a", "b"))
    conformal = conformal_of(answers, 0.9, "lac", "marginal")
    said = conformal_sentences(conformal, measure_coverage(conformal, answers, "marginal", 0.95), 1.0, 0.95, True)
    assert any("a coverage above the accuracy" in s for s in said) and any("order in time" in s for s in said)


def said_off_target(conformal: Conformal, answers: Answers, kind: str, groups: Any = None) -> bool:
    measured = measure_coverage(conformal, answers, kind, 0.95, groups)
    return any("than was asked for" in one for one in conformal_sentences(conformal, measured, 0.5, 0.95, False))


@pytest.mark.parametrize(("known", "asked"), [(100, 100), (100, 400)])
def test_rows_of_one_kind_are_seldom_called_unlike(known: int, asked: int) -> None:
    hits = sum(
        said_off_target(
            conformal_of(honest(known, 2, 2 * s), 0.9, "lac", "marginal"), honest(asked, 2, 2 * s + 1), "marginal"
        )
        for s in range(100)
    )
    assert hits <= 11  # 5 expected; the old rule said it in 15 and 38


def test_rows_that_are_unlike_are_called_so() -> None:
    known, other = honest(200, 3, 0), honest(200, 3, 1)
    wrong = Answers(np.roll(other.actual, 1), other.proba, other.classes)
    sets = conformal_of(known, 0.9, "lac", "marginal")
    assert said_off_target(sets, wrong, "marginal")
    assert not said_off_target(sets, wrong, "marginal", np.arange(200) // 2)


def test_more_is_not_said_of_ties_or_of_infinite_thresholds() -> None:
    rng = np.random.default_rng(1)

    def fifths(rows: int) -> Answers:
        codes, own = rng.integers(0, 2, rows), rng.binomial(5, 0.985, rows) / 5
        first = np.where(codes == 0, own, 1 - own)
        return Answers(np.array(["a", "b"], dtype=object)[codes], np.stack([first, 1 - first], axis=1), ("a", "b"))

    def few(rows: int) -> Answers:
        codes = rng.integers(0, 8, rows)
        proba = np.where(codes[:, None] == np.arange(8), 0.65, 0.05)
        return Answers(np.array(list("abcdefgh"), dtype=object)[codes], proba, tuple("abcdefgh"))

    assert not said_off_target(conformal_of(fifths(1600), 0.9, "lac", "marginal"), fifths(400), "marginal")
    assert not said_off_target(conformal_of(few(48), 0.9, "lac", "class"), few(60), "class")


def test_the_interval_of_grouped_rows_holds_the_share() -> None:
    held, rng, member = 0, np.random.default_rng(0), np.repeat(np.arange(20), 10)
    for _ in range(200):
        low, high = share_interval_of_groups((rng.random(20) < 0.8)[member], member, 0.95)
        held += low is not None and high is not None and low <= 0.8 <= high
    assert held >= 182
    assert share_interval_of_groups(np.ones(60, dtype=bool), np.repeat(np.arange(20), 3), 0.95) == share_interval(
        20, 20, 0.95
    )
    assert share_interval_of_groups(np.ones(5, dtype=bool), np.zeros(5, dtype=np.int64), 0.95) == (0.0, 1.0)
    assert share_interval_of_groups(np.ones(0, dtype=bool), np.zeros(0, dtype=np.int64), 0.95) == (None, None)


def test_the_figure_names_its_confidence() -> None:
    sets = conformal_of(honest(100, 3, 0), 0.9, "lac", "marginal")
    measured = [measure_coverage(sets, honest(100, 3, 1), kind, 0.8) for kind in ("marginal", "class")]
    assert "80 % interval" in plot_sets(sets, measured, 0.8).axes[1].get_xlabel()
