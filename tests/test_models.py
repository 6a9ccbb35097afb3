"""Candidates, metrics, comparison and choice: every candidate is held to the same promises."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as theirs
import skops.io
from conftest import ROOT, read
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.feature_selection import SelectKBest
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from iris_nb import comparison
from iris_nb.candidates import (
    CANDIDATES,
    MODEL_TYPES,
    Adjusted,
    Candidate,
    RareSafeFolds,
    candidate_from,
    candidate_named,
    candidates_named,
    fit_candidate,
    probabilities,
    row_weights,
    rows_to_fit,
    stratified_sample,
)
from iris_nb.comparison import (
    Question,
    compare,
    corrected_interval,
    deal_folds,
    deal_in_time,
    fold_count,
    fold_rows,
    most_in_time,
)
from iris_nb.errors import ParameterError, StageError
from iris_nb.evaluation import Answers, evaluate
from iris_nb.folders import open_run
from iris_nb.metrics import METRICS, score_all
from iris_nb.models import (
    Choice,
    class_weight_of,
    leaderboard_table,
    load_models,
    plot_chances,
    plot_leaderboard,
    plot_pairs,
    save_models,
)
from iris_nb.parameters import Parameter, check_value, read_parameters
from iris_nb.training import judged_with
from iris_nb.workers import map_folds

SCALED = StandardScaler().set_output(transform="pandas")
EVERY = pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)


def table(load: Any) -> tuple[pd.DataFrame, pd.Series, tuple[str, ...]]:
    "A bundled table: features, labels as text, classes."
    bunch = load(as_frame=True)
    labels = pd.Series(np.asarray(bunch.target_names)[bunch.target].astype(object))
    return bunch.data, labels, tuple(sorted(set(labels)))


IRIS = table(load_iris)


def ask(classes: tuple[str, ...] = IRIS[2], **terms: Any) -> Question:
    "The usual terms, with some changed."
    usual = {
        "classes": classes,
        "positive": "",
        "metric": "balanced_accuracy",
        "folds": 0,
        "repeats": 1,
        "seed": 0,
        "class_weight": "none",
        "compare_rows": 0,
    }
    return Question(**(usual | terms))


# --- every candidate -------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("class_weight", ["none", "balanced", {"setosa": 3.0}], ids=["none", "balanced", "mapping"])
def test_same_seed_gives_the_same_bits(candidate: Candidate, class_weight: Any) -> None:
    X, y, classes = IRIS
    first, second = (
        probabilities(fit_candidate(candidate, SCALED, X, y, 3, class_weight), X, classes) for _ in range(2)
    )
    assert first.tobytes() == second.tobytes()
    assert np.allclose(first.sum(1), 1) and (first >= 0).all()


@EVERY
def test_converges_without_a_warning_on_the_bundled_tables(candidate: Candidate) -> None:
    for load in (load_iris, load_wine, load_breast_cancer):
        X, y, classes = table(load)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = fit_candidate(candidate, SCALED, X, y, 0, "none")
            right = np.array(classes)[probabilities(model, X, classes).argmax(1)] == y
        assert not candidate.remarks(model["model"])
        assert right.mean() > 0.9 or not candidate.eligible


@EVERY
@pytest.mark.parametrize("shape", ["tiny class", "two rows each", "constant column", "collinear", "wide"])
def test_survives_awkward_tables(candidate: Candidate, shape: str) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 3)), columns=list("abc"))
    y = pd.Series(np.where(X["a"] > 0, "yes", "no").astype(object))
    if shape == "tiny class":
        y[0] = "rare"
        if candidate.name == "qda":
            with pytest.raises(StageError, match="'rare' has one row"):
                fit_candidate(candidate, SCALED, X, y, 0, "none")
            return
    elif shape == "two rows each":
        X, y = X.iloc[:4], pd.Series(["no", "no", "yes", "yes"])
    elif shape == "constant column":
        X = X.assign(constant=1.0)
    elif shape == "collinear":
        X = X.assign(sum=X["a"] + X["b"], again=X["a"])
    else:
        X = pd.DataFrame(rng.normal(size=(40, 80))).rename(columns=str)
    classes = tuple(sorted(set(y)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for class_weight in ("none", "balanced"):
            proba = probabilities(fit_candidate(candidate, SCALED, X, y, 0, class_weight), X, classes)
    assert np.isfinite(proba).all() and np.allclose(proba.sum(1), 1)


@EVERY
def test_can_be_stored_without_pickle(candidate: Candidate) -> None:
    X, y, classes = IRIS
    model = fit_candidate(candidate, SCALED, X, y, 0, "balanced")
    stored = skops.io.dumps(model)
    unknown = skops.io.get_untrusted_types(data=stored)
    ours = {name for name in unknown if name.startswith("iris_nb.")}
    assert ours <= set(MODEL_TYPES)
    assert all(name.startswith(("iris_nb.", "numpy.", "sklearn.")) for name in unknown)
    again = skops.io.loads(stored, trusted=unknown)
    assert (probabilities(again, X, classes) == probabilities(model, X, classes)).all()


@EVERY
def test_weight_moves_answers_towards_a_class_or_is_said_not_to(candidate: Candidate) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": np.r_[rng.normal(0, 1, 160), rng.normal(1, 1, 40)]})
    y = pd.Series(["common"] * 160 + ["rare"] * 40)
    plain, heavy = (
        probabilities(fit_candidate(candidate, SCALED, X, y, 0, weight), X, ("common", "rare"))[:, 1].mean()
        for weight in ("none", {"rare": 8.0})
    )
    assert heavy > plain + 0.05 if candidate.takes_weights else heavy == plain


def test_candidates_are_named_and_ordered() -> None:
    assert len({candidate.name for candidate in CANDIDATES}) == len(CANDIDATES)
    assert all(a.complexity < b.complexity for a, b in pairwise(CANDIDATES))
    assert [candidate.name for candidate in CANDIDATES if not candidate.eligible] == ["majority"]


def stage_parameters() -> list[Parameter]:
    cells = read(ROOT / "nbs" / "30_models.ipynb")["cells"]
    return read_parameters(next(c["source"] for c in cells if "parameters" in c["metadata"].get("tags", [])))


def test_parameters_cell_allows_what_the_registries_hold() -> None:
    allowed = {parameter.name: parameter.allowed.split("|") for parameter in stage_parameters()}
    assert allowed["candidates"] == [candidate.name for candidate in CANDIDATES]
    assert allowed["metric"] == list(METRICS)


@pytest.mark.parametrize(("name", "value"), [("control_rounds", 4), ("curve_points", 1), ("seeds", 1)])
def test_too_few_repetitions_are_refused_before_anything_starts(name: str, value: int) -> None:
    declared = {p.name: p for p in stage_parameters()}
    with pytest.raises(ParameterError, match=f"'{name}' is {value}; allowed is 0 or {value + 1} to"):
        check_value(declared[name], value)
    assert check_value(declared[name], 0) == 0 and check_value(declared[name], value + 1) == value + 1


def test_unknown_candidates_are_refused_with_the_nearest() -> None:
    with pytest.raises(ParameterError, match="did you mean 'logistic'"):
        candidates_named(["logistik"])
    with pytest.raises(ParameterError, match="name at least one other"):
        candidates_named(["majority"])


# --- sampling and folds ----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=8), st.integers(1, 1500), st.integers(0, 2**32 - 1))
def test_a_subsample_has_its_size_and_every_class(counts: list[int], size: int, seed: int) -> None:
    y = np.repeat([f"c{i}" for i in range(len(counts))], counts)
    drawn = stratified_sample(y, size, seed)
    assert len(drawn) == len(set(drawn.tolist())) and (np.diff(drawn) > 0).all()
    assert len(drawn) == min(size, len(y)) or size < len(counts)
    assert len(set(y[drawn])) == len(counts)


def test_a_large_class_stays_in_proportion() -> None:
    y = np.repeat(["a", "b", "c"], [70_000, 29_990, 10])
    drawn = Counter(y[stratified_sample(y, 1000, 0)].tolist())
    assert drawn["c"] == 10 and abs(drawn["a"] - 700) <= 10 and abs(drawn["b"] - 300) <= 10


def test_row_limits_are_kept() -> None:
    y = pd.Series(np.repeat(["a", "b"], 6_000))
    rows = rows_to_fit(candidate_named("svm"), y, 0)
    assert rows is not None and len(rows) == 5_000 and rows_to_fit(candidate_named("lda"), y, 0) is None


def test_rare_classes_are_in_every_training_part() -> None:
    y = np.array(["rare", *["a"] * 6, *["b"] * 6, "two", "two"])
    tested = []
    for train, test in RareSafeFolds(3, 0).split(y, y):
        assert set(y[train]) == set(y)
        tested += test.tolist()
    assert sorted(tested) == list(range(len(y)))


def test_folds_are_shared_stratified_and_grouped() -> None:
    y = pd.Series(np.repeat(["a", "b", "c"], [40, 30, 20]))
    groups = np.arange(90)
    groups[1], groups[45], groups[89] = 0, 44, 88
    for repeat in deal_folds(y, groups, 5, 3, 7):
        assert repeat[0] == repeat[1] and repeat[44] == repeat[45] and repeat[88] == repeat[89]
        assert all(
            abs(c - n / 5) <= 2
            for n, label in ((40, "a"), (30, "b"), (20, "c"))
            for c in np.bincount(repeat[y == label])
        )
    plain = deal_folds(y, None, 5, 3, 7)
    assert (plain == deal_folds(y, None, 5, 3, 7)).all() and (plain[0] != plain[1]).any()
    assert (plain[1] != deal_folds(y, None, 5, 1, 8)[0]).any()


def test_fold_counts_follow_the_smallest_class() -> None:
    y = pd.Series(["a"] * 9 + ["b"] * 3)
    assert fold_count(y, None, 0) == 3 and fold_count(y, None, 2) == 2
    with pytest.raises(ParameterError, match="'b' has 3 training rows; the largest possible is 3"):
        fold_count(y, None, 4)
    with pytest.raises(ParameterError, match="largest possible is 2"):
        fold_count(y, np.r_[np.arange(9), 10, 10, 11], 3)
    assert fold_count(pd.Series(["a", "a", "b"]), None, 0) == 2
    with pytest.raises(StageError, match="one training row only"):
        fold_count(pd.Series(["a", "b"]), None, 0)
    with pytest.raises(StageError, match="one group of training rows only"):
        fold_count(pd.Series(["a", "a", "b", "b"]), np.array([0, 0, 1, 1]), 0)


def test_the_largest_number_of_folds_in_time_is_one_that_works() -> None:
    for times in ([0] * 7 + [1, 2, 3], [0, 1, 1, 1, 1, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2], [0, 0, 0, 1]):
        most = most_in_time(np.array(times), 5)
        with pytest.raises(ParameterError, match=f"folds={most}$" if most else "compare without times$"):
            deal_in_time(np.array(times), 6)
        assert most != 1 and (not most or deal_in_time(np.array(times), most).max() == most - 1)


# --- metrics ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:A single label")
@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 10_000))
def test_scores_agree_with_scikit_learn(k: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, proba = rng.integers(0, k, rows), rng.dirichlet(np.full(k, 0.5), rows).round(2) + 1e-9
    proba /= proba.sum(1, keepdims=True)
    names = [f"c{i}" for i in range(k)]
    ours, called = score_all([names[i] for i in y], proba, names, names[0]), proba.argmax(1)
    recalls = theirs.recall_score(y, called, labels=np.unique(y), average=None, zero_division=0)
    expected = {
        "accuracy": theirs.accuracy_score(y, called),
        "balanced_accuracy": recalls.mean(),
        "macro_f1": theirs.f1_score(y, called, average="macro", zero_division=0),
        "matthews": theirs.matthews_corrcoef(y, called),
        "log_loss": theirs.log_loss(y, proba, labels=range(k)),
        "precision": theirs.precision_score(y, called, labels=[0], average="macro", zero_division=0),
        "recall": theirs.recall_score(y, called, labels=[0], average="macro", zero_division=0),
    }
    assert {name: round(ours[name], 9) for name in expected} == {name: round(v, 9) for name, v in expected.items()}


def test_roc_area_is_missing_where_there_is_nothing_to_tell_apart() -> None:
    assert np.isnan(score_all(["a", "a"], np.array([[0.9, 0.1], [0.8, 0.2]]), ["a", "b"], "")["roc_auc"])


# --- the comparison --------------------------------------------------------------------------------------------------


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, _ = IRIS
    monkeypatch.setattr("iris_nb.comparison.map_folds", partial(map_folds, where="here"))
    alone = compare(CANDIDATES, SCALED, X, y, None, ask(folds=2))
    monkeypatch.setattr("iris_nb.comparison.map_folds", partial(map_folds, where="processes"))
    monkeypatch.setenv("IRIS_NB_THREADS", "3")
    found = compare(CANDIDATES, SCALED, X, y, None, ask(folds=2))
    assert found.scores.equals(alone.scores) and found.facts == alone.facts
    assert (found.dealt == alone.dealt).all()
    assert len(found.seconds) == len(found.scores) and not {"seconds_fit"} & set(found.scores)


class Seen(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    "A transformer that writes down the rows it is fitted on."

    fits: list[frozenset[float]] = []  # noqa: RUF012

    def fit(self, X: pd.DataFrame, y: Any = None) -> Seen:
        Seen.fits.append(frozenset(X["number"]))
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        return X

    def __sklearn_is_fitted__(self) -> bool:
        return True


def test_features_are_fitted_inside_each_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iris_nb.workers.core_count", lambda: 1)  # what a helper process fits is not seen here
    X, y, _ = IRIS
    Seen.fits.clear()
    found = compare(candidates_named(["lda", "knn"]), Seen(), X.assign(number=np.arange(150.0)), y, None, ask())
    training = {frozenset(np.flatnonzero(found.dealt[0] != fold).astype(float)) for fold in range(5)}
    assert set(Seen.fits) == training and len(Seen.fits) == 5


class Fixed(Candidate):
    "A candidate for the rule's sake: discriminant analysis under another name, or one that cannot be fitted."

    def __init__(self, name: str, complexity: int, works: bool = True) -> None:
        self.name, self.title, self.complexity, self.works = name, name.upper(), complexity, works  # type: ignore[misc]

    def build(self, seed: int) -> Any:
        if not self.works:
            raise ValueError("singular\n  matrix")
        return candidate_named("lda").build(seed)

    def describe(self) -> str:
        return ""


def test_of_equals_the_least_complex_then_the_first_name() -> None:
    X, y, _ = IRIS
    found = compare([Fixed("b", 2), Fixed("a", 2), Fixed("c", 1)], SCALED, X, y, None, ask())
    assert [line["name"] for line in found.facts["leaderboard"]] == ["c", "a", "b"] and found.chosen == "c"
    assert found.facts["statistics"]["tie_group"] == ["c", "a", "b"]
    assert found.facts["reason"].startswith("C, A and B cannot be told apart on 150 rows; C was chosen as the simplest")


def test_a_failing_candidate_is_reported_and_the_others_go_on() -> None:
    X, y, _ = IRIS
    found = compare([Fixed("bad", 0, works=False), candidate_named("knn")], SCALED, X, y, None, ask())
    last = found.facts["leaderboard"][-1]
    assert (last["status"], last["note"], last["mean"]) == ("failed", "ValueError: singular matrix", None)
    assert found.chosen == "knn" and set(found.scores["name"]) == {"knn"}
    assert "failed: ValueError" in leaderboard_table(found.facts)["note"].iloc[-1]
    plot_leaderboard(found)
    with pytest.raises(StageError, match=r"no candidate could be fitted.*singular"):
        compare([Fixed("bad", 0, works=False), candidate_named("majority")], SCALED, X, y, None, ask())


def test_the_baseline_is_never_chosen_even_if_nothing_beats_it() -> None:
    rng = np.random.default_rng(1)
    X, y = pd.DataFrame(rng.normal(size=(60, 2)), columns=["a", "b"]), pd.Series(["x"] * 50 + ["y"] * 10)
    found = compare(candidates_named(["boosting"]), SCALED, X, y, None, ask(("x", "y"), metric="accuracy"))
    assert found.facts["leaderboard"][0]["name"] == "majority" and found.chosen == "boosting"
    assert found.facts["beats_baseline"] is False
    assert "No candidate is shown to beat the majority baseline, 0.833" in found.facts["baseline_reason"]
    assert found.facts["reason"].endswith(found.facts["baseline_reason"])


def test_a_loss_ranks_the_smallest_first() -> None:
    X, y, _ = IRIS
    found = compare(candidates_named(["lda", "logistic"]), SCALED, X, y, None, ask(metric="log_loss"))
    means = [line["mean"] for line in found.facts["leaderboard"]]
    assert means == sorted(means) and found.facts["leaderboard"][-1]["name"] == "majority"
    assert not found.facts["greater_is_better"] and found.facts["leaderboard"][0]["low"] >= 0


def test_a_large_table_is_subsampled_and_it_is_said() -> None:
    X, y, classes = table(load_breast_cancer)
    found = compare(candidates_named(["lda"]), SCALED, X, y, None, ask(classes, compare_rows=200))
    assert found.facts["rows_compared"] == 200 and found.facts["rows_train"] == 569 and found.dealt.shape == (1, 200)
    assert "200 of 569 training rows" in found.facts["notes"][0]


class Guess(Fixed):
    "A candidate that is right as often as told: it reads the label from a column and forgets it for some rows."

    def __init__(self, name: str, complexity: int, forgets: int) -> None:
        super().__init__(name, complexity)
        self.forgets = forgets

    def build(self, seed: int) -> Any:
        return Reader(self.forgets)


class Reader(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    "Reads the label from the column `code`, but not where `luck` is below `forgets`."

    def __init__(self, forgets: int = 0) -> None:
        self.forgets = forgets

    def fit(self, X: pd.DataFrame, y: Any, sample_weight: Any = None) -> Reader:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: pd.DataFrame) -> Any:
        codes = np.where(X["luck"] < self.forgets, 1 - X["code"], X["code"]).astype(int)
        return np.eye(2)[codes] * 0.8 + 0.1


def readable() -> tuple[pd.DataFrame, pd.Series]:
    "Two hundred rows whose label can be read."
    rng = np.random.default_rng(0)
    code = np.tile([0, 1], 100)
    return pd.DataFrame({"code": code, "luck": rng.permutation(200) // 2}), pd.Series(np.where(code, "y", "x"))


PLAIN = FunctionTransformer()


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_the_rule_chooses_the_simplest_of_the_tie_group(metric: str) -> None:
    X, y = readable()
    rivals = [Guess("simple", 1, 40), Guess("near", 2, 3), Guess("best", 3, 1), candidate_named("majority")]
    found = compare(rivals, PLAIN, X, y, None, ask(("x", "y"), metric=metric, repeats=3))
    facts, weighed = found.facts, found.facts["statistics"]
    assert weighed["best"] == "best" and weighed["tie_group"] == ["near", "best"] and found.chosen == "near"
    assert [line["name"] for line in facts["leaderboard"]][:2] == ["best", "near"]
    assert facts["reason"].startswith("NEAR and BEST cannot be told apart on 200 rows; NEAR was chosen as the simplest")
    assert "the best mean is that of BEST" in facts["reason"] and "It beats the majority baseline" in facts["reason"]
    worse = {line["name"]: line["p_holm"] for line in weighed["against_best"]}
    assert worse["simple"] < 0.05 < worse["near"] and all(line["difference"] >= 0 for line in weighed["against_best"])
    assert {line["name"] for line in facts["leaderboard"] if line["tied"]} == {"near", "best"} and facts[
        "beats_baseline"
    ]
    json.dumps(facts, allow_nan=False)


def test_one_that_is_shown_to_be_best_is_chosen_however_complex() -> None:
    X, y = readable()
    found = compare(
        [Guess("a", 1, 45), Guess("b", 2, 45), Guess("c", 9, 0)], PLAIN, X, y, None, ask(("x", "y"), repeats=2)
    )
    assert found.chosen == "c" and found.facts["statistics"]["tie_group"] == ["c"]
    assert found.facts["reason"].startswith("C was chosen: each of the 2 other candidates is shown to be worse")
    assert found.facts["beats_baseline"] is None and "No baseline was compared" in found.facts["reason"]


def test_two_scores_are_not_tested_and_it_is_said() -> None:
    X, y = readable()
    found = compare([Guess("a", 1, 45), Guess("b", 2, 0)], PLAIN, X, y, None, ask(("x", "y"), folds=2))
    weighed = found.facts["statistics"]
    assert found.chosen == "b" and not weighed["tested"] and weighed["against_best"][0]["p_holm"] is None
    assert "no test is possible with 2 scores" in found.facts["reason"]
    assert leaderboard_table(found.facts)["p"].tolist() == ["–", "–"]
    assert isinstance(plot_chances(found.facts), str)


def scored(asked: Question, **scores: list[float]) -> dict[str, Any]:
    "The facts of a comparison whose scores are given: a list for each candidate."
    answers = [
        comparison._Answer(name, 0, fold, 120, (120, 30), {asked.metric: value})
        for name, values in scores.items()
        for fold, value in enumerate(values)
    ]
    folds = max(len(values) for values in scores.values())
    return comparison._facts([candidate_named(name) for name in scores], answers, folds, 150, asked)


TWO = ask(("a", "b"))
NOISY = [0.52, 0.62, 0.98, 0.95, 0.93]


def test_the_chosen_one_is_what_must_beat_the_baseline() -> None:
    "The best mean may be too noisy to show anything, and the chosen one not."
    facts = scored(TWO, majority=[0.5] * 5, lda=[0.70, 0.71, 0.69, 0.70, 0.71], forest=NOISY)
    assert facts["chosen"] == "lda" and facts["statistics"]["best"] == "forest" and facts["beats_baseline"]
    assert facts["baseline_reason"] == "It beats the majority baseline, 0.500 (p < 0.001 after Holm)."
    facts = scored(TWO, majority=[0.5] * 5, lda=NOISY, forest=[0.81, 0.82, 0.83, 0.82, 0.81])
    assert facts["chosen"] == "lda" and facts["beats_baseline"] is False
    said = r"That the chosen one beats .* 0.500 is not shown \(p = 0.052 after Holm\); it is for random forest\."
    assert re.fullmatch(said, facts["baseline_reason"])


def test_a_gate_is_shut_in_words_that_are_true() -> None:
    answers = Answers(np.array(["a", "b"] * 20), np.array([[0.9, 0.1], [0.1, 0.9]] * 20), ("a", "b"))
    blind = Answers(answers.actual, np.full((40, 2), 0.5), ("a", "b"))
    held_out = evaluate(answers, blind, "balanced_accuracy", "", 50, 0.95, 10, 0)
    better = scored(TWO, majority=[0.5] * 5, lda=[0.70, 0.71, 0.69, 0.70, 0.71], forest=NOISY)
    noisy, two = (scored(TWO, majority=[0.5] * len(v), lda=v) for v in (NOISY[:4], [0.5, 0.48]))
    assert judged_with(held_out, Choice(better)).gate.passed
    shut = [judged_with(held_out, Choice(facts)).gate for facts in (noisy, two)]
    assert not any(gate.passed for gate in shut)
    assert "is not shown to beat the majority baseline by the corrected test" in shut[0].reasons[0]
    assert "4 scores a candidate show only large differences" in shut[0].reasons[0]
    assert "has no better mean than the majority baseline, so" in shut[1].reasons[0]
    assert "test" not in shut[1].reasons[0] and "No candidate has a better mean" in two["reason"]


def test_candidates_are_told_from_the_best_and_not_from_each_other() -> None:
    lda, logistic = [0.70, 0.71, 0.72, 0.70, 0.71], [0.74, 0.75, 0.765, 0.742, 0.75]
    facts = scored(TWO, majority=[0.5] * 5, lda=lda, logistic=logistic, forest=[0.62, 0.62, 0.98, 0.95, 0.63])
    assert facts["statistics"]["tie_group"] == ["lda", "logistic", "forest"]
    assert facts["reason"].startswith(
        "Linear discriminant analysis, logistic regression and random forest cannot be told from the best of them, "
        "random forest, on 150 rows; linear discriminant analysis was chosen as the simplest of them."
    )


def test_folds_that_could_not_be_measured_do_not_count() -> None:
    nan = float("nan")
    few = scored(
        TWO, majority=[0.5, 0.5, nan, nan, nan], lda=[0.7, 0.7, nan, nan, nan], forest=[0.8, 0.9, nan, nan, nan]
    )
    assert few["chosen"] == "forest" and not few["statistics"]["tested"] and few["statistics"]["scores"] == 2
    assert "no test is possible with 2 scores" in few["reason"] and "over 2 of 5 folds" in few["reason"]
    one = scored(TWO, majority=[0.5, nan], lda=[0.7, nan], forest=[0.8, nan])
    assert "no test is possible with 1 score," in one["reason"]


def test_everything_is_drawn_for_one_and_for_many() -> None:
    X, y = readable()
    many = [Guess(f"c{i}", i, 3 * i) for i in range(16)]
    found = compare(many, PLAIN, X, y, None, ask(("x", "y")))
    assert all(drawn.axes for drawn in (plot_leaderboard(found), plot_chances(found.facts), plot_pairs(found.facts)))  # type: ignore[union-attr]
    found = compare(many[:1], PLAIN, X, y, None, ask(("x", "y")))
    assert plot_leaderboard(found).axes
    assert isinstance(plot_chances(found.facts), str) and isinstance(plot_pairs(found.facts), str)
    assert "no other candidate besides the baseline" in found.facts["reason"]


def test_rows_are_tested_by_models_of_earlier_rows() -> None:
    times = np.random.default_rng(3).integers(0, 40, 120)
    deal = deal_folds(pd.Series(["a", "b"] * 60), None, 4, 7, 0, times)
    assert deal.shape == (1, 120) and set(deal[0]) == {-1, 0, 1, 2, 3}
    for fold in range(4):
        train, test = fold_rows(deal[0], fold, None)
        assert times[train].max() < times[test].min()
    groups = np.arange(120) // 3
    train, test = fold_rows(deal[0], 2, groups)
    assert not set(groups[train]) & set(groups[test])
    X, y, _ = IRIS
    shuffled = np.random.default_rng(0).permutation(150)
    found = compare(candidates_named(["lda", "knn"]), SCALED, X, y, None, ask(repeats=5), shuffled)
    assert found.facts["repeats"] == 1 and any("earlier rows only" in note for note in found.facts["notes"])
    with pytest.raises(StageError, match="fewer than two classes"):
        compare(candidates_named(["lda"]), SCALED, X, y, None, ask(), np.arange(150))


def test_a_group_that_holds_a_whole_class_is_named() -> None:
    X, y, _ = IRIS
    groups = np.where(y == "setosa", 0, np.arange(150))
    found = compare(candidates_named(["lda", "knn"]), SCALED, X, y, groups, ask(folds=2))
    assert any(
        "'setosa' is tested in 1 of 2 folds by models that never saw it" in note for note in found.facts["notes"]
    )


def test_features_see_the_labels_of_the_training_part_only() -> None:
    X, y, _ = IRIS
    chosen = SelectKBest(k=2).set_output(transform="pandas")
    found = compare(candidates_named(["lda"]), chosen, X, y, None, ask())
    assert found.facts["leaderboard"][0]["mean"] > 0.9


def test_a_tuned_candidate_is_compared_beside_its_own_kind() -> None:
    X, y, _ = IRIS
    tuned = Adjusted(candidate_named("knn"), {"n_neighbors": 15}, "knn_tuned", "k nearest neighbours, tuned")
    found = compare([candidate_named("knn"), tuned], SCALED, X, y, None, ask(repeats=2))
    assert set(found.scores["name"]) == {"knn", "knn_tuned"} and candidate_from(tuned.recipe).recipe == tuned.recipe
    assert candidate_from(found.facts["recipe"]).name == found.chosen


class Small(Fixed):
    "A candidate that takes 50 rows."

    row_limit = 50


def test_a_capped_candidate_says_so() -> None:
    X, y, _ = IRIS
    found = compare([Small("small", 1), candidate_named("lda")], SCALED, X, y, None, ask())
    line = next(line for line in found.facts["leaderboard"] if line["name"] == "small")
    assert line["status"] == "capped" and line["rows_fitted"] == 50 and "50 of 120 rows" in line["note"]


def test_a_class_of_one_row_is_compared_with_a_note() -> None:
    X, y, _ = IRIS
    y = y.copy()
    y[0] = "rare"
    found = compare(candidates_named(["lda", "qda", "knn", "svm", "tree"]), SCALED, X, y, None, ask((*IRIS[2], "rare")))
    failed = {line["name"]: line["note"] for line in found.facts["leaderboard"] if line["status"] != "ok"}
    assert found.facts["folds"] == 5
    assert failed == {"qda": "the class 'rare' has one row, and the spread of a class needs two"}
    assert any("lack the class 'rare'" in note for note in found.facts["notes"])
    json.dumps(found.facts, allow_nan=False)


@pytest.mark.parametrize(
    "terms",
    [
        {"metric": "accurcy"},
        {"metric": "recall"},
        {"folds": 1},
        {"folds": -2},
        {"repeats": 0},
        {"compare_rows": -1},
        {"compare_rows": 3},
        {"class_weight": "heavy"},
        {"class_weight": {"rose": 1.0}},
        {"class_weight": {"setosa": 0}},
        {"class_weight": {"setosa": float("nan")}},
        {"class_weight": {"setosa": True}},
        {"alpha": 0.0},
        {"alpha": 5},
        {"rope": -0.01},
        {"rope": float("inf")},
    ],
    ids=str,
)
def test_terms_that_cannot_be_are_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        ask(**terms)


def test_class_weights_from_parameters() -> None:
    assert class_weight_of("balanced", {}) == "balanced"
    assert class_weight_of("none", {0: 1, True: 3}) == {"0": 1, "true": 3}
    assert np.allclose(row_weights("balanced", np.array(["a", "a", "a", "b"])), [2 / 3, 2 / 3, 2 / 3, 2])  # type: ignore[arg-type]


def test_interval_needs_two_scores_and_has_no_width_for_equal_ones() -> None:
    assert np.isnan(corrected_interval([0.9], 0.25)).all()
    assert corrected_interval([0.9, 0.9, 0.9], 0.5) == pytest.approx((0.9, 0.9))


def test_a_scratch_run_makes_what_it_needs_and_files_survive() -> None:
    from iris_nb.data import load_data
    from iris_nb.features import load_features

    run = open_run("")
    data = load_data(run)
    choice = load_models(run, data)
    assert choice.candidate.name in ("lda", "knn") and choice.metric.name == "balanced_accuracy"
    found = compare(
        candidates_named(["lda"]), load_features(run, data).build(), data.train, data.train_labels, None, ask()
    )
    save_models(run, data, found)
    folds, scores = (pd.read_parquet(run.input("models", f"{name}.parquet")) for name in ("folds", "scores"))
    assert folds["row"].tolist() == list(data.train_rows) and set(folds["fold"]) == set(range(5))
    assert len(scores) == 10 and load_models(run, data).facts == {"settings": {}, "as_it_came": []} | found.facts
