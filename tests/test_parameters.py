"""Parameters: what a word means in the type that its notebook declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iris_nb.errors import ParameterError
from iris_nb.parameters import apply_layer, default_values, parse_value, read_layer, read_parameters

CELL = """
drop: list[str] = []  # columns to leave out
target: str = ""  # column to predict
seed: int = 0  # seed
least: float = 0.5  # a number
sure: bool = False  # yes or no
more: dict = {}  # others
"""
DECLARED = {p.name: p for p in read_parameters(CELL)}
NAMES = ["1.10", "2020_01", "010", "0x1F", "1:30", "no", "2020-01-01", "2020-99-99", "null", "~", "1e3", ".5", "yes"]


def from_file(text: str, folder: Path) -> dict[str, Any]:
    """The values of a stage after a parameter file."""
    path, declared = folder / "mine.yaml", {"data": list(DECLARED.values())}
    path.write_text(text)
    values = default_values(declared)
    apply_layer(values, declared, read_layer(path), "file")
    return values.values["data"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_list_is_what_was_written(name: str, tmp_path: Path) -> None:
    for text in (f"[{name}]", f"[a, {name}]", f'["{name}"]', name):
        found = parse_value(DECLARED["drop"], text)
        assert found[-1] == name and all(type(item) is str for item in found)
    values = from_file(f"data:\n  drop: [{name}]\n  target: {name}\n", tmp_path)
    assert values["drop"] == [name] and values["target"] == name and type(values["target"]) is str
    assert from_file(f"data:\n  drop:\n  - {name}\n", tmp_path)["drop"] == [name]


@pytest.mark.parametrize("text", ["010", "-010", "0x1F", "0b11", "1:30", "1_000", "190:20:30.15", "1_0.5", "1:30.5"])
@pytest.mark.parametrize("name", ["seed", "least"])
def test_a_number_that_people_read_otherwise_is_refused(name: str, text: str, tmp_path: Path) -> None:
    for give in (
        lambda: parse_value(DECLARED[name], text),
        lambda: from_file(f"data: {{{name}: {text}}}", tmp_path),
    ):
        with pytest.raises(ParameterError) as caught:
            give()
        assert f"'{name}'" in str(caught.value).replace("data.", "") and text in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "7", 7), ("seed", "-7", -7), ("seed", "0", 0), ("seed", "+3", 3), ("least", "1e-12", 1e-12),
        ("least", "0.05", 0.05), ("least", ".5", 0.5), ("least", "2", 2.0), ("least", "1.5e+3", 1500.0),
        ("sure", "true", True), ("sure", "yes", True), ("sure", "Off", False),
        ("more", "{a: 1, b: [x, 2.5], yes: null}", {"a": 1, "b": ["x", 2.5], "true": None}),
    ],
)  # fmt: skip
def test_other_values_are_read_as_before(name: str, text: str, value: Any, tmp_path: Path) -> None:
    for found in (parse_value(DECLARED[name], text), from_file(f"data:\n  {name}: {text}\n", tmp_path)[name]):
        assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["seed: seven", "seed: '7'", "seed:", "seed: 1.5", "drop:", "sure: 1", "least: .inf"])
def test_values_of_another_type_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="which is not"):
        from_file(f"data:\n  {text}\n", tmp_path)


def test_a_file_without_values_changes_nothing(tmp_path: Path) -> None:
    assert from_file("", tmp_path) == from_file("{}", tmp_path) == {p.name: p.default for p in DECLARED.values()}
    base = "data: &all {seed: 3}\n"
    assert from_file(base, tmp_path)["seed"] == 3
