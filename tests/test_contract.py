"""The contract: inferred, read, and held to."""

from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iris_nb.cells import Checker
from iris_nb.contract import (
    KINDS,
    Column,
    Contract,
    check_contract,
    check_target,
    choose_target,
    conform,
    contract_from_dict,
    contract_to_dict,
    infer_contract,
    read_contract,
    sort_labels,
    unit_in_name,
    write_contract,
)
from iris_nb.data import load_table, prepare_data, project_home, save_data
from iris_nb.errors import ContractError, RowsError, TableError
from iris_nb.files import read_json, write_json
from iris_nb.folders import RunFolder
from iris_nb.packing import distinctive_values, holds_values
from iris_nb.rows import read_rows, remarks
from iris_nb.tracking import mirrored_files

random = np.random.default_rng(0)
N = 120


LEFT_OUT = [
    ("id", np.arange(N), "x"),
    ("id", np.arange(N)[::-1], "x"),
    ("id", random.permutation(N) + 1000, "x"),
    ("id", np.cumsum(random.integers(1, 9, N)), "x"),
    ("id", random.choice(10**9, N, replace=False), "ticket"),
    ("id", random.choice(10**6, 12, replace=False), "PatientID"),
    ("id", random.choice(10**6, 12, replace=False), "id_patient"),
    ("id", [f"P{i}" for i in random.permutation(N)], "plant"),
    ("constant", [3.5] * N, "x"),
    ("constant", ["a"] * 9 + [None], "x"),
    ("empty", [None] * N, "x"),
    ("text", [f"a sentence about {i % 100}" for i in range(N)], "remark"),
    ("text", [str(i // 5) for i in range(6000)], "code"),
]
FEATURES = [
    ("number", np.arange(N) * 1.0, "x"),
    ("number", random.normal(size=N), "id"),
    ("integer", random.normal(50_000, 9_000, N).astype(int), "income"),
    ("integer", np.unique(random.lognormal(9, 1, 300).astype(int))[random.permutation(200)], "price"),
    ("integer", random.integers(0, 40, N), "age"),
    ("integer", [5, 3, 8, 1, 9, 2, 7, 4], "count"),
    ("category", [f"street {i % 40}" for i in range(N)], "street"),
    ("category", ["a", "b", "c", "d", "e"], "x"),
    ("boolean", [True, False] * 10, "x"),
    ("date", pd.date_range("2026-01-01", periods=N), "day"),
]


@pytest.mark.parametrize(("kind", "values", "name"), LEFT_OUT + FEATURES)
def test_roles(kind, values, name):
    frame = pd.DataFrame({name: values})
    frame["other"], frame["y"] = np.arange(len(frame)) % 3 + 0.5, np.arange(len(frame)) % 2
    column = infer_contract(frame, "t", "y").column(name)
    assert column.kind == kind and column.is_feature == (kind in KINDS) == (column.reason == "")
    if kind not in KINDS and kind != "empty":
        assert infer_contract(frame, "t", "y", keep=[name]).column(name).is_feature


@pytest.mark.parametrize(("rows", "most"), [(50, 0), (80, 0), (110, 2)])
def test_a_random_measurement_is_hardly_ever_an_id(rows, most):
    lost = 0
    for seed in range(100):
        values = np.unique(np.random.default_rng(seed).normal(50_000, 9_000, rows).astype(int))
        values = np.random.default_rng(seed).permutation(values)
        frame = pd.DataFrame({"income": values, "other": values % 3, "y": values % 2})
        lost += not infer_contract(frame, "t", "y").column("income").is_feature
    assert lost <= most


def test_names_of_targets():
    for name in ("target", "Label", "CLASS", "species"):
        assert choose_target(["a", name], "") == name
    assert choose_target(["class", "label", "b"], "b") == "b"
    with pytest.raises(TableError, match="did you mean 'label'"):
        choose_target(["a", "label"], "lable")


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([1, 2, 1, 2], ["1", "2"]),
        ([1.0, 2.0, 1.0, 2.0], ["1", "2"]),
        ([0.5, 1.0] * 5, ["0.5", "1"]),
        ([True, False, True, False], ["false", "true"]),
        (pd.Categorical(["b", "a", "b", "a"], categories=["b", "a", "z"]), ["a", "b"]),
        (np.repeat(np.arange(30), 10), [str(i) for i in range(30)]),
        ([f"c{i}" for i in range(200)] * 2, [f"c{i}" for i in range(200)]),
    ],
)
def test_targets(values, classes):
    assert list(check_target(pd.Series(values, name="y"))) == classes


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (random.normal(size=50), "regression"),
        (random.integers(0, 1000, 300), "regression"),
        (np.repeat(random.normal(size=12), 3), "regression"),
        (pd.to_datetime(["2026-01-01"] * 4), "dates"),
        (["a"] * 5, "one class"),
        (["a", "a", "b", "c"], "'b', 'c'"),
        ([None, None], "missing in all"),
        ([f"r{i}" for i in range(9)], "different value in each"),
    ],
)
def test_what_cannot_be_a_target(values, said):
    with pytest.raises(TableError, match=said):
        check_target(pd.Series(values, name="y"))


