"""Nested cross-validation: nothing of the outer test rows reaches a search, and the rule is kept to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler
from test_tuning import BUNCH, SCALED, Quick, X, Y, ask

from iris_nb import nested, tuning
from iris_nb.candidates import Majority, OneOf, Whole
from iris_nb.comparison import compare, deal_folds
from iris_nb.errors import ParameterError, StageError
from iris_nb.nested import nested_scores, nested_words, plot_nested, tune_study, tuning_terms

DEALT = deal_folds(Y, None, 3, 1, 0)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return nested_scores(Quick(), SCALED, X, Y, None, ask(), 4, DEALT)


def test_facts(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert len(found["folds"]) == 3 and len(found["sentences"]) == 3
    gains = [line["default"] - line["tuned"] for line in found["folds"]]
    assert np.isclose(found["gain"]["mean"], np.mean(gains))
    assert np.isclose(found["optimism"], found["tuned"]["mean"] - found["inner_best"]["mean"])
    plot_nested(found)


def test_the_default_scores_are_those_of_the_comparison() -> None:
    asked = ask()
    comparison = compare([Majority(), Quick()], SCALED, X, Y, None, asked)
    scores = comparison.scores[comparison.scores["name"] == "quick"]["log_loss"].to_numpy()
    lines = nested_scores(Quick(), SCALED, X, Y, None, asked, 2, comparison.dealt)["folds"]
    assert np.allclose([line["default"] for line in lines], scores, rtol=0, atol=1e-12)


def test_no_search_sees_an_outer_test_row(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[int]] = []

    def spy(candidate: Any, features: Any, X: pd.DataFrame, *rest: Any) -> Any:
        seen.append(set(X.index))
        return tuning.tune(candidate, features, X, *rest)

    monkeypatch.setattr(nested, "tune", spy)
    nested_scores(Quick(), SCALED, X, Y, None, ask(), 2, DEALT)
    for fold, rows in enumerate(seen):
        assert not rows & set(X.index[DEALT[0] == fold])
        assert len(rows) == int((DEALT[0] != fold).sum())


def test_groups_and_times_are_respected() -> None:
    groups = np.arange(len(Y)) // 3
    dealt = deal_folds(Y, groups, 3, 1, 0)
    assert nested_scores(Quick(), SCALED, X, Y, groups, ask(), 2, dealt)["outer_folds"] == 3
    mixed = np.random.default_rng(0).permutation(len(Y))
    times = np.arange(len(Y))
    late = deal_folds(Y.iloc[mixed], None, 3, 1, 0, times)
    found = nested_scores(Quick(), SCALED, X.iloc[mixed], Y.iloc[mixed], None, ask(), 2, late, times)
    sizes = [line["rows"][0] for line in found["folds"]]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    first = found["folds"][0]  # too few rows before it for a search inside them
    assert first["note"].startswith("no search: ") and first["tuned"] == first["default"]


@pytest.mark.parametrize("moments", [9, 5])
def test_coarse_times_get_fewer_inner_folds(moments: int) -> None:
    asked, times = ask(), np.arange(len(Y)) * moments // len(Y)
    mixed = np.random.default_rng(0).permutation(len(Y))
    rows = (X.iloc[mixed].set_axis(X.index), Y.iloc[mixed].set_axis(Y.index))
    late = deal_folds(rows[1], None, 3, 1, 0, times)
    found = nested_scores(Quick(), SCALED, *rows, None, asked, 2, late, times)
    assert len(found["folds"]) == 3
    assert tuning.tune(Quick(), SCALED, *rows, None, asked, tuning.Budget(2), times)["folds"] == min(5, moments - 1)


def test_two_times_are_too_few_for_a_search() -> None:
    times = np.arange(len(Y)) * 2 // len(Y)
    with pytest.raises(StageError, match="2 times cannot be cut into the three parts"):
        tuning.tune(Quick(), SCALED, X, Y, None, ask(), tuning.Budget(2), times)


class Foolish(Quick):
    """A default that is plainly bad, and a space that is not."""

    name = "foolish"

    def build(self, seed: int) -> Any:
        return super().build(seed).set_params(n_neighbors=len(Y) // 2)

    def search_space(self) -> Any:
        return {"n_neighbors": Whole(3, 9)}


class Idle(Quick):
    """A space that changes nothing."""

    name = "idle"

    def search_space(self) -> Any:
        return {"leaf_size": Whole(10, 50), "algorithm": OneOf(("kd_tree", "ball_tree"))}


def study(candidate: Any, what: str = "chosen", **more: Any) -> dict[str, Any]:
    asked = ask()
    comparison = compare([Majority(), candidate], SCALED, X, Y, None, asked)
    terms = tuning_terms(what, 5, 0.0, 1, {})
    return tune_study(terms, [Majority(), candidate], [candidate.name], SCALED, X, Y, None, asked, comparison, **more)


def test_tuning_that_helps_is_used_and_its_journals_go(tmp_path: Path) -> None:
    facts = study(Foolish(), journals=tmp_path / "journals")
    part = facts["candidates"]["foolish"]
    assert part["used"] and facts["settings"]["foolish"] == part["search"]["best"]["settings"]
    assert "the tuned settings are used" in part["nested"]["sentences"][-1]
    assert facts["trials_done"] == {"foolish": 5}
    assert not (tmp_path / "journals").exists()


def test_tuning_that_does_not_help_is_said_so_and_not_used() -> None:
    facts = study(Idle())
    assert facts["settings"] == {"idle": {}} and not facts["candidates"]["idle"]["used"]
    last = facts["candidates"]["idle"]["nested"]["sentences"][-1]
    assert last.startswith("Tuning is not shown to help") and "default settings are used" in last
    json.dumps(facts, allow_nan=False)


def test_too_few_folds_for_a_test_keep_the_default(found: dict[str, Any]) -> None:
    two = nested_scores(Foolish(), SCALED, X, Y, None, ask(), 2, deal_folds(Y, None, 2, 1, 0))
    assert not two["helps"] and "too few outer folds" in two["sentences"][-1]


def test_words_are_made_from_facts_alone(found: dict[str, Any]) -> None:
    assert nested_words(json.loads(json.dumps(found))) == found["sentences"]


def test_none_tunes_nothing() -> None:
    assert tuning_terms("none", 0, -1.0, 0, {}) is None
    assert study(Quick(), "none")["candidates"] == {}


@pytest.mark.parametrize("wrong", [("all", 0, 0.0, 1, {}), ("all", 5, 0.0, 0, {}), ("some", 5, 0.0, 1, {})])
def test_terms_that_cannot_be(wrong: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        tuning_terms(*wrong)
    assert "\n" not in str(caught.value)


def test_features_are_fitted_inside_the_folds() -> None:
    class Watching(StandardScaler):
        rows: list[int] = []  # noqa: RUF012

        def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
            Watching.rows.append(len(X))
            return super().fit(X, y, sample_weight)

    nested_scores(Quick(), Watching().set_output(transform="pandas"), X, Y, None, ask(), 2, DEALT)
    assert max(Watching.rows) < len(BUNCH.data.iloc[::2])
