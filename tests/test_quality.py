"""The quality of a table: facts, words, figures, and a page that is private, harmless and the same each time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from scipy.stats.contingency import association

from iris_nb.contract import infer_contract
from iris_nb.data import BUNDLED, load_table, prepare_data, save_data, show_quality
from iris_nb.files import read_json
from iris_nb.folders import open_run
from iris_nb.quality import (
    Quality,
    associations,
    correlation_ratio,
    cramers_v,
    far_out,
    make_quality_page,
    measure_quality,
    plot_quality,
    quality_table,
)


def measured(frame: pd.DataFrame, target: str = "y", share: int = 5) -> Quality:
    return measure_quality(frame, infer_contract(frame, "table", target), np.arange(len(frame)) % share == 0)


def messy(rows: int = 200) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "patient": [f"secret-{i:04d}" for i in range(rows)],
            "age": random.integers(20, 80, rows).astype(float),
            "income": np.exp(random.normal(10, 0.1, rows)),
            "<script>alert(1)</script>": random.choice(["a", "</script><img src=x onerror=alert(2)>", "$x_1$"], rows),
            "seen": pd.date_range("2020-01-01", periods=rows),
            "remark": [f"hidden remark {i}" for i in range(rows)],
            "y": random.choice(["well", "ill"], rows, p=[0.8, 0.2]),
        }
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), max_size=60))
def test_far_out_values_are_outside_the_fences(values: list[float]) -> None:
    array = np.array(values, dtype=float)
    found = far_out(array)
    if found is not None:
        low, high, below, above = found
        assert below == (array < low).sum() and above == (array > high).sum()
        assert low < np.nanmedian(array) < high or np.nanmedian(array) in (low, high) or below + above < len(array) / 4


def test_cramers_v_against_scipy() -> None:
    random = np.random.default_rng(0)
    one = random.integers(0, 4, 5_000)
    other = np.where(random.random(5_000) < 0.6, one, random.integers(0, 4, 5_000))
    plain = association(pd.crosstab(one, other).to_numpy(), method="cramer")
    assert cramers_v(one, other) == pytest.approx(plain, abs=0.01)
    assert cramers_v(one, np.zeros(5_000, dtype=int)) is None
    assert cramers_v(random.integers(0, 50, 200), random.integers(0, 50, 200)) < 0.2


def test_the_correlation_ratio() -> None:
    codes = np.repeat([0, 1, 2], 50)
    assert correlation_ratio(codes, codes * 2.0) == pytest.approx(1)
    noise = [
        correlation_ratio(np.arange(300) % 30, np.random.default_rng(s).normal(size=300)) or 0.0 for s in range(40)
    ]
    assert np.mean(np.square(noise)) < 0.03
    assert correlation_ratio(np.array([], dtype=int), np.array([])) is None


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_gaps_and_ties_as_in_pandas(seed: int) -> None:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(random.integers(0, 9, (40, 3)).astype(float), columns=list("abc"))
    frame = frame.mask(random.random(frame.shape) < 0.3)
    expected = frame.corr(method="spearman").abs()
    pd.testing.assert_frame_equal(associations(frame), expected)
    kind = pd.Series(random.choice(["x", "y", "z"], 40), dtype=object).mask(random.random(40) < 0.3)
    known = frame["a"].notna() & kind.notna()
    found = associations(frame[["a"]].assign(kind=kind)).iloc[0, 1]
    alone = correlation_ratio(pd.factorize(kind[known])[0], frame["a"][known].rank().to_numpy())
    assert found == pytest.approx(alone)


def test_numbers_by_spearman_with_gaps() -> None:
    random = np.random.default_rng(0)
    one = random.normal(size=100)
    table = pd.DataFrame({"one": one, "other": np.exp(one), "noise": random.normal(size=100)})
    found = associations(table)
    assert found.loc["one", "other"] == pytest.approx(1)
    assert found.loc["one", "noise"] == pytest.approx(abs(spearmanr(one, table["noise"]).statistic))
    gaps = associations(table.mask(random.random((100, 3)) < 0.3))
    assert gaps.loc["one", "other"] > 0.99 and (np.diag(gaps) == 1).all()


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_tables(name: str) -> None:
    frame = load_table(name).frame
    quality = measured(frame, "species" if name == "iris" else "class")
    json.dumps(quality.to_dict(), allow_nan=False)
    assert quality.sentences[0] == "No value is missing."
    assert len(quality.columns) == frame.shape[1] - 1 and not quality_table(quality).empty


def test_facts_of_gaps_outliers_and_balance() -> None:
    frame = messy()
    frame.loc[[1, 2, 5], "age"] = np.nan
    frame.loc[3, "income"] = 1e9
    quality = measured(frame)
    age, income = (next(c for c in quality.columns if c["name"] == name) for name in ("age", "income"))
    assert (age["missing"], age["missing_train"], age["missing_test"]) == (3, 2, 1)
    assert income["outliers_above"] == 1 and income["fence_high"] < 1e9
    assert quality.balance["ratio"] > 3 and "'well' has " in quality.sentences[2].replace(", ", " ")
    assert len(plot_quality(quality)) == 4


def test_held_out_rows_do_not_change_what_is_measured() -> None:
    frame = messy()
    test = np.arange(len(frame)) % 5 == 0
    contract = infer_contract(frame, "table", "y")
    changed = frame.assign(income=frame["income"].mask(test, 1e12), age=frame["age"].mask(test, -5.0))
    one, other = measure_quality(frame, contract, test), measure_quality(changed, contract, test)
    assert one == other


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": ["a", "b", "a", "b"]}),
        pd.DataFrame(
            {"x": [np.nan, 2.0, np.nan, 4.0, 5.0, 6.0], "z": [None, "u", "v", None, "u", "v"], "y": list("ababab")}
        ),
        pd.DataFrame({"flag": [True, False] * 5, "y": ["a", "b"] * 5}),
        pd.DataFrame({"x": [1e308, -1e308, 0.0, 1.0] * 3, "y": ["a", "b"] * 6}),
    ],
)
def test_small_and_odd_tables(frame: pd.DataFrame) -> None:
    quality = measured(frame)
    json.dumps(quality.to_dict(), allow_nan=False)
    plot_quality(quality)
    assert len(quality.sentences) >= 2


@pytest.fixture(scope="module")
def pages() -> dict[bool, str]:
    frame = messy()
    contract = infer_contract(frame, "table", "y")
    return {show: make_quality_page(frame, contract, show) for show in (True, False)}


def test_the_page_of_a_private_table_shows_no_row(pages: dict[bool, str]) -> None:
    assert "secret-0" in pages[True] and "hidden remark" in pages[True]
    assert "secret-" not in pages[False] and "hidden remark" not in pages[False]
    table = pd.DataFrame({"pay": [51234.56, *range(10_000, 10_040), *range(90_000, 90_019)], "y": ["a", "b"] * 30})
    contract = infer_contract(table, "table", "y")
    shown, private = (make_quality_page(table, contract, show) for show in (True, False))
    assert "51234.56" in shown and "51234.56" not in private


def test_the_page_loads_nothing_and_escapes_everything(pages: dict[bool, str]) -> None:
    for page in pages.values():
        assert "<script>alert" not in page and "<img src=x" not in page
        assert not re.search(r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=", page)
        assert "default-src 'none'; script-src 'sha256-" in page and page.count("Content-Security-Policy") == 1


def test_the_same_table_makes_the_same_page(pages: dict[bool, str]) -> None:
    frame = messy()
    assert make_quality_page(frame, infer_contract(frame, "table", "y"), False) == pages[False]


def test_the_page_works_in_a_browser(pages: dict[bool, str], tmp_path: Path, browser: Any) -> None:
    path = tmp_path / "quality.html"
    path.write_text(pages[True], encoding="utf-8")
    said: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append("a dialog"), dialog.dismiss()))
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else said.append(request.url))
    page.goto(path.as_uri())
    page.get_by_text("Distributions", exact=True).click()
    page.get_by_text("Associations", exact=True).click()
    page.wait_for_timeout(200)
    page.close()
    assert said == []


def test_the_stage_makes_the_page_only_if_asked(tmp_path: Path) -> None:
    words = ("iris", "", [], [], "", "", "", "", "", 0.2, 0, "auto")
    run = open_run("")
    save_data(run, prepare_data(*words))  # type: ignore[arg-type]
    assert not run.has("data", "quality.html")
    assert Quality.from_dict(read_json(run.path / "data" / "quality.json")).rows == {"train": 120, "test": 30}
    assert "quality_page=true" in repr(show_quality(run)[0])
    save_data(run, prepare_data(*words, quality_page=True))  # type: ignore[arg-type]
    assert run.has("data", "quality.html") and "page of its own" in repr(show_quality(run)[0])
