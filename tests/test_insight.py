"""What a model looks at: held to definitions, kept within bounds, and silent about rows that may not be shown."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PathCollection

from iris_nb.candidates import candidate_named, fit_candidate, probabilities
from iris_nb.data import StudyData, load_data
from iris_nb.evaluation import Answers
from iris_nb.features import load_features
from iris_nb.folders import open_run
from iris_nb.insight import (
    Bounds,
    Insight,
    columns_alike,
    confused_pairs,
    decision_region,
    importance_table,
    importances,
    insight_figures,
    look_into,
    plot_regions,
    threshold_view,
    typical_row,
    within_bounds,
)

BOUNDS = Bounds(5, 20_000, 2, 3, 200, 0.95)


@cache
def looked() -> tuple[StudyData, Any, Answers, Insight]:
    run = open_run("")
    data = load_data(run)
    model = fit_candidate(
        candidate_named("lda"), load_features(run, data).build(), data.train, data.train_labels, 0, "none"
    )
    answers = Answers(data.test_labels.to_numpy(), probabilities(model, data.test, data.classes), data.classes)
    return data, model, answers, look_into(model, data, answers, None, "balanced_accuracy", BOUNDS, 0)


def test_petals_matter_most_and_it_is_repeatable() -> None:
    data, model, answers, insight = looked()
    assert insight.importance[0].columns == ("sepal_length", "petal_length", "petal_width")
    assert {one.columns for one in insight.importance[1:3]} == {("petal_length",), ("petal_width",)}
    assert all(
        one.low <= one.value <= one.high for one in insight.importance if one.low is not None and one.high is not None
    )
    again = look_into(model, data, answers, None, "balanced_accuracy", BOUNDS, 0)
    assert json.dumps(again.to_dict(data.classes)) == json.dumps(insight.to_dict(data.classes), allow_nan=False)


@pytest.mark.parametrize("metric", ["log_loss", "roc_auc", "brier"])
def test_any_metric_falls_when_a_column_is_lost(metric: str) -> None:
    data, model, answers, _ = looked()
    found = look_into(model, data, answers, None, metric, replace(BOUNDS, curves=0, regions=0), 0)
    assert found.importance[0].value > 0 and (found.importance[0].low or 0) > 0


def test_nothing_is_made_when_nothing_is_asked() -> None:
    data, model, answers, _ = looked()
    found = look_into(model, data, answers, None, "accuracy", Bounds(0, 1000, 0, 0, 100, 0.95), 0)
    assert not found.importance and not found.dependence and not found.regions
    assert insight_figures(found, data, answers, "accuracy", 0.95) == {} and len(found.notes) >= 2


@given(st.integers(1, 3000), st.integers(1, 300_000), st.integers(1, 50), st.integers(1000, 1_000_000))
def test_the_budget_is_kept(columns: int, rows: int, shuffles: int, answers: int) -> None:
    c, n, s = within_bounds(columns, rows, Bounds(shuffles, answers, 0, 0, 100, 0.95))
    assert 1 <= c <= columns and 1 <= n <= rows and 1 <= s <= shuffles
    assert c * n * s <= max(answers, 150)


def test_a_region_is_the_model_s_answer() -> None:
    data, model, _, _ = looked()
    region = decision_region(model, data.train, data.contract, ("petal_length", "petal_width"), data.classes, 7)
    asked = typical_row(data.train, data.contract).assign(petal_length=region.x[4], petal_width=region.y[2])
    proba = probabilities(model, asked, data.classes)[0]
    assert region.codes[2, 4] == proba.argmax() and region.chance[2, 4] == pytest.approx(proba.max())
    assert typical_row(data.train, data.contract)["sepal_width"][0] == data.train["sepal_width"].median()


def test_private_rows_are_not_drawn() -> None:
    data, _, _, insight = looked()
    private = replace(data, facts=data.facts | {"show_rows": False})
    for one, drawn in ((data, True), (private, False)):
        panels = plot_regions(insight, one).axes
        assert any(isinstance(c, PathCollection) for axes in panels for c in axes.collections) is drawn


def test_thresholds_agree_with_counting() -> None:
    rng = np.random.default_rng(0)
    chance = rng.random(200)
    yes = rng.random(200) < chance
    answers = Answers(np.where(yes, "y", "n").astype(object), np.stack([1 - chance, chance], 1), ("n", "y"))
    view = threshold_view(answers, "y", [0.0, 0.3, 0.7, 1.1], 0.95)
    assert view["recall"][0] == 1 and view["false_positive_rate"][0] == 1 and view["named"][3] == 0
    assert view["precision"][1] == pytest.approx(yes[chance >= 0.3].mean()) and np.isnan(view["precision"][3])
    assert (view["recall"].diff().dropna() <= 0).all()


def test_confused_pairs_are_counted_in_order() -> None:
    names = ("a", "b", "c")
    said = Answers(np.array(["a", "a", "b", "c"], dtype=object), np.eye(3)[[1, 1, 0, 2]], names)
    pairs = confused_pairs(said, None, 5)
    assert [(p["actual"], p["answered"], p["held_out"], p["held_out_of"]) for p in pairs] == [
        ("a", "b", 2, 2),
        ("b", "a", 1, 1),
    ]
    assert len(confused_pairs(said, None, 1)) == 1


def test_columns_that_go_together_through_others_are_one_group() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=500)
    b = a + rng.normal(0, 0.4, 500)
    table = pd.DataFrame(
        {"a": a, "b": b, "c": b + rng.normal(0, 0.4, 500), "lone": rng.normal(size=500), "gone": np.nan}
    )
    assert columns_alike(table) == [("a", "b", "c")]


def test_a_metric_that_cannot_be_measured_gives_no_importance() -> None:
    data, model, answers, _ = looked()
    one_class = replace(data, frame=data.frame.assign(**{data.contract.target: "setosa"}), split=data.split)
    insight = look_into(model, one_class, answers, None, "roc_auc", BOUNDS, 0)
    assert insight.importance == [] and (insight.rows, insight.shuffles) == (0, 0)
    assert any("ROC" in note and "cannot be measured" in note for note in insight.notes)
    json.dumps(insight.to_dict(data.classes), allow_nan=False)
    assert importance_table(insight, "roc_auc").table is None
    assert "importance" not in insight_figures(insight, one_class, answers, "roc_auc", 0.95)


@pytest.mark.parametrize("known", [0, 2])
def test_a_sparse_column_is_left_out_or_drawn_by_what_is_known(known: int) -> None:
    data, model, answers, _ = looked()
    train = np.flatnonzero((data.split["part"] == "train").to_numpy())
    frame = data.frame.copy()
    frame.loc[train[known:], "petal_width"] = np.nan

    class Filled:
        classes_ = model.classes_

        def predict_proba(self, X: pd.DataFrame) -> Any:
            return model.predict_proba(X.fillna(1.0))

    bounds = Bounds(0, 20_000, 4, 6, 200, 0.95)
    insight = look_into(Filled(), replace(data, frame=frame), answers, None, "accuracy", bounds, 0)
    drawn = {name: values for name, values, _ in insight.dependence}
    if known:
        assert drawn["petal_width"].tolist() == sorted(set(frame["petal_width"].iloc[train[:known]]))
    else:
        assert "petal_width" not in drawn and len(drawn) == 3
        assert all("petal_width" not in region.columns for region in insight.regions)
        assert any("has no value in" in note and "petal_width" in note for note in insight.notes)


def test_importance_draws_whole_groups() -> None:
    rng = np.random.default_rng(0)

    class Sign:
        classes_ = np.array(["n", "y"])

        def predict_proba(self, X: pd.DataFrame) -> Any:
            chance = np.where(X["a"] > 0, 0.9, 0.1)
            return np.column_stack([1 - chance, chance])

    member = np.repeat(np.arange(20), 20)
    side = rng.choice([-1.0, 1.0], 20)
    truth = np.where((side > 0) ^ (rng.random(20) < 0.25), "y", "n")
    asked = (Sign(), pd.DataFrame({"a": side[member]}), pd.Series(truth[member]), [("a",)], ("n", "y"))
    for metric in ("accuracy", "log_loss"):
        rows, groups = (importances(*asked, metric, "", 5, 400, 0.95, 0, units)[0] for units in (None, member))
        wide, narrow = ((one.high or 0) - (one.low or 0) for one in (groups, rows))
        assert rows.value == groups.value and wide > 3 * narrow
