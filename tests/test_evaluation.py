"""Evaluation: held to scikit-learn and scipy on random answers, and to theory on many draws."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import log_loss, roc_auc_score

from iris_nb import evaluation
from iris_nb.errors import ParameterError, RowsError
from iris_nb.evaluation import (
    Answers,
    answer_table,
    calibrate,
    calibration_error,
    caution,
    error_bound,
    evaluate,
    interval,
    judge,
    per_class,
    resample_counts,
    resample_rows,
)
from iris_nb.metrics import METRICS, applicable_metrics, score_all

SIMPLE: dict[str, Any] = {"metric": "accuracy", "positive": "", "resamples": 200, "confidence": 0.95, "bins": 10}


def random_answers(rows: int, classes: int, seed: int, sharp: float = 1.0) -> Answers:
    """Answers that are calibrated: the truth is drawn from the probabilities."""
    rng = np.random.default_rng(seed)
    names = tuple(f"class {i}" for i in range(classes))
    proba = rng.dirichlet(np.full(classes, sharp), rows).round(3)
    proba[:, -1] += 1 - proba.sum(axis=1)
    proba = np.abs(proba)
    actual = np.array([names[rng.choice(classes, p=row / row.sum())] for row in proba], dtype=object)
    return Answers(actual, proba / proba.sum(axis=1, keepdims=True), names)


def baseline_of(answers: Answers) -> Answers:
    """Always the shares of the classes."""
    shares = np.bincount(answers.codes, minlength=len(answers.classes)) / len(answers.codes)
    return Answers(answers.actual, np.tile(shares, (len(answers.codes), 1)), answers.classes)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 40), classes=st.integers(2, 5), seed=st.integers(0, 10**6))
def test_any_answers_are_evaluated_and_written(rows: int, classes: int, seed: int) -> None:
    answers = random_answers(rows, classes, seed)
    result = evaluate(answers, baseline_of(answers), **SIMPLE, seed=seed)
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert json.loads(text)["confusion"]["counts"] == answers.counts.tolist()
    for name, score in result.scores.items():
        assert METRICS[name].lowest - 1e-9 <= score.value <= METRICS[name].highest + 1e-9
        if score.low is not None and score.high is not None:
            assert METRICS[name].lowest - 1e-9 <= score.low <= score.high <= METRICS[name].highest + 1e-9
    assert result.calibration.bins["count"].sum() == rows
    assert 0 <= result.calibration.ece <= 1


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(4, 60), classes=st.integers(2, 4), seed=st.integers(0, 10**6))
def test_the_weighted_area_is_that_of_scikit_learn(rows: int, classes: int, seed: int) -> None:
    answers = random_answers(rows, classes, seed)
    weights = evaluation._row_weights(rows, 3, np.random.default_rng(seed))
    ours = evaluation._Area(answers)(weights)
    for area, weight in zip(ours, weights, strict=True):
        drawn = np.repeat(np.arange(rows), weight.astype(int))
        expected = score_all(answers.actual[drawn], answers.proba[drawn], answers.classes, "")["roc_auc"]
        assert np.isclose(area, expected, equal_nan=True)
        if classes == 2 and np.isfinite(area):
            assert np.isclose(area, roc_auc_score(answers.codes, answers.proba[:, 1], sample_weight=weight))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_area_as_a_mean_has_the_spread_of_the_true_one(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = random_answers(1500, classes, 0)
    exact = resample_rows([answers], 600, 0)["roc_auc"][0]
    monkeypatch.setattr(evaluation, "_MANY", 1)
    linear = resample_rows([answers], 600, 0)["roc_auc"][0]
    assert np.corrcoef(exact, linear)[0, 1] > 0.995
    assert np.isclose(exact.std(), linear.std(), rtol=0.03) and np.isclose(exact.mean(), linear.mean(), atol=1e-3)


@pytest.mark.parametrize("block", [1, 37, 1000])
def test_draws_do_not_depend_on_the_size_of_the_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = random_answers(30, 3, 1)
    whole = resample_counts([answers], "", 50, 7) | resample_rows([answers], 50, 7)
    monkeypatch.setattr(evaluation, "_BLOCK", block)
    pieces = resample_counts([answers], "", 50, 7) | resample_rows([answers], 50, 7)
    assert all(np.allclose(whole[name], pieces[name], equal_nan=True) for name in whole)


@pytest.mark.parametrize("positive", ["", "class 1"])
def test_every_metric_that_applies_has_draws(positive: str) -> None:
    answers = random_answers(30, 3, 2)
    drawn = {*resample_counts([answers], positive, 5, 0), *resample_rows([answers], 5, 0)}
    assert drawn == {metric.name for metric in applicable_metrics(positive)}


def test_drawn_scores_are_those_of_drawn_rows() -> None:
    answers = random_answers(40, 3, 3)
    rng = np.random.default_rng(0)
    picks = rng.integers(40, size=(1000, 40))
    slowly = [score_all(answers.actual[rows], answers.proba[rows], answers.classes, "class 0") for rows in picks]
    fast = resample_counts([answers], "class 0", 6000, 0) | resample_rows([answers], 6000, 0)
    for name, values in fast.items():
        expected = np.array([scores[name] for scores in slowly])
        assert np.isclose(values.mean(), expected.mean(), atol=0.1 * expected.std()), name
        assert np.isclose(values.std(), expected.std(), rtol=0.1), name


def test_models_share_their_draws() -> None:
    answers = random_answers(50, 3, 4)
    draws = resample_counts([answers, answers], "", 100, 0) | resample_rows([answers, answers], 100, 0)
    assert all((values[0] == values[1]).all() for values in draws.values())


def test_the_interval_holds_the_true_accuracy_as_often_as_it_says() -> None:
    truth, hits = 0.8, 0
    rng = np.random.default_rng(0)
    for study in range(200):
        right = rng.random(150) < truth
        proba = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]])
        answers = Answers(np.full(150, "yes", dtype=object), proba, ("yes", "no"))
        low, high = interval(resample_counts([answers], "", 300, study)["accuracy"][0], 0.95)
        assert low is not None and high is not None
        hits += low <= truth <= high
    assert 0.90 <= hits / 200 <= 0.98


def test_the_log_loss_is_that_of_scikit_learn() -> None:
    answers = random_answers(60, 4, 5)
    losses = METRICS["log_loss"].of_rows
    assert losses is not None
    assert np.isclose(losses(answers.codes, answers.proba).mean(), log_loss(answers.codes, answers.proba))


@pytest.mark.parametrize(("errors", "rows"), [(0, 30), (1, 30), (3, 36), (30, 200), (29, 30), (30, 30), (0, 1)])
def test_the_error_bound_is_that_of_scipy(errors: int, rows: int) -> None:
    exact = binomtest(errors, rows, alternative="less").proportion_ci(0.95, method="exact").high
    assert np.isclose(error_bound(errors, rows, 0.95), exact)


def test_no_error_in_thirty_rows_still_allows_nearly_a_tenth() -> None:
    assert "no error in 30 held-out rows still allows an error rate of up to 9.5 %" in caution(
        np.diag([10, 10, 10]), 0.95
    )


def test_a_perfect_model_is_told_to_be_modest() -> None:
    perfect = Answers(np.repeat(["a", "b"], 5).astype(object), np.repeat(np.eye(2), 5, axis=0), ("a", "b"))
    result = evaluate(perfect, baseline_of(perfect), **SIMPLE, seed=0)
    assert result.gate.passed and result.scores["accuracy"].low == 1
    assert any("no error in 10" in reason for reason in result.gate.reasons)
    assert any("points" in note for note in result.notes)


def test_the_baseline_does_not_pass_against_itself() -> None:
    baseline = baseline_of(random_answers(60, 3, 6))
    for metric in METRICS.values():
        if not metric.needs_positive:
            gate = evaluate(baseline, baseline, **{**SIMPLE, "metric": metric.name}, seed=0).gate
            assert not gate.passed and gate.difference == 0 and "cannot be told" in gate.reasons[0]


def test_guessing_does_not_pass_often() -> None:
    passed = 0
    for study in range(60):
        rng = np.random.default_rng(study)
        proba = rng.dirichlet(np.ones(2), 40)
        answers = Answers(rng.choice(np.array(["a", "b"], dtype=object), 40), proba, ("a", "b"))
        passed += evaluate(
            answers, baseline_of(answers), **{**SIMPLE, "metric": "balanced_accuracy"}, seed=0
        ).gate.passed
    assert passed <= 6


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
def test_a_metric_that_runs_downwards_is_turned(metric: str) -> None:
    answers = random_answers(200, 3, 7, sharp=0.3)
    gate = evaluate(answers, baseline_of(answers), **{**SIMPLE, "metric": metric}, seed=0).gate
    assert gate.passed and gate.model is not None and gate.baseline is not None and gate.difference is not None
    assert gate.model < gate.baseline and gate.difference > 0


def test_one_class_held_out_is_not_enough_for_an_area() -> None:
    one = Answers(np.full(6, "a", dtype=object), np.full((6, 2), 0.5), ("a", "b"))
    result = evaluate(one, one, **{**SIMPLE, "metric": "roc_auc"}, seed=0)
    assert not result.gate.passed and result.gate.reasons[0].startswith("insufficient data")
    assert "roc_auc" not in result.scores and any("class 'b'" in note for note in result.notes)
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    table = per_class(np.array([[3, 0], [2, 0]]), ["a", "b"])
    assert np.isnan(table.precision[1]) and table.recall[1] == 0 and table.f1[1] == 0


def test_calibrated_answers_have_a_small_error_and_overconfident_ones_a_large() -> None:
    answers = random_answers(20_000, 2, 8)
    bold = np.where(answers.proba[:, :1] > 0.5, [[0.99, 0.01]], [[0.01, 0.99]])
    assert calibrate(answers, 10).ece < 0.02
    assert calibrate(Answers(answers.actual, bold, answers.classes), 10).ece > 0.15


def test_bins_hold_their_upper_edge() -> None:
    proba = np.array([[0.7, 0.3], [0.8, 0.2], [1.0, 0.0], [0.5, 0.5]])
    bins = calibrate(Answers(np.full(4, "a", dtype=object), proba, ("a", "b")), 10).bins
    assert bins.loc[bins["count"] > 0, "high"].round(1).tolist() == [0.5, 0.7, 0.8, 1.0]


@pytest.mark.parametrize(
    ("actual", "proba"),
    [
        ([], np.empty((0, 2))),
        (["a"], np.array([[0.5, 0.3, 0.2]])),
        (["a"], np.array([[0.5, 0.2]])),
        (["a"], np.array([[np.nan, 1.0]])),
        (["c"], np.array([[0.5, 0.5]])),
    ],
)
def test_answers_that_make_no_sense_are_refused(actual: list[str], proba: np.ndarray) -> None:
    with pytest.raises(RowsError):
        Answers(np.array(actual, dtype=object), proba, ("a", "b"))


def test_an_unknown_metric_is_refused_with_a_hint() -> None:
    answers = random_answers(10, 2, 9)
    with pytest.raises(ParameterError, match="did you mean 'accuracy'"):
        evaluate(answers, answers, **{**SIMPLE, "metric": "acuracy"}, seed=0)


def test_a_gate_says_what_it_found() -> None:
    gate = judge("accuracy", 0.9, 0.5, np.array([[0.9, 0.8, 0.95], [0.5, 0.5, 0.5]]), 0.95)
    assert gate.passed and gate.low is not None and gate.low > 0.29
    assert "0.900 for the model and 0.500 for the majority baseline" in gate.reasons[0]


def test_the_table_of_answers_keeps_rows_and_classes() -> None:
    answers = random_answers(5, 3, 10)
    table = answer_table(np.array([4, 8, 15, 16, 23]), answers)
    assert list(table) == ["row", "actual", "predicted", "p:class 0", "p:class 1", "p:class 2"]
    assert table["row"].tolist() == [4, 8, 15, 16, 23] and (table["actual"] == answers.actual).all()


def test_two_hundred_thousand_rows_fit_into_little_memory() -> None:
    rng = np.random.default_rng(0)
    chance = rng.random(200_000)
    actual = np.where(rng.random(200_000) < chance, "yes", "no").astype(object)
    answers = Answers(actual, np.column_stack([chance, 1 - chance]), ("yes", "no"))
    baseline = baseline_of(answers)
    tracemalloc.start()
    result = evaluate(answers, baseline, **{**SIMPLE, "resamples": 100}, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6 and result.gate.passed


def test_groups_widen_what_rows_alone_would_narrow() -> None:
    """Twenty groups of ten equal rows know as much as twenty rows: every interval is about √10 as wide."""
    one = random_answers(20, 3, 3)
    ten = Answers(np.repeat(one.actual, 10), np.repeat(one.proba, 10, axis=0), one.classes)
    groups = np.repeat(np.arange(20) * 7 - 5, 10)
    alone, together = (
        evaluate(ten, baseline_of(ten), **SIMPLE | {"resamples": 4000}, seed=0, groups=given)
        for given in (None, groups)
    )
    truth = evaluate(one, baseline_of(one), **SIMPLE | {"resamples": 4000}, seed=0)
    for name in ("accuracy", "macro_f1", "log_loss", "brier", "roc_auc"):
        widths = [result.scores[name].high - result.scores[name].low for result in (alone, together, truth)]
        assert widths[1] > 2 * widths[0] and widths[1] == pytest.approx(widths[2], rel=0.2), name
    assert together.error.high - together.error.low > 2 * (alone.error.high - alone.error.low)
    assert "rows of one group depend" in together.gate.reasons[-1]
    assert "rows of one group depend" not in alone.gate.reasons[-1]


@given(rows=st.integers(2, 40), classes=st.integers(2, 4), seed=st.integers(0, 10**6))
@settings(max_examples=25)
def test_groups_of_one_row_each_are_rows(rows: int, classes: int, seed: int) -> None:
    answers = random_answers(rows, classes, seed)
    alone, together = (resample_rows([answers], 50, seed, groups) for groups in (None, np.arange(rows)))
    assert all(np.allclose(alone[name], together[name], equal_nan=True) for name in alone)


def test_groups_that_are_right_together_do_not_condemn_a_calibrated_model() -> None:
    rng, condemned, member = np.random.default_rng(1), 0, np.repeat(np.arange(20), 10)
    for sample in range(60):
        sure = rng.uniform(0.55, 0.95, 20)
        truth = np.where(rng.random(20) < sure, "a", "b").astype(object)[member]
        answers = Answers(truth, np.stack([sure, 1 - sure], axis=1)[member], ("a", "b"))
        error = calibration_error(answers, 10, 200, 0.95, sample, member)
        condemned += error.value > error.chance
    assert condemned <= 8


def test_too_sure_a_model_is_found_out_with_groups_too() -> None:
    rng, member = np.random.default_rng(0), np.repeat(np.arange(60), 10)
    truth = np.where(rng.random(600) < 0.6, "a", "b").astype(object)
    answers = Answers(truth, np.tile([0.95, 0.05], (600, 1)), ("a", "b"))
    error = calibration_error(answers, 10, 200, 0.95, 0, member)
    assert error.value > error.chance
