"""The domain: distances that do not depend on units, limits that new rows keep, a file that says the same."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import mahalanobis

from iris_nb.domain import Domain, domain_facts, domain_of, show_domain
from iris_nb.errors import ModelFileError


def clouds(rows: int, seed: int, width: int = 4, classes: int = 3) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(seed)
    codes = np.arange(rows) % classes
    centres = np.random.default_rng(99).normal(0, 4, (classes, width))
    mix = np.random.default_rng(98).normal(size=(width, width))
    Z = centres[codes] + rng.normal(size=(rows, width)) @ mix
    return pd.DataFrame(Z, columns=[f"x{i}" for i in range(width)]), pd.Series([f"c{i}" for i in codes])


@pytest.mark.parametrize(("rows", "width"), [(150, 4), (120, 30), (60, 80)])
def test_new_rows_are_seldom_called_outside(rows: int, width: int) -> None:
    outs = []
    for seed in range(5):
        domain = domain_of(*clouds(rows, seed, width), 20_000, 0)
        outs.append((domain.mark(domain.distance(clouds(600, 100 + seed, width)[0])) == "out").mean())
    assert np.mean(outs) < 0.035


def test_it_is_mahalanobis_distance_from_the_nearest_centre() -> None:
    Z, y = clouds(3000, 0)
    domain, new = domain_of(Z, y, 20_000, 0), clouds(20, 1)[0]
    centres = Z.groupby(y.to_numpy()).mean()
    inverse = np.linalg.inv(np.cov((Z - centres.loc[y].to_numpy()).T))
    exact = [min(mahalanobis(row, c, inverse) for c in centres.to_numpy()) for row in new.to_numpy()]
    assert np.corrcoef(exact, domain.distance(new))[0, 1] > 0.93  # shrinkage takes 5 % away


def test_units_do_not_matter() -> None:
    Z, y = clouds(200, 0)
    factor = np.array([1.0, 1000.0, 1e-6, 7.0])
    new = clouds(50, 1)[0]
    one, other = domain_of(Z, y, 20_000, 0), domain_of(Z * factor, y, 20_000, 0)
    assert other.distance(new * factor) == pytest.approx(one.distance(new), rel=1e-6)


def test_far_rows_are_outside_and_missing_ones_too() -> None:
    domain = domain_of(*clouds(200, 0), 20_000, 0)
    far = clouds(5, 1)[0] + 1000
    assert set(domain.mark(domain.distance(far))) == {"out"}
    assert domain.mark(np.array([np.nan, 0.0, domain.edge, domain.out])).tolist() == ["out", "in", "in", "edge"]


def test_a_file_gives_the_same_distances_and_no_row() -> None:
    Z, y = clouds(120, 0)
    domain = domain_of(Z, y, 20_000, 0)
    again = Domain.from_dict(json.loads(json.dumps(domain.to_dict(), allow_nan=False)))
    assert (again.distance(Z) == domain.distance(Z)).all()
    kept = sum(np.size(value) for value in domain.to_dict().values())
    assert kept < Z.size / 4


def test_a_class_of_few_rows_has_no_centre() -> None:
    Z, y = clouds(100, 0)
    y.iloc[:3] = "rare"
    assert len(domain_of(Z, y, 20_000, 0).centres) == 3
    assert len(domain_of(Z.head(3), pd.Series(["a", "b", "c"]), 20_000, 0).centres) == 1


def test_same_seed_same_numbers_and_large_tables_are_sampled() -> None:
    Z, y = clouds(3000, 0)
    assert domain_of(Z, y, 500, 1).to_dict() == domain_of(Z, y, 500, 1).to_dict()
    assert domain_of(Z, y, 500, 1).rows == 500


def test_facts_and_words() -> None:
    domain = domain_of(*clouds(60, 0), 20_000, 0)
    facts = domain_facts(domain, np.array([0.1, 1e9]), np.array([True, False]))
    assert [line["rows"] for line in facts["held_out"]] == [1, 0, 1] and facts["largest"] == 1e9
    json.dumps(facts, allow_nan=False)
    assert any("fewer than 99" in sentence for sentence in show_domain(facts).sentences)


@pytest.mark.parametrize(
    "damage", [{"scale": None}, {"centres": []}, {"whitening": [[1.0]]}, {"format": 2}, {"edge": "far"}]
)
def test_a_damaged_file_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(ModelFileError, match=r"domain\.json"):
        Domain.from_dict(domain_of(*clouds(60, 0), 20_000, 0).to_dict() | damage)