def test_units_in_names():
    found = [
        unit_in_name(name)
        for name in ("petal length (cm)", "weight [kg]", "mass_(mg/l)", "T (°C)", "x (mean)", "child(s)", "x (min)")
    ]
    assert found == ["cm", "kg", "mg/l", "°C", "", "", ""]


# ---- conform --------------------------------------------------------------------------------------------------------

COLUMNS = (
    Column("n", "number", "feature"),
    Column("i", "integer", "feature"),
    Column("b", "boolean", "feature"),
    Column("c", "category", "feature", categories=("1", "x")),
    Column("d", "date", "feature"),
)
SAME = [
    {"n": [1.0, None], "i": [1, 2], "b": [True, None], "c": ["x", None], "d": pd.to_datetime(["2026-01-01", None])},
    {"n": [1, None], "i": [1.0, 2.0], "b": [1, None], "c": ["x", None], "d": ["2026-01-01", None]},
    {"n": [1, np.inf], "i": [1, 2], "b": ["True", None], "c": ["x", np.nan], "d": [date(2026, 1, 1), None]},
    {"n": pd.array([1, None], dtype="Int64"), "i": pd.array([1, 2], dtype="Int8"), "b": pd.array([True, None], "boolean"),
     "c": pd.Categorical(["x", None]), "d": [datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), None]},
]  # fmt: skip


@pytest.mark.parametrize("rows", SAME)
def test_conform_gives_one_shape(rows):
    frame = conform(pd.DataFrame(rows), COLUMNS)
    expected = pd.DataFrame(
        {
            "n": [1.0, np.nan],
            "i": [1.0, 2.0],
            "b": [1.0, np.nan],
            "c": pd.Series(["x", np.nan], dtype=object),
            "d": pd.Series(pd.to_datetime(["2026-01-01", None])).astype("datetime64[us]"),
        }
    )
    pd.testing.assert_frame_equal(frame, expected)


def test_conform_takes_rows_that_came_as_dictionaries():
    rows = pd.DataFrame([{"d": "2026-01-01", "c": 1, "b": False, "i": 3, "n": 1, "extra": [1]}])
    frame = conform(rows, COLUMNS)
    assert list(frame) == list("nibcd") and frame.loc[0, "c"] == "1" and frame.loc[0, "b"] == 0.0


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("n", ["1.5", "x"], "'n' must hold numbers, but row 1 holds '1.5'"),
        ("n", [1.5, "x"], "row 2 holds 'x'"),
        ("n", [True, False], "'n' must hold numbers"),
        ("n", [1, True], "row 2 holds True"),
        ("n", [1, [2]], r"row 2 holds \[2\]"),
        ("i", [1, 2.5], "'i' must hold whole numbers, but row 2 holds"),
        ("b", [True, "maybe"], "'b' must hold true or false, but row 2 holds 'maybe'"),
        ("b", [0, 2], "row 2 holds"),
        ("c", ["x", {"a": 1}], "'c' must hold single texts"),
        ("d", ["2026-01-01", "yesterday"], "'d' must hold dates"),
        ("d", [1, 2], "'d' must hold dates"),
    ],
)
def test_conform_refuses_what_does_not_fit(column, values, said):
    frame = pd.DataFrame({**SAME[0], column: values})
    with pytest.raises(RowsError, match=said):
        conform(frame, COLUMNS)


