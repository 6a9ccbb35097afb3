"""Corrected statistics: what must hold for any scores, and known numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from iris_nb.errors import ParameterError
from iris_nb.statistics import bayesian_t, check_terms, corrected_t, every_pair, holm, in_words, paired, tie_group

RATIO = st.sampled_from([0.0, 1 / 9, 1 / 4, 1 / 2, 1.0])
SCORE = st.integers(0, 1000).map(lambda n: n / 1000)
GAPS = arrays(float, st.integers(3, 30), elements=st.integers(-1000, 1000).map(lambda n: n / 1000))
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@st.composite
def boards(draw: st.DrawFn) -> dict[str, np.ndarray]:
    "Scores of two to six candidates on the same folds."
    folds = draw(st.integers(3, 12))
    count = draw(st.integers(2, 6))
    return {f"c{i}": draw(arrays(float, folds, elements=SCORE)) for i in range(count)}


# --- the corrected test ----------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(GAPS, RATIO)
def test_turning_the_sign_turns_the_answer(gaps: np.ndarray, ratio: float) -> None:
    one, other = corrected_t(gaps, ratio), corrected_t(-gaps, ratio)
    assert one.mean == -other.mean and one.statistic == -other.statistic and one.p_two_sided == other.p_two_sided
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p_one_sided + other.p_one_sided == pytest.approx(1)
    odds, mirrored = bayesian_t(gaps, ratio, 0.01), bayesian_t(-gaps, ratio, 0.01)
    assert (odds.worse, odds.equal, odds.better) == pytest.approx((mirrored.better, mirrored.equal, mirrored.worse))


@settings(max_examples=100, deadline=None)
@given(GAPS, RATIO, st.sampled_from([0.01, 0.5, 3.0, 100.0]))
def test_the_unit_of_the_scores_does_not_matter(gaps: np.ndarray, ratio: float, unit: float) -> None:
    assume(np.ptp(gaps) > 0)
    plain, scaled = corrected_t(gaps, ratio), corrected_t(gaps * unit, ratio)
    assert scaled.statistic == pytest.approx(plain.statistic, abs=1e-9)
    assert scaled.p_one_sided == pytest.approx(plain.p_one_sided, abs=1e-9)
    assert scaled.low == pytest.approx(plain.low * unit, abs=1e-9)
    odds, other = bayesian_t(gaps, ratio, 0.02), bayesian_t(gaps * unit, ratio, 0.02 * unit)
    assert (odds.worse, odds.equal, odds.better) == pytest.approx((other.worse, other.equal, other.better), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(GAPS)
def test_without_overlap_it_is_the_usual_test_and_with_it_more_careful(gaps: np.ndarray) -> None:
    assume(np.ptp(gaps) > 0)
    plain, theirs = corrected_t(gaps, 0), stats.ttest_1samp(gaps, 0)
    assert (plain.statistic, plain.p_two_sided) == pytest.approx((theirs.statistic, theirs.pvalue), abs=1e-12)
    assert (plain.low, plain.high) == pytest.approx(tuple(theirs.confidence_interval()))
    careful = corrected_t(gaps, 1 / 4)
    assert abs(careful.statistic) <= abs(plain.statistic) and careful.p_two_sided >= plain.p_two_sided
    assert careful.high - careful.low >= plain.high - plain.low


@settings(max_examples=100, deadline=None)
@given(GAPS, RATIO, st.sampled_from([0.0, 0.01, 0.1]))
def test_the_three_chances_are_chances(gaps: np.ndarray, ratio: float, rope: float) -> None:
    odds = bayesian_t(gaps, ratio, rope)
    assert min(odds.worse, odds.equal, odds.better) >= -1e-12
    assert odds.worse + odds.equal + odds.better == pytest.approx(1)
    if np.ptp(gaps) > 0:
        assert bayesian_t(gaps, ratio, 0).better == pytest.approx(1 - corrected_t(gaps, ratio).p_one_sided)


@pytest.mark.parametrize(("gap", "p", "odds"), [(0.0, 1.0, (0, 1, 0)), (0.02, 0.0, (0, 0, 1)), (-0.02, 0.0, (1, 0, 0))])
def test_differences_without_spread(gap: float, p: float, odds: tuple[int, int, int]) -> None:
    gaps = np.full(7, gap + 0.1) - 0.1  # what subtraction leaves is not exactly the gap
    found, chances = corrected_t(gaps, 0.25), bayesian_t(gaps, 0.25, 0.01)
    assert found.p_two_sided == p and (chances.worse, chances.equal, chances.better) == odds
    assert found.low == found.high == pytest.approx(gap)


def test_too_few_differences_give_no_answer() -> None:
    for few in ([], [0.3]):
        assert np.isnan(corrected_t(few, 0.25).p_two_sided) and np.isnan(bayesian_t(few, 0.25, 0.01).equal)


def test_equal_candidates_are_rarely_told_apart() -> None:
    "The usual test finds differences in noise far too often where folds overlap; the corrected one does not."
    rng, rounds = np.random.default_rng(0), 400
    usual = corrected = 0
    for _ in range(rounds):
        shared = rng.normal(0, np.sqrt(0.2), 1)  # correlation 0.2 between folds, as n_test / (n_test + n_train) has it
        gaps = shared + rng.normal(0, np.sqrt(0.8), 25)
        usual += corrected_t(gaps, 0).p_two_sided < 0.05
        corrected += corrected_t(gaps, 1 / 4).p_two_sided < 0.05
    assert usual / rounds > 0.3 and corrected / rounds < 0.08


# --- Holm ------------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(P_VALUES)
def test_holm_keeps_the_order_and_lies_between_nothing_and_bonferroni(p_values: list[float]) -> None:
    given_p, corrected = np.array(p_values), holm(p_values)
    assert (corrected >= given_p).all() and (corrected <= np.minimum(1, given_p * len(given_p)) + 1e-15).all()
    order = np.argsort(given_p, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()
    assert corrected.min() == pytest.approx(min(1, given_p.min() * len(given_p)))


@settings(max_examples=100, deadline=None)
@given(P_VALUES, st.floats(0.001, 0.2))
def test_holm_rejects_as_its_step_down_form_does(p_values: list[float], alpha: float) -> None:
    rejected, steps = set(), np.argsort(p_values, kind="stable")
    for step, place in enumerate(steps):
        if p_values[place] * (len(steps) - step) >= alpha:
            break
        rejected.add(int(place))
    assert set(np.flatnonzero(holm(p_values) < alpha).tolist()) == rejected


def test_holm_leaves_out_what_was_not_tested() -> None:
    assert holm([np.nan, 0.02, 0.03])[1:].tolist() == [0.04, 0.04] and np.isnan(holm([np.nan])[0]) and not len(holm([]))


# --- the tie group ---------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(boards(), RATIO, st.sampled_from([0.01, 0.05, 0.1]))
def test_the_best_is_in_its_group_and_the_order_of_names_is_not_asked(
    scores: dict[str, np.ndarray], ratio: float, alpha: float
) -> None:
    group = tie_group(scores, ratio, alpha)
    means = {name: values.mean() for name, values in scores.items()}
    assert group.members[0] == group.best and means[group.best] == pytest.approx(max(means.values()))
    assert set(group.tests) == set(scores) - {group.best}
    for name, p in group.p_values.items():
        assert (name in group.members) == (p >= alpha) and p >= group.tests[name].p_one_sided - 1e-12
    if len({round(mean, 12) for mean in means.values()}) == len(means):
        turned = tie_group(dict(reversed(scores.items())), ratio, alpha)
        assert (turned.best, set(turned.members)) == (group.best, set(group.members))


@settings(max_examples=50, deadline=None)
@given(boards(), RATIO)
def test_a_stricter_level_never_makes_the_group_smaller(scores: dict[str, np.ndarray], ratio: float) -> None:
    assert set(tie_group(scores, ratio, 0.05).members) <= set(tie_group(scores, ratio, 0.01).members)


@settings(max_examples=50, deadline=None)
@given(boards(), RATIO, st.sampled_from([0.1, 10.0]), st.integers(-3, 3))
def test_the_group_does_not_depend_on_unit_or_origin(
    scores: dict[str, np.ndarray], ratio: float, unit: float, shift: int
) -> None:
    plain = tie_group(scores, ratio, 0.05)
    assume(all(abs(p - 0.05) > 1e-6 for p in plain.p_values.values()))
    assume(len({round(float(values.mean()), 9) for values in scores.values()}) == len(scores))
    moved = tie_group({name: values * unit + shift for name, values in scores.items()}, ratio, 0.05)
    assert moved.members == plain.members


def test_a_score_that_is_missing_leaves_its_fold_out_of_the_pair() -> None:
    one, other = np.array([0.9, np.nan, 0.8, 0.7]), np.array([0.8, 0.8, 0.8, np.nan])
    assert paired(one, other).tolist() == pytest.approx([0.1, 0.0])
    group = tie_group({"one": one, "other": other}, 1 / 3, 0.05)
    assert np.isnan(group.p_values["other"]) and group.members == ("one", "other")


def test_every_pair_is_there_once() -> None:
    rng = np.random.default_rng(0)
    scores = {name: rng.random(10) for name in "abcd"}
    pairs = every_pair(scores, 1 / 9, 0.01)
    assert [(pair.first, pair.second) for pair in pairs] == [
        ("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d"),
    ]  # fmt: skip
    assert np.allclose([pair.p_corrected for pair in pairs], holm([pair.test.p_two_sided for pair in pairs]))


@pytest.mark.parametrize(
    ("alpha", "rope"), [(0, 0.01), (0.5, 0.01), (float("nan"), 0.01), (0.05, -1), (0.05, float("nan"))]
)
def test_terms_that_cannot_be(alpha: float, rope: float) -> None:
    with pytest.raises(ParameterError):
        check_terms(alpha, rope)


def test_names_in_a_sentence() -> None:
    assert [in_words(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
