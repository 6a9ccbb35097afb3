"""Two run folders compared: nothing equal is called different, and nothing different is called equal."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iris_nb.equality import (
    DIFFERENT,
    IDENTICAL,
    MOST,
    WITHIN,
    Equality,
    FileEquality,
    changed_rows,
    check_tolerance,
    compare_folders,
    compare_frames,
    compare_runs,
    environment_differences,
    flatten,
    gap_of,
    judge,
)
from iris_nb.errors import ParameterError
from iris_nb.files import write_json

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)


def verdict(left: Path, right: Path, tolerance: float = 1e-6) -> str:
    return judge(compare_runs(left, right), [], tolerance).word


def document(folder: Path, name: str, content: Any) -> Path:
    write_json(folder / name / "training" / "training.json", content)
    return folder / name


@given(DOCUMENTS)
def test_flatten_gives_each_place_once(value: Any) -> None:
    places = [where for where, _ in flatten(value)]
    assert len(places) == len(set(places)) >= 1


@given(SCALARS, SCALARS)
def test_gap_is_symmetric_and_zero_only_for_equals(left: Any, right: Any) -> None:
    assert gap_of(left, right) == gap_of(right, left)
    assert gap_of(left, left)[0]
    equal, gap = gap_of(left, right)
    assert equal == ((left == right) and isinstance(left, bool) == isinstance(right, bool))
    assert equal or gap is None or 0 < gap < math.inf


@settings(max_examples=25, deadline=None)
@given(value=DOCUMENTS, other=DOCUMENTS)
def test_documents_are_equal_only_to_themselves(
    tmp_path_factory: pytest.TempPathFactory, value: Any, other: Any
) -> None:
    folder = tmp_path_factory.mktemp("documents")
    left, same, right = (
        document(folder, name, {"content": v}) for name, v in (("a", value), ("b", value), ("c", other))
    )
    assert verdict(left, same) == IDENTICAL and compare_folders(left, same) == []
    differ = json.dumps(value, sort_keys=True) != json.dumps(other, sort_keys=True)
    assume(not differ or value != other)  # 1 and 1.0, 0.0 and -0.0 are the same number
    found = compare_folders(left, right)
    assert bool(found) == differ
    assert {m.where for m in found} == {m.where for m in compare_folders(right, left)}


NUMBERS = st.floats(-1e9, 1e9).map(lambda x: round(x, 6))


@settings(max_examples=25, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=20), st.data())
def test_a_table_finds_the_changed_cell(numbers: list[float], data: Any) -> None:
    place = data.draw(st.integers(0, len(numbers) - 1))
    change = data.draw(st.floats(0.5, 1e6))
    left = pd.DataFrame({"row": range(5, 5 + len(numbers)), "x": numbers, "label": "a"})
    right = left.copy()
    right.loc[place, "x"] += change
    order = data.draw(st.permutations(range(len(numbers))))
    equality = FileEquality("inference", "inference/predictions.parquet")
    compare_frames(equality, left, right)
    assert [m.where for m in equality.first] == [f"row {5 + place}, column x"]
    assert equality.values == 3 * len(numbers) and equality.largest == equality.first[0]
    shuffled = FileEquality("inference", "inference/predictions.parquet")
    compare_frames(shuffled, left, left.iloc[list(order)].reset_index(drop=True))
    assert [m.where for m in shuffled.first] == (["order of the rows"] if list(order) != sorted(order) else [])


@given(st.floats(0, 1), NUMBERS, NUMBERS)
def test_tolerance_is_relative_above_one(tolerance: float, left: float, right: float) -> None:
    equality = FileEquality("training", "training/training.json")
    equal, gap = gap_of(left, right)
    if not equal:
        equality.add("x", left, right, gap)
    word = judge(Equality([equality]), [], tolerance).word
    allowed = gap is not None and gap / max(1, abs(left)) <= tolerance
    assert word == (IDENTICAL if equal else WITHIN if allowed else DIFFERENT)


FRAMES: list[tuple[str, list[Any], list[Any], bool]] = [
    ("nan equals nan", [1.0, np.nan], [1.0, np.nan], True),
    ("nan is no number", [1.0, np.nan], [1.0, 2.0], False),
    ("nothing equals nothing", [None, None], [np.nan, np.nan], True),
    ("whole numbers are numbers", [1, 2], [1.0, 2.0], True),
    ("beyond 2**53", [2**60, 1], [2**60 + 1, 1], False),
    ("negative beyond 2**53", [-(2**60), 1], [-(2**60) - 1, 1], False),
    ("truth is no number", [True, False], [1, 0], False),
    ("texts are no numbers", ["1", "2"], [1, 2], False),
    ("missing text", ["a", None], ["a", None], True),
    ("missing is not empty", ["a", None], ["a", ""], False),
    ("infinite", [np.inf, 1.0], [np.inf, 1.0], True),
    ("infinite and finite", [np.inf, 1.0], [1e300, 1.0], False),
    ("dates", list(pd.to_datetime(["2024-01-01", "2024-01-02"])), list(pd.to_datetime(["2024-01-01"] * 2)), False),
    ("minus nought", [0.0, 1.0], [-0.0, 1.0], True),
]


@pytest.mark.parametrize(("left", "right", "equal"), [c[1:] for c in FRAMES], ids=[c[0] for c in FRAMES])
def test_columns(left: list[Any], right: list[Any], equal: bool) -> None:
    equality = FileEquality("data", "data/table.parquet")
    compare_frames(equality, pd.DataFrame({"x": left}), pd.DataFrame({"x": right}))
    assert (equality.different == 0) == equal
    mismatches = json.dumps([m.__dict__ for m in equality.first], allow_nan=False)
    assert equal or "x" in mismatches
    if "infinite" in str(left) or "nan" in str(left):
        assert equality.excess < math.inf


def test_shapes_that_differ() -> None:
    equality = FileEquality("models", "models/scores.parquet")
    compare_frames(equality, pd.DataFrame({"a": [1, 2], "b": [1, 2]}), pd.DataFrame({"a": [1], "c": [1]}))
    assert [m.where for m in equality.first] == ["how many lines", "column b", "column c"]
    assert equality.not_numbers == 3


def test_many_mismatches_are_counted_and_few_kept() -> None:
    equality = FileEquality("training", "training/predictions.parquet")
    left = pd.DataFrame({"x": np.zeros(5000)})
    compare_frames(equality, left, left.assign(x=np.arange(5000) / 10))
    assert equality.different == 4999 and len(equality.first) == MOST and equality.excess == 499.9
    found = Equality([equality]).mismatches
    assert len(found) == MOST + 1 and found[-1].where == "line 5000, column x" and found[-1].gap == 499.9


def test_many_texts_are_counted_too() -> None:
    equality = FileEquality("training", "training/predictions.parquet")
    compare_frames(equality, pd.DataFrame({"x": ["a"] * 500}), pd.DataFrame({"x": ["b"] * 500}))
    assert equality.different == equality.not_numbers == 500 and equality.largest is None


def test_a_large_table_is_compared_quickly() -> None:
    random = np.random.default_rng(0)
    left = pd.DataFrame({"row": np.arange(1, 300_001), **{f"x{n}": random.normal(size=300_000) for n in range(8)}})
    begun = time.monotonic()
    equality = FileEquality("inference", "inference/predictions.parquet")
    compare_frames(equality, left, left.copy())
    assert equality.different == 0 and equality.values == 9 * 300_000
    compare_frames(equality, left, left.assign(**{f"x{n}": left[f"x{n}"] + n for n in range(8)}))
    assert equality.different == 7 * 300_000 and equality.not_numbers == 0
    assert equality.largest is not None and equality.largest.gap == pytest.approx(7)
    assert time.monotonic() - begun < 10


def study(folder: Path, frame: pd.DataFrame, show: bool = True, rows: list[int] | None = None) -> Path:
    data = folder / "data"
    data.mkdir(parents=True)
    frame.to_parquet(data / "table.parquet")
    pd.DataFrame({"row": rows or range(1, len(frame) + 1), "part": "train"}).to_parquet(data / "split.parquet")
    write_json(data / "data.json", {"show_rows": show})
    return folder


PEOPLE = pd.DataFrame({"age": [41.0, 52.0, 63.0, 52.0], "name": ["Ada", "Bo", "Cy", "Bo"]})


def test_rows_that_may_not_be_shown_are_named_and_not_shown(tmp_path: Path) -> None:
    changed = PEOPLE.assign(age=[41.0, 52.5, 63.0, 52.0], name=["Ada", "Bo", "Cy", "Dee"])
    for show in (True, False):
        left, right = (study(tmp_path / f"{name}{show}", f, show) for name, f in (("left", PEOPLE), ("right", changed)))
        found = compare_folders(left, right)
        assert [m.where for m in found] == ["row 2, column age", "row 4, column name"]
        assert ("Dee" in str(found[1])) == show and ("52.5" in str(found[0])) == show
    assert str(changed_rows(left, right)) == "2 rows were changed: rows 2, 4"


def test_row_numbers_are_those_of_the_source(tmp_path: Path) -> None:
    left = study(tmp_path / "left", PEOPLE, rows=[1, 3, 4, 9])
    right = study(tmp_path / "right", PEOPLE.assign(age=[41.0, 52.0, 63.0, 53.0]), rows=[1, 3, 4, 9])
    assert changed_rows(left, right).changed == [9]
    assert compare_folders(left, right)[0].where == "row 9, column age"


@settings(max_examples=25, deadline=None)
@given(cells=st.lists(st.integers(0, 3), min_size=1, max_size=12), data=st.data())
def test_changed_rows(tmp_path_factory: pytest.TempPathFactory, cells: list[int], data: Any) -> None:
    folder = tmp_path_factory.mktemp("rows")
    place = data.draw(st.integers(0, len(cells) - 1))
    versions = {
        "same": cells,
        "changed": [*cells[:place], 99, *cells[place + 1 :]],
        "added": [*cells[:place], 99, *cells[place:]],
        "removed": [*cells[:place], *cells[place + 1 :]],
        "turned": cells[::-1],
    }
    left = study(folder / "left", pd.DataFrame({"x": cells}))
    found = {
        name: changed_rows(left, study(folder / name, pd.DataFrame({"x": v}, dtype="int64")))
        for name, v in versions.items()
    }
    assert not found["same"]
    assert found["changed"].changed == [place + 1] and not found["changed"].added
    assert found["added"].added == [place + 1] and not found["added"].removed
    assert len(found["removed"].removed) == 1 and not found["removed"].added
    assert cells[found["removed"].removed[0] - 1] == cells[place]
    assert found["turned"].moved == (cells != cells[::-1])


def test_a_file_that_is_gone_or_broken_is_a_difference(tmp_path: Path) -> None:
    left, right = document(tmp_path, "left", {"a": 1}), document(tmp_path, "right", {"a": 1})
    (left / "training" / "more.json").write_text("{")
    assert compare_folders(left, right)[0].right == "(absent)"
    (right / "training" / "more.json").write_text("{")
    assert compare_folders(left, right) == []
    (right / "training" / "more.json").write_text("{}")
    assert "not readable" in compare_folders(left, right)[0].where
    (right / "training" / "more.json").write_text("[" * 100_000)
    assert "not readable" in compare_folders(left, right)[0].where
    (left / "training" / "more.json").unlink()
    (right / "training" / "more.json").unlink()
    for folder in (left, right):
        (folder / "training" / "training.ipynb").write_text(str(folder))
        (folder / "training" / "picture.svg").write_text(str(folder))
        (folder / "training" / ".hidden").write_text(str(folder))
        (folder / "training" / "note.txt").write_text("the same")
    assert compare_folders(left, right) == []


def test_a_long_text_is_shown_where_it_differs(tmp_path: Path) -> None:
    text = "word " * 200
    left, right = document(tmp_path, "left", text), document(tmp_path, "right", text[:700] + "X" + text[700:])
    found = compare_folders(left, right)[0]
    assert "X" in found.right and len(found.right) < 130 and "X" not in found.left


@pytest.mark.parametrize("tolerance", [-1e-9, 2, math.nan, math.inf])
def test_a_tolerance_that_is_none(tolerance: float) -> None:
    with pytest.raises(ParameterError, match="0 to 1"):
        check_tolerance(tolerance)


def test_environments() -> None:
    one = {"python": "3.11.7", "platform": "Linux", "dependencies": {"a": "1", "b": "1"}}
    two = {"python": "3.11.8", "platform": "Linux", "dependencies": {"a": "1", "c": "1"}}
    assert [d["name"] for d in environment_differences(one, two)] == ["Python", "b", "c"]
    sentence = str(judge(Equality([]), environment_differences(one, two), 0.0))
    assert sentence.startswith("WITHIN TOLERANCE") and "Python 3.11.7 → 3.11.8, b 1 → (absent)" in sentence