def test_conform_names_all_that_is_missing():
    with pytest.raises(RowsError, match="lack the columns 'i', 'c'"):
        conform(pd.DataFrame(SAME[0]).drop(columns=["i", "c"]), COLUMNS)
    twice = pd.concat([pd.DataFrame(SAME[0])] * 2, axis=1)
    with pytest.raises(RowsError, match="more than once"):
        conform(twice, COLUMNS)
    empty = conform(pd.DataFrame(SAME[0]).head(0), COLUMNS)
    assert len(empty) == 0 and [str(kind) for kind in empty.dtypes] == [
        "float64",
        "float64",
        "float64",
        "object",
        "datetime64[us]",
    ]


# ---- file -----------------------------------------------------------------------------------------------------------


def few() -> Contract:
    frame = pd.DataFrame(
        {"n": [1.5, 2.5, None, 1.0], "k": ["a", "b", "a", "b"], "row": [4, 5, 6, 7], "y": [0, 1, 0, 1]}
    )
    return infer_contract(frame, "few", "y", keep=["row"])


def test_the_file_comes_back(tmp_path):
    path = write_contract(tmp_path / "few.json", few())
    assert read_contract(path) == few() == Contract.from_dict(few().to_dict())


SLIPS = [
    (lambda d: d.pop("format"), '"format": 1'),
    (lambda d: d.update(columns={}), "'columns' must be a list"),
    (lambda d: d["columns"][0].pop("kind"), "has no 'kind'"),
    (lambda d: d["columns"][0].update(kind="float"), "'kind' must be one of"),
    (lambda d: d["columns"][0].update(role="feat"), "'role' must be one of"),
    (lambda d: d["columns"][0].update(minimun=1), "did you mean 'minimum'"),
    (lambda d: d["columns"][0].update(minimum="low"), "'minimum' must be"),
    (lambda d: d["columns"][0].update(nullable="yes"), "'nullable' must be true or false"),
    (lambda d: d["columns"][0].update(minimum=9, maximum=1), "'minimum' 9 lies above 'maximum' 1"),
    (lambda d: d["columns"][3].update(categories=["0", "0", "1"]), "'categories' has '0' more than once"),
    (lambda d: d["columns"][1].update(categories="ab"), "'categories' must be a list"),
    (lambda d: d.update(target="n"), "target is 'n'"),
    (lambda d: d["columns"].append(dict(d["columns"][0])), "more than once"),
    (lambda d: d["columns"][3].pop("categories"), "has no 'categories'"),
    (lambda d: [c.update(role="left out") for c in d["columns"][:3]], "no column of the role 'feature'"),
]


@pytest.mark.parametrize(("slip", "said"), SLIPS)
def test_slips_of_the_pen_are_named(tmp_path, slip, said):
    value = contract_to_dict(few())
    slip(value)
    write_json(tmp_path / "few.json", value)
    with pytest.raises(ContractError, match=said):
        read_contract(tmp_path / "few.json")


def test_files_that_are_no_contracts(tmp_path):
    (tmp_path / "x.json").write_text("{")
    for name, said in (("x.json", "is not JSON"), ("none.json", "there is no contract")):
        with pytest.raises(ContractError, match=said):
            read_contract(tmp_path / name)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_anything_else_is_refused(value):
    with pytest.raises(ContractError):
        contract_from_dict(value)


@given(st.lists(st.integers(-999, 999).map(str) | st.text(max_size=5), max_size=9))
def test_labels_are_sorted_whatever_they_are(labels):
    assert sorted(sort_labels(labels)) == sorted(set(labels)) and sort_labels(labels[::-1]) == sort_labels(labels)


# ---- check ----------------------------------------------------------------------------------------------------------


def test_a_table_keeps_the_contract_inferred_from_it():
    for name in ("iris", "wine", "breast_cancer", "digits"):
        table = load_table(name)
        contract = infer_contract(table.frame, name, "")
        assert check_contract(table.frame, table.rows, contract).total == 0


def test_violations_are_listed_by_row_and_column():
    contract = few()
    frame = pd.DataFrame(
        {"n": [1.5, 99.0, None, -1.0], "k": ["a", "q", None, "b"], "row": [4, 5, 6, 7], "y": [0, 1, 0, 2]}
    )
    found = check_contract(frame, np.array([1, 3, 5, 7]), contract)
    assert [(v.row, v.column, v.value) for v in found.listed] == [
        (3, "k", "q"), (3, "n", "99.0"), (5, "k", ""), (7, "n", "-1.0"), (7, "y", "2"),
    ]  # fmt: skip
    assert found.listed[2].rule == "must not be missing"
    capped = check_contract(frame, np.arange(4), contract, most=2)
    assert (len(capped.listed), capped.total) == (2, 5)


