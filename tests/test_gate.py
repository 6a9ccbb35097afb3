"""The verdict rules of the gate: what may never happen, whatever the numbers are."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iris_nb.contract import Column, Contract
from iris_nb.errors import ParameterError
from iris_nb.gate import (
    CHECKS,
    HOLD,
    PROMOTE,
    REJECT,
    WORDS,
    GateTerms,
    comparison_of,
    gravest,
    groups_alike,
    groups_in,
    judge_promotion,
    power_words,
    rows_needed,
    schema_changes,
    terms_from,
    verdict_lines,
    visible_loss,
    way_of,
    weigh,
    weigh_folds,
    weigh_rows,
)

GOOD: dict[str, Any] = {
    "faults": {},
    "champion": {"version": "1"},
    "files": {"verified": True, "fault": ""},
    "run": {"status": "done", "dirty": False, "gate_passed": True, "gate_reason": "better than the baseline"},
    "leakage": {"errors": 0, "warnings": 0, "silenced": 0, "findings": []},
    "permutation": {"leaks": False, "above_shuffled": True, "silenced": False, "sentence": "At chance."},
    "scores": {
        "classes": ["a", "b"],
        "counts": [[48, 2], [3, 47]],
        "low": 0.9,
        "high": 0.99,
        "ece": 0.04,
        "ece_chance": 0.05,
        "brier": 0.05,
    },
    "unseen": {
        "rows": 20,
        "classes": {name: {"rows": 10, "mended": 0, "broken": 0} for name in "ab"},
        "brier": {"difference": 0.0, "error": 0.01},
    },
    "refit": {
        "rows": 500,
        "folds": 5,
        "repeats": 4,
        "test_to_train": 0.25,
        "same": False,
        "differences": [0.001, -0.001] * 10,
        "brier": [0.0001, -0.0001] * 10,
    },
    "schema": {"changes": []},
    "data": {"same": True},
    "parity": {"recorded": True, "rows": 100, "labels_differ": 0, "largest_difference": 1e-9, "ways": ["as a file"]},
    "latency": {"median_ms": 2.0, "champion_ms": None, "calls": 50},
}
TERMS = GateTerms()


def changed(place: str, value: Any) -> dict[str, Any]:
    """The good evidence with one number changed, such as `scores.ece`."""
    evidence = copy.deepcopy(GOOD)
    *path, last = place.split(".")
    part = evidence
    for name in path:
        part = part[name]
    part[last] = value
    return evidence


def word_of(check: str, evidence: dict[str, Any], terms: GateTerms = TERMS) -> str:
    """What one check says."""
    return next(r.verdict for r in judge_promotion(evidence, terms).reasons if r.check == check)


def test_good_evidence_promotes() -> None:
    verdict = judge_promotion(GOOD, TERMS)
    assert verdict.verdict == PROMOTE and verdict.forcible and verdict.against == []
    assert len(verdict.reasons) == len(CHECKS) == len({reason.check for reason in verdict.reasons})


HARM: list[tuple[str, str, Any, str]] = [
    ("files", "files", {"verified": False, "fault": "a file was changed"}, REJECT),
    ("training gate", "run.gate_passed", False, REJECT),
    ("run", "run.status", "failed", HOLD),
    ("run", "run.status", "partial", PROMOTE),
    ("run", "run.dirty", True, PROMOTE),
    ("leakage audit", "leakage.errors", 1, REJECT),
    ("leakage audit", "leakage.warnings", 2, HOLD),
    ("leakage audit", "leakage.silenced", 2, PROMOTE),
    ("shuffled labels", "permutation.leaks", True, REJECT),
    ("shuffled labels", "permutation.above_shuffled", False, HOLD),
    ("shuffled labels", "permutation", None, PROMOTE),
    ("balanced accuracy", "scores.counts", [[30, 20], [20, 30]], REJECT),
    ("recall", "scores.counts", [[50, 0], [26, 24]], REJECT),
    ("recall", "scores.counts", [[50, 0], [0, 0]], HOLD),
    ("calibration", "scores.ece", 0.3, REJECT),
    ("calibration", "scores.ece", None, HOLD),
    ("comparison", "refit.differences", [-0.05, -0.06] * 10, REJECT),
    ("comparison", "refit.differences", [-0.05, 0.06] * 10, HOLD),
    ("comparison", "refit.differences", [0.0] * 20, PROMOTE),
    ("comparison", "refit.differences", [0.0, 0.0], HOLD),
    ("comparison", "refit", None, HOLD),
    ("Brier score", "refit.brier", [0.05, 0.06] * 10, REJECT),
    ("Brier score", "refit.brier", [-0.1, 0.2] * 10, HOLD),
    ("Brier score", "refit.brier", [], HOLD),
    ("schema", "schema.changes", [{"what": "a unit changed", "breaks": True}], REJECT),
    ("schema", "schema.changes", [{"what": "a category came", "breaks": False}], HOLD),
    ("data", "data.same", False, PROMOTE),
    ("equal answers", "parity.labels_differ", 1, REJECT),
    ("equal answers", "parity.largest_difference", 0.1, REJECT),
    ("equal answers", "parity.largest_difference", None, REJECT),
    ("equal answers", "parity.recorded", False, REJECT),
    ("equal answers", "parity.rows", 0, HOLD),
    ("latency", "latency.median_ms", 101.0, HOLD),
]


@pytest.mark.parametrize(("check", "place", "value", "word"), HARM, ids=lambda v: str(v)[:30])
def test_each_check_says_its_word(check: str, place: str, value: Any, word: str) -> None:
    evidence = changed(place, value)
    assert word_of(check, evidence) == word
    assert judge_promotion(evidence, TERMS).verdict == gravest([word])
    reason = next(r for r in judge_promotion(evidence, TERMS).reasons if r.check == check)
    assert reason.found and reason.wanted and reason.sentence and not reason.sentence.endswith(".")


@given(st.lists(st.sampled_from(HARM), max_size=8), st.sampled_from(HARM))
def test_more_harm_never_makes_a_verdict_milder(
    some: list[tuple[str, str, Any, str]], more: tuple[str, str, Any, str]
) -> None:
    """Harm of checks that the evidence has not been told about yet."""
    some = [one for one in some if one[1].split(".")[0] != more[1].split(".")[0]]

    def told(harms: list[tuple[str, str, Any, str]]) -> str:
        evidence = copy.deepcopy(GOOD)
        for _, place, value, _ in harms:
            part, _, name = place.partition(".")
            if name and evidence[part] is None:
                continue
            evidence[part] = evidence[part] | {name: value} if name else value
        return judge_promotion(evidence, TERMS).verdict

    assert WORDS.index(told([*some, more])) >= WORDS.index(told(some))


@given(st.sets(st.sampled_from(sorted(set(GOOD) - {"faults", "champion", "permutation"}))))
def test_what_was_not_measured_is_never_good(parts: set[str]) -> None:
    verdict = judge_promotion({name: part for name, part in GOOD.items() if name not in parts}, TERMS)
    decisive = parts - {"unseen"}  # where the folds decide, the few rows need not be there
    assert (verdict.verdict == PROMOTE) is (not decisive)


def test_nothing_at_all_rejects_and_cannot_be_forced() -> None:
    verdict = judge_promotion({}, TERMS)
    assert verdict.verdict == REJECT and not verdict.forcible


def test_only_files_decide_whether_force_is_possible() -> None:
    for _, place, value, _ in HARM:
        verdict = judge_promotion(changed(place, value), TERMS)
        assert verdict.forcible is not place.startswith("files")


def test_without_a_champion_the_floors_decide_alone() -> None:
    evidence = GOOD | {"champion": None, "unseen": None, "refit": None, "schema": None, "data": None}
    verdict = judge_promotion(evidence, TERMS)
    assert verdict.verdict == PROMOTE and power_words(evidence, TERMS) == []
    said = {reason.check: reason.sentence for reason in verdict.reasons}
    assert "floors decide alone" in said["comparison"]
    assert judge_promotion(evidence, replace(TERMS, recall=0.99)).verdict == REJECT


gaps = st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=40)


@given(gaps, st.floats(0, 0.3))
def test_a_worse_challenger_is_never_judged_better(differences: list[float], loss: float) -> None:
    order = {"no worse": 0, "open": 1, "worse": 2}
    before, after = (weigh_folds([d - less for d in differences], 0.25, 0.01, TERMS).outcome for less in (0.0, loss))
    assert order[after] >= order[before]


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0.001, 0.5))
def test_no_worse_and_worse_exclude_each_other(difference: float, error: float, margin: float) -> None:
    found = weigh(difference, error, 20, margin, 0.05, 0.8)
    assert found.low <= found.difference <= found.high
    assert (found.outcome == "no worse") <= (difference >= -margin)
    assert (found.outcome == "worse") <= (difference < -margin)


@given(st.floats(-1, 1), st.floats(0.0001, 1), st.floats(0.001, 0.2), st.floats(0, 0.2))
def test_a_wider_margin_is_never_harder(difference: float, error: float, margin: float, more: float) -> None:
    narrow, wide = (weigh(difference, error, 30, m, 0.05, 0.8).outcome for m in (margin, margin + more))
    assert narrow != "no worse" or wide == "no worse"


counted = st.integers(0, 60).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n)).flatmap(
        lambda p: st.tuples(st.just(p[0]), st.just(p[1]), st.integers(0, p[0] - p[1]))
    )
)


@given(st.lists(counted, min_size=1, max_size=4))
def test_rows_are_symmetric_and_broken_rows_only_harm(counts: list[tuple[int, int, int]]) -> None:
    classes = {str(k): {"rows": n, "mended": m, "broken": b} for k, (n, m, b) in enumerate(counts)}
    turned = {k: c | {"mended": c["broken"], "broken": c["mended"]} for k, c in classes.items()}
    one, other = weigh_rows(classes, TERMS), weigh_rows(turned, TERMS)
    if not any(n for n, _, _ in counts):
        assert one.outcome == "open" and visible_loss(classes, TERMS) == math.inf
        return
    assert np.allclose([one.difference, one.low, one.high], [-other.difference, -other.high, -other.low])
    assert visible_loss(classes, TERMS) == visible_loss(turned, TERMS)


def test_thirty_rows_decide_nothing_and_many_do() -> None:
    """What can be seen falls with the rows, and the way is chosen by it and not by who was better."""
    for mended, broken in ((0, 3), (3, 0)):
        evidence = copy.deepcopy(GOOD)
        evidence["unseen"]["classes"] = {"a": {"rows": 30, "mended": mended, "broken": broken}}
        assert way_of(evidence, TERMS) == "refit"
        evidence["unseen"]["classes"] = {"a": {"rows": 5000, "mended": mended, "broken": broken}}
        assert way_of(evidence, TERMS) == "rows" and comparison_of(evidence, TERMS).outcome == "no worse"
    evidence["unseen"]["classes"] = {"a": {"rows": 20_000, "mended": 0, "broken": 900}}
    assert word_of("comparison", evidence) == REJECT


def test_bounds_have_the_level_they_claim() -> None:
    """Non-inferiority is wrongly shown in about one of twenty samples at the edge of the margin, not more."""
    random, wrong, trials = np.random.default_rng(0), 0, 600
    for _ in range(trials):
        broken, mended, _ = random.multinomial(2000, [0.02, 0.01, 0.97])  # a true loss of exactly 0.01
        classes = {"a": {"rows": 2000, "mended": int(mended), "broken": int(broken)}}
        wrong += weigh_rows(classes, TERMS).outcome == "no worse"
    assert 0.02 < wrong / trials < 0.08


def test_rows_needed_is_round_and_enough() -> None:
    assert rows_needed(100, 0.02, 0.01) == 400 and rows_needed(100, 0.0213, 0.01) == 460
    assert rows_needed(100, math.nan, 0.01) is None


def test_terms_name_what_is_wrong() -> None:
    for term in fields(GateTerms):
        assert term.metadata["says"] and term.metadata["low"] <= term.default <= term.metadata["high"]
        with pytest.raises(ParameterError, match=f"{term.name} must be a"):
            terms_from([f"{term.name}={term.metadata['high'] + 1}"])
    with pytest.raises(ParameterError, match="did you mean 'latency_ms'"):
        terms_from(["latency=3"])
    with pytest.raises(ParameterError, match="NAME=VALUE"):
        terms_from(["margin"])
    with pytest.raises(ParameterError, match="not 1"):
        terms_from(["folds=1"])
    assert terms_from(["margin = 0.03", "margin=0.02"]).margin == 0.02


LENGTH = Column("length", "number", "feature", unit="cm")
COLOUR = Column("colour", "category", "feature", categories=("red", "blue"))
KIND = Column("kind", "category", "target", categories=("a", "b"))


def contract(*columns: Column, target: str = "kind") -> Contract:
    return Contract("plants", target, columns)


@pytest.mark.parametrize(
    ("columns", "says", "breaks"),
    [
        ((replace(LENGTH, unit="in"), COLOUR, KIND), "unit of 'length' was 'cm' and is now 'in'", True),
        ((replace(LENGTH, unit=""), COLOUR, KIND), "is now none", False),
        ((replace(LENGTH, kind="integer"), COLOUR, KIND), "kind number and is now integer", True),
        ((COLOUR, LENGTH, KIND), "another order", True),
        ((LENGTH, KIND), "does not know the column 'colour'", True),
        ((LENGTH, replace(COLOUR, role="left out"), KIND), "leaves out the column 'colour'", False),
        ((LENGTH, COLOUR, Column("width", "number", "feature"), KIND), "needs the column 'width'", True),
        ((LENGTH, replace(COLOUR, categories=("red",)), KIND), "no longer knows the categories 'blue'", False),
        ((LENGTH, replace(COLOUR, categories=("red", "blue", "pink")), KIND), "new categories 'pink'", False),
        ((LENGTH, COLOUR, replace(KIND, categories=("a", "b", "c"))), "can answer 'c'", False),
        ((LENGTH, COLOUR, replace(KIND, categories=("a",))), "never answers 'b'", False),
        ((LENGTH, COLOUR, replace(KIND, kind="integer", categories=("1", "2"))), "labels were of the kind", True),
    ],
)
def test_schema_changes_are_named(columns: tuple[Column, ...], says: str, breaks: bool) -> None:
    found = schema_changes(contract(LENGTH, COLOUR, KIND), contract(*columns))
    named = [change for change in found if says in change.what]
    assert named and named[0].breaks is breaks, found


def test_ranges_are_no_schema() -> None:
    old, new = contract(replace(LENGTH, minimum=1.0, maximum=9.0), KIND), contract(LENGTH, KIND)
    assert schema_changes(old, new) == []


@pytest.mark.parametrize("change", [lambda e: e, lambda e: e | {"files": {"verified": False, "fault": "x" * 300}}])
def test_lines_fit_a_terminal(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    evidence = copy.deepcopy(GOOD)
    evidence["scores"]["classes"] = ["a class with a name that is far too long for any line of a terminal" * 2, "b"]
    lines = verdict_lines(judge_promotion(change(evidence), TERMS))
    assert max(len(line) for line in lines) <= 80


def test_a_verdict_survives_its_file() -> None:
    evidence = json.loads(json.dumps(GOOD))
    assert judge_promotion(evidence, TERMS) == judge_promotion(GOOD, TERMS)


def test_a_class_without_new_rows_is_not_decided_by_the_others() -> None:
    evidence = copy.deepcopy(GOOD)
    evidence["unseen"]["classes"] = {
        "a": {"rows": 9000, "mended": 0, "broken": 0},
        "b": {"rows": 0, "mended": 0, "broken": 0},
    }
    assert way_of(evidence, TERMS) == "refit"
    assert "hold none of the class 'b'" in power_words(evidence, TERMS)[0]


def in_groups(gains: dict[str, list[int]], each: int) -> dict[str, dict[str, Any]]:
    """Classes whose groups hold `each` rows and gained so many; no group has rows of two classes."""
    found: dict[str, dict[str, Any]] = {}
    first = 0
    for name, all_gains in gains.items():
        held = [[first + number, each, gain] for number, gain in enumerate(all_gains)]
        mended, broken = (sum(max(0, sign * gain) for gain in all_gains) for sign in (1, -1))
        rows = each * len(all_gains)
        found[name] = {"rows": rows, "mended": mended, "broken": broken, "groups": held}
        first += len(held)
    return found


def without_groups(classes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {key: counts[key] for key in ("rows", "mended", "broken")} for name, counts in classes.items()}


@pytest.mark.parametrize(("groups", "each"), [(10, 20), (40, 20), (40, 50)])
def test_few_groups_with_many_rows_do_not_decide_and_hold_their_level(groups: int, each: int) -> None:
    """At a true loss of the margin, 'no worse' is wrong: one sample in twenty, not one in three."""
    random, terms = np.random.default_rng(0), replace(TERMS, margin=0.05)
    wrong, by_rows, trials = 0, 0, 60
    for _ in range(trials):
        drawn = {name: random.choice([-each, each, 0], size=groups, p=[0.1, 0.05, 0.85]).tolist() for name in "ab"}
        classes = in_groups(drawn, each)
        assert groups_in(classes) == 2 * groups and visible_loss(classes, terms) > terms.margin
        wrong += weigh_rows(classes, terms).outcome == "no worse"
        by_rows += weigh_rows(without_groups(classes), terms).outcome == "no worse"
    assert wrong <= 0.05 * trials < 0.2 * trials < by_rows


def test_many_groups_decide_as_so_many_rows_do() -> None:
    gains = {"a": [1] * 5 + [-1] * 3 + [0] * 492, "b": [-1] * 4 + [0] * 496}
    rows = without_groups(in_groups(gains, 1))
    for each in (1, 30):
        classes = in_groups({name: [each * gain for gain in held] for name, held in gains.items()}, each)
        found, plain = weigh_rows(classes, TERMS), weigh_rows(rows, TERMS)
        assert (found.outcome, round(found.difference, 9)) == (plain.outcome, round(plain.difference, 9))
        assert found.low < plain.low and np.allclose([found.low, found.high], [plain.low, plain.high], atol=1e-4)
        assert visible_loss(classes, TERMS) == pytest.approx(visible_loss(rows, TERMS), rel=0.005)


def test_groups_across_classes_are_one_observation() -> None:
    """Patients with rows of both classes: half as many groups, and a wider bound than groups of their own."""
    apart = in_groups({"a": [0] * 100, "b": [0] * 100}, 10)
    shared = {name: counts | {"groups": [[number, 10, 0] for number in range(100)]} for name, counts in apart.items()}
    assert (groups_in(apart), groups_in(shared)) == (200, 100)
    assert visible_loss(shared, TERMS) == pytest.approx(math.sqrt(2) * visible_loss(apart, TERMS))


def test_a_large_group_counts_once() -> None:
    assert groups_alike([7] * 12) == pytest.approx(12) and groups_alike([1000, 1, 1, 1]) < 1.01
    counted = {"rows": 2000, "mended": 0, "broken": 0}
    even, uneven, one = (
        {"a": counted | {"groups": [[number, rows, 0] for number, rows in enumerate(sizes)]}}
        for sizes in ([50] * 40, [1025] + [25] * 39, [2000])
    )
    assert visible_loss(even, TERMS) < visible_loss(uneven, TERMS) and visible_loss(one, TERMS) == math.inf
    evidence = GOOD | {"unseen": GOOD["unseen"] | {"classes": one}}
    assert (
        way_of(evidence, TERMS) == "refit" and "come in 1 group, too few to decide" in power_words(evidence, TERMS)[0]
    )
    assert way_of(evidence | {"refit": None}, TERMS) == "" and word_of("comparison", evidence | {"refit": None}) == HOLD


@given(st.lists(st.integers(-5, 5), min_size=3, max_size=20), st.lists(st.integers(-5, 5), min_size=3, max_size=20))
def test_groups_are_symmetric(left: list[int], right: list[int]) -> None:
    classes = in_groups({"a": left, "b": right}, 5)
    turned = in_groups({"a": [-gain for gain in left], "b": [-gain for gain in right]}, 5)
    one, other = weigh_rows(classes, TERMS), weigh_rows(turned, TERMS)
    assert np.allclose([one.difference, one.low, one.high], [-other.difference, -other.high, -other.low])
    assert visible_loss(classes, TERMS) == pytest.approx(visible_loss(turned, TERMS))


def test_sentences_say_that_groups_count_once() -> None:
    held = {"number": 20, "alike": 19.0, "classes": {name: {"number": 10, "alike": 9.5} for name in "ab"}}
    evidence = copy.deepcopy(GOOD)
    evidence["scores"]["groups"], evidence["refit"]["groups"] = held, 50
    evidence["refit"]["differences"] = [-0.05, 0.06] * 10
    evidence["unseen"]["classes"] = in_groups({"a": [0] * 10, "b": [0] * 10}, 4)
    said = {reason.check: reason for reason in judge_promotion(json.loads(json.dumps(evidence)), TERMS).reasons}
    plain = {reason.check: reason for reason in judge_promotion(GOOD, TERMS).reasons}
    bound = "5 errors in 100 held-out rows of 20 groups still allow an error rate of up to"
    assert said["balanced accuracy"].sentence.startswith(bound)
    assert said["balanced accuracy"].sentence.endswith("(95 %, one-sided, each group counted once)")
    assert said["recall"].found == "0.940 'b' (0.593 to 1.000)" != plain["recall"].found
    assert "on 50 rows of 10 groups, each counted once" in said["recall"].sentence
    seen, folds, _ = power_words(evidence, TERMS)
    assert seen.startswith("80 rows that neither model has seen, each of their 20 groups counted once, show a loss of")
    assert folds.startswith("the folds of 500 rows of 50 groups show a loss") and folds.endswith("groups of such rows")
    evidence["unseen"]["classes"] = in_groups({"a": [4] + [0] * 999, "b": [0] * 1000}, 4)
    evidence["unseen"]["brier"] = {"difference": 0.03, "error": 0.01, "alike": 3.0}
    assert way_of(evidence, TERMS) == "rows" and word_of("Brier score", evidence) == HOLD
    comparison = next(r for r in judge_promotion(evidence, TERMS).reasons if r.check == "comparison")
    assert "mends 4 and breaks 0; each of their 2,000 groups counts once (one-sided" in comparison.sentence
