"""Calibration: folds that lose no class, models that round-trip, and a trial that says yes only with reason."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.naive_bayes import GaussianNB

from iris_nb.calibrated import (
    METHODS,
    DealtFolds,
    _decided,
    _tested,
    core_model,
    dealt_rounds,
    fit_pipeline,
    methods_to_try,
    out_of_fold,
    show_trial,
    try_calibration,
)
from iris_nb.candidates import Candidate, candidate_named
from iris_nb.comparison import fold_count
from iris_nb.data import StudyData, load_data
from iris_nb.errors import ParameterError, StageError
from iris_nb.features import FeaturePlan, load_features
from iris_nb.folders import open_run
from iris_nb.modelfile import dump_model, parse_model


@cache
def study() -> tuple[StudyData, FeaturePlan]:
    run = open_run("")
    data = load_data(run)
    return data, load_features(run, data)


@given(st.lists(st.sampled_from("abc"), min_size=6, max_size=40), st.integers(2, 5), st.integers(0, 99))
def test_no_class_is_missing_and_every_row_is_answered_once(labels: list[str], folds: int, seed: int) -> None:
    y = np.array(labels)
    places = np.random.default_rng(seed).integers(0, folds, len(y))
    answered = []
    for train, test in DealtFolds(folds, places).split(y, y):
        assert set(y[train]) == set(y) or not len(test)
        answered += test.tolist()
    assert sorted(answered) == list(range(len(y)))


@pytest.mark.parametrize("name", ["lda", "svm", "knn"])
@pytest.mark.parametrize("method", METHODS)
def test_a_calibrated_model_goes_through_a_file(name: str, method: str) -> None:
    data, features = study()
    pipeline = fit_pipeline(
        candidate_named(name), features.build(), data.train, data.train_labels, None, 0, "none", method
    )
    again = parse_model(dump_model(pipeline))
    assert (again.predict_proba(data.test) == pipeline.predict_proba(data.test)).all()
    assert again["model"].cv.places is None, "which row was in which fold stays out of the file"
    assert type(core_model(again["model"])).__name__ != "CalibratedClassifierCV"


def test_groups_stay_together_out_of_fold() -> None:
    y, groups = pd.Series(list("ab") * 30), np.arange(60) // 4
    for train, test in dealt_rounds(y, groups, None, 3, 0):
        assert not set(groups[train]) & set(groups[test])


def test_in_time_only_earlier_rows_are_fitted_on() -> None:
    times = np.random.default_rng(0).permutation(50) // 2
    rounds = dealt_rounds(pd.Series(["a", "b"] * 25), None, times, 4, 0)
    assert all(times[train].max() < times[test].min() for train, test in rounds) and len(rounds) == 4


def test_out_of_fold_is_repeatable_and_sampled() -> None:
    data, features = study()
    first, second = (out_of_fold(candidate_named("lda"), features, data, "none", "none", 3, 60, 1) for _ in range(2))
    assert (first.answers.proba == second.answers.proba).all() and len(first.places) == 60
    assert (first.answers.actual == data.train_labels.to_numpy()[first.places]).all()


def test_methods_that_make_sense() -> None:
    assert methods_to_try(candidate_named("svm"), 500) == ("temperature",)
    assert methods_to_try(candidate_named("lda"), 5000) == METHODS


@pytest.mark.parametrize(
    ("asked", "weight", "method", "said"),
    [
        ("none", "none", "none", "not asked for"),
        ("sigmoid", "balanced", "sigmoid", "was asked for"),
        ("auto", "balanced", "none", "class weights"),
    ],
)
def test_what_is_decided_without_a_trial(asked: str, weight: str, method: str, said: str) -> None:
    data, features = study()
    trial = try_calibration(candidate_named("lda"), features, data, weight, asked, 1, 1000, 0)
    assert trial.method == method and said in trial.reason and not trial.lines
    assert show_trial(trial).table is None


def test_an_unknown_method_is_one_sentence() -> None:
    data, features = study()
    with pytest.raises(ParameterError, match="did you mean 'sigmoid'"):
        try_calibration(candidate_named("lda"), features, data, "none", "sigmoids", 1, 1000, 0)


class _Naive(Candidate):
    name, title, complexity = "naive", "Naive", 15

    def build(self, seed: int) -> Any:
        return GaussianNB()

    def describe(self) -> str:
        return "Takes every column for news."


def test_calibration_is_applied_where_it_helps() -> None:
    data, features = study()
    rng = np.random.default_rng(0)
    noisy = data.frame.assign(**{c: data.frame[c] + rng.normal(0, 1.2, 150) for c in data.train})
    trial = try_calibration(_Naive(), features, replace(data, frame=noisy), "none", "auto", 3, 1000, 0)
    applied = next(line for line in trial.lines if line["method"] == trial.method)
    assert trial.method != "none" and applied["gain"] > 0 and applied["p"] < 0.05


def batches() -> tuple[StudyData, FeaturePlan]:
    """Four groups, two of each class: a fold's training part has one group of a class."""
    data, features = study()
    frame = data.frame[data.frame["species"] != "virginica"].reset_index(drop=True)
    split = data.split[data.frame["species"].to_numpy() != "virginica"].reset_index(drop=True)
    member = (np.arange(len(frame)) % 2) + 2 * (frame["species"] == "setosa").to_numpy()
    split = split.assign(group=member.astype(np.int64))
    return replace(data, frame=frame, split=split), features


def test_few_groups_leave_calibration_out_and_say_so() -> None:
    data, features = batches()
    trial = try_calibration(candidate_named("lda"), features, data, "none", "auto", 1, 20_000, 0)
    assert trial.method == "none" and "no method could be fitted" in trial.reason
    assert [line["note"] for line in trial.lines] == ["", *["could not be fitted on 2 of 2 folds"] * 2]
    with pytest.raises(StageError, match=r"calibration by sigmoid cannot be learnt.*one group only.*calibrate=none"):
        out_of_fold(candidate_named("lda"), features, data, "none", "sigmoid", 0, 20_000, 0)
    with pytest.raises(StageError, match="one group of training rows only"):
        fold_count(pd.Series(list("aabb")), np.array([0, 0, 1, 1]), 0)


def test_two_scores_are_no_test() -> None:
    lines = _tested(("none", "sigmoid"), [{"none": (1.0, 0.5), "sigmoid": (0.99, 0.49)}] * 2, 1.0)
    method, reason = _decided(lines)
    assert method == "none" and lines[1]["p"] is None and "no test" in reason