def test_columns_at_fault():
    frame = pd.DataFrame({"n": ["x"] * 4, "row": [4, 5, 6, 7], "z": 1, "y": [0, 1, 0, 1]})
    found = check_contract(frame, np.arange(4), few())
    assert {(v.row, v.column, v.rule) for v in found.listed} == {
        (None, "n", "must be of kind number"), (None, "k", "is missing"), (None, "z", "is not in the contract"),
    }  # fmt: skip


def test_dates_have_bounds():
    frame = pd.DataFrame({"d": pd.date_range("2026-01-01", periods=6), "y": [0, 1] * 3})
    inferred = Contract.from_dict(infer_contract(frame, "t", "y").to_dict())
    later, earlier = (frame.assign(d=frame["d"] + pd.Timedelta(days=days)) for days in (2, -2))
    assert check_contract(later, np.arange(6), inferred).total == 0, "rows are measured after those of the table"
    assert check_contract(earlier, np.arange(6), inferred).total == 2

    date, target = inferred.columns
    ended = replace(inferred, columns=(replace(date, maximum="2026-01-06T00:00:00"), target))
    assert check_contract(later, np.arange(6), ended).total == 2


def test_a_bound_may_have_a_zone():
    frame = pd.DataFrame({"d": pd.date_range("2026-01-01", periods=6), "y": [0, 1] * 3})
    said = infer_contract(frame, "t", "y").to_dict()
    said["columns"][0] |= {"minimum": "2026-01-02T02:00:00+02:00", "maximum": "2026-01-06T00:00:00Z"}
    contract = Contract.from_dict(said)
    assert [v.row for v in check_contract(frame, np.arange(6), contract).listed] == [0]
    checked = Checker(contract, "typed", (batch := pa.RecordBatch.from_pandas(frame[["d"]])).schema).check(batch)
    assert [fault.place for fault in checked.outside] == [0]
    assert list(remarks(read_rows(frame[["d"]], contract).columns, contract)) == [0]


def test_whole_numbers_may_be_stored_as_floats():
    frame = pd.DataFrame({"rooms": [1, 2, 3, 4] * 3, "y": [0, 1] * 6})
    contract = infer_contract(frame, "t", "y")
    stored = frame.astype({"rooms": "float64", "y": "float64"})
    assert check_contract(stored, np.arange(12), contract).total == 0
    stored.loc[3, "rooms"] = np.nan
    assert [(v.row, v.rule) for v in check_contract(stored, np.arange(12), contract).listed] == [
        (3, "must not be missing")
    ]
    stored.loc[3, "rooms"] = 2.5
    assert [v.rule for v in check_contract(stored, np.arange(12), contract).listed] == ["must be of kind integer"]


# ---- the reviewed contract ------------------------------------------------------------------------------------------


def prepare(source: str, contracts: Path | str = "", show_rows: str = "auto", **changes: object):
    options = {"target": "", "drop": [], "keep": []} | changes
    return prepare_data(source, *options.values(), "", "", "", "", str(contracts), 0.2, 0, show_rows)  # type: ignore[arg-type]


def test_iris_keeps_its_reviewed_contract():
    study = prepare("iris")
    assert study.facts["contract"] == "reviewed" and study.violations.total == 0
    assert {column.unit for column in study.contract.features} == {"cm"}
    assert read_contract(project_home() / "data" / "contracts" / "iris.json").reviewed


def own_iris(folder: Path, change) -> str:
    frame = change(load_table("iris").frame.copy())
    frame.to_csv(folder / "iris.csv", index=False)
    return str(folder / "iris.csv")


def test_a_file_called_iris_with_the_same_columns_is_held_to_it(tmp_path):
    source = own_iris(tmp_path, lambda frame: frame.assign(petal_length=frame["petal_length"] / 2.54))
    study = prepare(source)
    assert study.facts["contract"] == "reviewed" and study.facts["violations"] > 0
    assert study.violations.listed[0].rule == "must not be below 0.5 cm" if study.violations.listed else True
    gap = own_iris(tmp_path, lambda frame: frame.assign(petal_length=frame["petal_length"].where(frame.index != 3)))
    study = prepare(gap)
    assert study.violations.total == 1 and study.contract.column("petal_length").nullable


