"""Ensembles: honest inside, repeatable, and the same after a model file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from iris_nb import ensembles
from iris_nb.candidates import (
    CANDIDATES,
    Neighbours,
    RareSafeFolds,
    SupportVectors,
    candidates_named,
    fit_model,
    probabilities,
)
from iris_nb.comparison import Question, compare
from iris_nb.ensembles import (
    ENSEMBLES,
    PICKED_NOTE,
    Ensemble,
    class_shares_alike,
    diverse_members,
    double_fault,
    ensemble_candidates,
    ensemble_from,
    member_weights,
    mixture_weights,
    out_of_fold,
    pick_diverse,
)
from iris_nb.errors import ParameterError
from iris_nb.modelfile import ALLOWED_TYPES, dump_model, parse_model

SCALED = StandardScaler().set_output(transform="pandas")
MEMBERS = [candidate for candidate in candidates_named(["lda", "knn", "logistic"]) if candidate.eligible]
KINDS = pytest.mark.parametrize("kind", list(ENSEMBLES))


def table(load: Any) -> tuple[pd.DataFrame, pd.Series]:
    "Scaled features and labels as text."
    bunch = load(as_frame=True)
    return SCALED.fit_transform(bunch.data), pd.Series(np.asarray(bunch.target_names)[bunch.target].astype(object))


IRIS = table(load_iris)
CANCER = table(load_breast_cancer)


def of(kind: str, most: int = 0, members: Any = MEMBERS) -> Ensemble:
    "One ensemble."
    (ensemble,) = ensemble_candidates([kind], members, most)
    return ensemble


@KINDS
@pytest.mark.parametrize("most", [0, 2])
@pytest.mark.parametrize("weight", ["none", "balanced"])
def test_fits_answers_and_survives_a_model_file(kind: str, most: int, weight: str) -> None:
    X, y = (part.iloc[::3] for part in IRIS)
    model = fit_model(of(kind, most), X, y, 0, weight)
    stored = dump_model(model)
    proba = model.predict_proba(X)
    assert proba.shape == (50, 3) and np.allclose(proba.sum(axis=1), 1) and list(model.classes_) == sorted(set(y))
    assert (model.classes_[proba.argmax(axis=1)] == model.predict(X)).all()
    assert (parse_model(stored).predict_proba(X) == proba).all()
    assert dump_model(fit_model(of(kind, most), X, y, 0, weight)) == stored, "the same seed gives the same bits"


@KINDS
def test_two_classes(kind: str) -> None:
    X, y = (part.iloc[:200] for part in CANCER)
    model = fit_model(of(kind), X, y, 0, "none")
    assert parse_model(dump_model(model)).score(X, y) > 0.95


@KINDS
@pytest.mark.parametrize("most", [0, 2])
def test_rare_classes_and_few_rows(kind: str, most: int) -> None:
    X, y = IRIS
    rows = [0, 50, 51, 52, 53, 54, 55, 100, 101]
    model = fit_model(of(kind, most), X.iloc[rows], y.iloc[rows], 0, "balanced")
    assert np.isfinite(model.predict_proba(X)).all() and len(model.classes_) == 3


@KINDS
def test_is_a_proper_estimator(kind: str) -> None:
    X, y = IRIS
    for most in (0, 2):
        built = of(kind, most).build(0)
        again = clone(built).fit(X, y, sample_weight=np.ones(len(y)))
        assert again.score(X, y) > 0.9, "without prepare, as another estimator would fit it"


def test_voting_and_stacking_are_those_of_scikit_learn() -> None:
    X, y = IRIS
    parts = [(member.name, member.build(0)) for member in MEMBERS]
    labels = y.to_numpy().astype(str)
    soft = fit_model(of("soft"), X, y, 0, "none")
    assert type(soft) is VotingClassifier and all(
        type(a) is type(b) for a, (_, b) in zip(soft.estimators_, parts, strict=True)
    )
    theirs = VotingClassifier(parts, voting="soft").fit(X, labels)
    assert (soft.predict_proba(X) == theirs.predict_proba(X)).all()
    stacked = fit_model(of("stacking"), X, y, 0, "none")
    other = StackingClassifier(parts, LogisticRegression(max_iter=2000), cv=RareSafeFolds(5, 0)).fit(X, labels)
    assert type(stacked) is StackingClassifier and (stacked.predict_proba(X) == other.predict_proba(X)).all()


class Short(SupportVectors):
    "Takes few rows."

    row_limit = 40


def test_a_member_keeps_its_limits() -> None:
    X, y = IRIS
    ensemble = of("soft", members=[Short(), *MEMBERS])
    assert ensemble.row_limit == 500_000
    model = fit_model(ensemble, X, y, 0, "balanced")
    remarks = ensemble.remarks(model)
    assert "RBF support vector machine was fitted on 40 rows, its limit" in remarks
    assert "k nearest neighbours takes no class weights" in remarks
    assert not any("Linear" in remark for remark in remarks)


def test_class_weights_reach_the_members() -> None:
    X, y = CANCER
    plain, heavy = (fit_model(of("weighted"), X, y, 0, weight) for weight in ("none", {"malignant": 50.0}))
    assert (heavy.predict(X) == "malignant").sum() > (plain.predict(X) == "malignant").sum()


class Memory(Neighbours):
    "Knows every row by heart."

    name, title = "memory", "Memory"

    def build(self, seed: int) -> Any:
        return super().build(seed).set_params(n_neighbors=1)


def test_weights_are_learnt_out_of_fold() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(200, 3)), columns=list("abc"))
    y = pd.Series(np.where(X["a"] + rng.normal(size=200) > 0, "yes", "no"))
    model = fit_model(of("weighted", members=[Memory(), *MEMBERS[:1]]), X, y, 0, "none")
    assert member_weights(model)["memory"] < 0.2, "in sample it would have all the weight"


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(5, 60), st.integers(0, 10_000))
def test_mixture_weights_are_the_minimum(members: int, rows: int, seed: int) -> None:
    proba = np.random.default_rng(seed).uniform(0.01, 1, size=(rows, members))
    weights = mixture_weights(proba, None)
    assert (weights >= 0).all() and np.isclose(weights.sum(), 1)
    least = -np.log(proba @ weights).mean()
    for other in np.random.default_rng(seed + 1).dirichlet(np.ones(members), size=50):
        assert least <= -np.log(proba @ other).mean() + 1e-6


def test_weights_of_rows_count_like_repeated_rows() -> None:
    proba = np.random.default_rng(0).uniform(0.01, 1, size=(20, 3))
    times = np.arange(20) % 3 + 1
    assert np.allclose(
        mixture_weights(proba, times.astype(float)), mixture_weights(np.repeat(proba, times, axis=0), None)
    )


def test_picking() -> None:
    actual = np.repeat([0, 1], 20)
    right = np.eye(2)[actual]

    def wrong_at(*rows: int) -> Any:
        answer = right * 0.8 + 0.1
        answer[list(rows)] = answer[list(rows)][:, ::-1]
        return answer

    best, twin, other, bad = wrong_at(0, 1), wrong_at(0, 1), wrong_at(20, 2), wrong_at(*range(15))
    assert pick_diverse([bad, best, twin, other], actual, 2) == [1, 3]
    assert pick_diverse([bad, best, twin, other], actual, 4) == [1, 3, 2], "a bad one is not asked"
    assert pick_diverse([bad, best], actual, 3) == [1, 0], "but two there must be"
    assert len(pick_diverse([best, np.full((40, 2), np.nan), other][::2], actual, 2)) == 2


def test_measures() -> None:
    share = class_shares_alike(np.array([0, 0, 0, 2]))
    assert np.isclose(share.sum(), 1) and np.isclose(share[3], 0.5)
    assert double_fault(np.array([True, True]), np.array([True, False]), np.array([0.3, 0.7])) == 0.3


def test_members_of_a_study() -> None:
    X, y = IRIS
    dealt = np.arange(150) % 5
    told = out_of_fold(candidates_named(["lda", "knn"]), SCALED, X, y, dealt, sorted(set(y)), 0, "none")
    assert set(told) == {"majority", "lda", "knn"} and all(np.isfinite(proba).all() for proba in told.values())
    assert {member.name for member in diverse_members(told, CANDIDATES, y, sorted(set(y)))} == {"lda", "knn"}
    told.pop("knn")
    with pytest.raises(ParameterError, match="needs two candidates"):
        diverse_members(told, CANDIDATES, y, sorted(set(y)))
    with pytest.raises(ParameterError, match="at least 2"):
        diverse_members(told, CANDIDATES, y, sorted(set(y)), most=1)


def test_compared_like_any_candidate() -> None:
    X, y = IRIS
    asked = Question(tuple(sorted(set(y))), "", "balanced_accuracy", 3, 1, 0, "none", 0)
    everyone = [*candidates_named(["lda", "knn"]), *ensemble_candidates(["soft"], MEMBERS[:2]), of("stacking", 2)]
    found = compare(everyone, SCALED, X, y, None, asked)
    lines = {line["name"]: line for line in found.facts["leaderboard"]}
    assert lines["soft"]["status"] == "ok" and "picked" in lines["stacking"]["note"]
    assert "flatters" in PICKED_NOTE


def test_recipes_and_names() -> None:
    assert ensemble_candidates([], []) == []
    assert [e.name for e in ensemble_candidates(["stacking", "soft"], MEMBERS)] == ["soft", "stacking"]
    for kind in ENSEMBLES:
        assert ensemble_from(of(kind, 2).recipe).recipe == of(kind, 2).recipe
        assert of(kind).complexity > max(candidate.complexity for candidate in CANDIDATES)
        assert all(member.title in of(kind).describe() for member in MEMBERS)
    with pytest.raises(ParameterError, match="did you mean 'lda'"):
        ensemble_from({"ensemble": "soft", "members": [{"candidate": "ldda"}, {"candidate": "knn"}], "picked": 0})


@pytest.mark.parametrize(
    ("names", "members", "most", "message"),
    [
        (["staking"], MEMBERS, 0, "did you mean 'stacking'"),
        (["everything"], MEMBERS, 0, "ensembles: 'soft', 'weighted', 'blending', 'stacking'"),
        (["soft"], MEMBERS[:1], 0, "at least two different members"),
        (["soft"], CANDIDATES[:1], 0, "there is none"),
        (["soft"], MEMBERS, 1, "at least 2 members, not 1"),
    ],
)
def test_bad_requests(names: list[str], members: Any, most: int, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        ensemble_candidates(names, members, most)


def test_model_files_know_the_types() -> None:
    assert set(ensembles.MODEL_TYPES) <= ALLOWED_TYPES
    assert probabilities(fit_model(of("soft"), *IRIS, 0, "none"), IRIS[0], sorted(set(IRIS[1]))).shape == (150, 3)