def test_a_file_called_iris_with_other_columns_is_not_held_to_it(tmp_path):
    names = {"sepal_length": "a", "sepal_width": "b", "petal_length": "c", "petal_width": "d"}
    study = prepare(own_iris(tmp_path, lambda frame: frame.rename(columns=names)))
    assert study.facts["contract"] == "inferred"
    assert any("was not used: it shares 1 of its 5 columns" in note for note in study.facts["notes"])
    study = prepare(own_iris(tmp_path, lambda frame: frame.rename(columns={"species": "class"})))
    assert any("it is about predicting 'species', not 'class'" in note for note in study.facts["notes"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.drop(columns="petal_width"), "'petal_width' is missing"),
        (lambda frame: frame.assign(colour="blue"), "'colour' is not in the contract"),
        (lambda frame: frame.assign(petal_width="wide"), "'petal_width' must be of kind number"),
    ],
)
def test_a_changed_iris_is_an_error(tmp_path, change, said):
    with pytest.raises(ContractError, match=said):
        prepare(own_iris(tmp_path, change))


def test_a_new_class_is_a_violation_and_a_class_of_this_run(tmp_path):
    species = load_table("iris").frame["species"].mask(lambda s: s.index < 10, "gigantea")
    study = prepare(own_iris(tmp_path, lambda frame: frame.assign(species=species)))
    assert study.violations.total == 10 and "gigantea" in study.contract.classes
    assert sum(study.facts["class_counts"]["gigantea"].values()) == 10


def test_drop_and_keep_change_a_reviewed_contract():
    study = prepare("iris", drop=["sepal_width"])
    assert study.contract.feature_names == ["sepal_length", "petal_length", "petal_width"] and study.contract.reviewed


def test_a_contract_folder_of_ones_own(tmp_path):
    write_contract(tmp_path / "wine.json", infer_contract(load_table("wine").frame, "wine", ""))
    assert prepare("wine", tmp_path).facts["contract"] == "reviewed"
    assert prepare("iris", tmp_path).facts["contract"] == "inferred"


# ---- what is left out by a rule about numbers, and what a private study shows ----------------------------------------


def test_a_column_of_numbers_that_is_left_out_is_named_with_its_remedy(tmp_path):
    frame = pd.DataFrame({"rank": range(40), "g": [0, 1, 2, 3] * 10, "x": np.arange(40) % 7, "y": ["a", "b"] * 20})
    frame.to_csv(tmp_path / "x.csv", index=False)

    def left(**changes):
        notes = prepare(str(tmp_path / "x.csv"), target="y", **changes).facts["notes"]
        return [note for note in notes if "was left out" in note]

    said = "'rank' was left out, because it numbers the rows without a gap; if it is a measurement, -p 'keep=[rank]' keeps it."
    assert left() == [said]
    assert left(keep=["rank"]) == left(drop=["rank"]) == []


@pytest.mark.parametrize("show_rows", ["no", "yes"])
def test_a_private_study_copies_no_value_of_a_row_to_mlflow(tmp_path, show_rows):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"salary": random.normal(50_000, 9_000, 40).round(4), "y": ["a", "b"] * 20})
    write_contract(tmp_path / "staff.json", replace(infer_contract(frame, "staff", "y"), reviewed=True))
    frame.loc[[7, 8], "salary"] = 987654.3219, 987654.3218
    frame.to_csv(tmp_path / "staff.csv", index=False)
    study = prepare(str(tmp_path / "staff.csv"), tmp_path, target="y", show_rows=show_rows)
    save_data(RunFolder(tmp_path / "run"), study)
    written = [(v["row"], v["column"]) for v in read_json(tmp_path / "run" / "data" / "violations.json")]
    assert written == [(8, "salary"), (9, "salary")]
    values = distinctive_values(tmp_path / "run")
    files = mirrored_files(tmp_path / "run")
    found = [path.name for path in files if holds_values(path.name, (tmp_path / "run" / path).read_bytes(), values)]
    assert len(values) > 30 and found == ([] if show_rows == "no" else ["table.parquet", "violations.json"])
