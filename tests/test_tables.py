"""Reading tables: exactly, or not at all."""

import gzip
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from iris_nb.data import BUNDLED, load_table, prepare_data, project_home
from iris_nb.errors import InputError, TableError
from iris_nb.files import plain_name, sha256_file
from iris_nb.tables import canonical_sha256, read_table


def read(folder: Path, data: bytes, name: str = "x.csv", **options: str) -> pd.DataFrame:
    (folder / name).write_bytes(data)
    return read_table(folder / name, **options).frame


def notes(folder: Path, data: bytes, name: str = "x.csv", **options: str) -> str:
    (folder / name).write_bytes(data)
    return "\n".join(read_table(folder / name, **options).notes)


# ---- forms ----------------------------------------------------------------------------------------------------------

EXPECTED = pd.DataFrame({"x": [1.5, 2.25], "größe": [3, 4], "y": ["a", "b"]})
FORMS = {
    "comma.csv": "x,größe,y\n1.5,3,a\n2.25,4,b\n".encode(),
    "bom.csv": "\ufeffx,größe,y\r\n1.5,3,a\r\n2.25,4,b\r\n".encode(),
    "old-mac.csv": "x,größe,y\r1.5,3,a\r2.25,4,b".encode(),
    "semicolon.csv": "x;größe;y\n1,5;3;a\n2,25;4;b\n".encode(),
    "tab.tsv": "x\tgröße\ty\n1.5\t3\ta\n2.25\t4\tb\n".encode(),
    "bar.txt": "x|größe|y\n1.5|3|a\n2.25|4|b\n".encode(),
    "quoted.csv": '"x","größe","y"\n"1.5","3","a"\n\n"2.25","4","b"\n'.encode(),
    "spaced.csv": " x , größe , y \n 1.5 , 3 , a \n 2.25 , 4 , b \n".encode(),
    "lines.jsonl": '{"x": 1.5, "größe": 3, "y": "a"}\n{"x": 2.25, "größe": 4, "y": "b"}\n'.encode(),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_table(tmp_path, name, packed):
    data = gzip.compress(FORMS[name]) if packed else FORMS[name]
    frame = read(tmp_path, data, name + ".gz" if packed else name)
    pd.testing.assert_frame_equal(frame, EXPECTED)
    assert canonical_sha256(frame) == canonical_sha256(EXPECTED)


def test_parquet_and_latin_1(tmp_path):
    EXPECTED.to_parquet(tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "x.parquet").frame, EXPECTED)
    latin = "x,größe,y\n1.5,3,a\n2.25,4,b\n".encode("latin-1")
    pd.testing.assert_frame_equal(read(tmp_path, latin, encoding="latin-1"), EXPECTED)
    utf16 = "x,größe,y\n1.5,3,a\n2.25,4,b\n".encode("utf-16")
    pd.testing.assert_frame_equal(read(tmp_path, utf16, encoding="utf-16"), EXPECTED)


@pytest.mark.parametrize("name", ["row", "part", "", 'a "b"', "größe µ", "a,b", "<b>x</b>", "x\ny", "花"])
def test_column_names_are_kept(tmp_path, name):
    frame = pd.DataFrame({"first": [1, 2, 2], name or "part": [1.5, 2.5, 3.5], "y": ["a", "b", "b"]})
    sink = io.StringIO()
    frame.to_csv(sink, index=False)
    assert list(read(tmp_path, sink.getvalue().encode())) == list(frame)


def test_row_names_without_a_name_are_left_away(tmp_path):
    data = b'"","x","y"\n"1",1.5,"a"\n"2",2.5,"b"\n'
    assert list(read(tmp_path, data)) == ["x", "y"]
    assert "left away" in notes(tmp_path, data)


# ---- kinds ----------------------------------------------------------------------------------------------------------

KINDS = [
    (["1", "-2", "+3"], [1, -2, 3], "int64"),
    (["1", "NA", "3"], [1, None, 3], "Int64"),
    (["1.5", "?", "1e3"], [1.5, np.nan, 1000.0], "float64"),
    (["1", "inf", "-Infinity"], [1.0, np.nan, np.nan], "float64"),
    (["1e999", "2", "3"], [np.nan, 2.0, 3.0], "float64"),
    (["0.1", "0.30000000000000004", "5e-324"], [0.1, 0.1 + 0.2, 5e-324], "float64"),
    (["true", "FALSE", "True"], [True, False, True], "bool"),
    (["true", "", "False"], [True, None, False], "boolean"),
    (["yes", "no", "yes"], ["yes", "no", "yes"], "str"),
    (["007", "8", "9"], ["007", "8", "9"], "str"),
    (["-01", "8", "9"], ["-01", "8", "9"], "str"),
    (["12345678901234567890", "1", "2"], ["12345678901234567890", "1", "2"], "str"),
    (["9007199254740993", "1", "2"], [9007199254740993, 1, 2], "int64"),
    (["0x10", "1", "2"], ["0x10", "1", "2"], "str"),
    (["1_000", "1", "2"], ["1_000", "1", "2"], "str"),
    (["2026-11-22", "NA", "1999-01-01"], ["2026-11-22", None, "1999-01-01"], "datetime64[us]"),
    (["22.11.2026", "1.2.2026", "3.4.2026"], ["2026-11-22", "2026-02-01", "2026-04-03"], "datetime64[us]"),
    (["2026-11-22 12:30", "2026-11-22T12:30:59.5", "2026-11-22"], None, "datetime64[us]"),
    (["13/04/2026", "03/04/2026", "01/01/2026"], ["2026-04-13", "2026-04-03", "2026-01-01"], "datetime64[us]"),
    (["04/13/2026", "03/04/2026", "01/01/2026"], ["2026-04-13", "2026-03-04", "2026-01-01"], "datetime64[us]"),
    (["03/04/2026", "05/06/2026", "01/01/2026"], ["03/04/2026", "05/06/2026", "01/01/2026"], "str"),
    (["2026-02-30", "2026-01-01", "2026-01-02"], ["2026-02-30", "2026-01-01", "2026-01-02"], "str"),
    (["", "NA", "?"], [np.nan] * 3, "float64"),
    (["a", "1", "2"], ["a", "1", "2"], "str"),
]


@pytest.mark.parametrize("decimal", ["", "."])
@pytest.mark.parametrize(("cells", "values", "dtype"), KINDS, ids=[" ".join(k[0])[:24] for k in KINDS])
def test_kind_of_a_column(tmp_path, cells, values, dtype, decimal):
    data = "\n".join(["x;y", *(f"{cell};b" for cell in cells)]).encode()
    column = read(tmp_path, data, decimal=decimal)["x"]
    assert str(column.dtype) == dtype
    if values is not None:
        pd.testing.assert_series_equal(column, pd.Series(values, dtype=dtype, name="x"))


MARKS = [
    ("a;b\n1,5;2,25\n", "", [1.5, 2.25]),
    ("a;b\n1.234,5;0,5\n", "", [1234.5, 0.5]),
    ("a;b\n1.234;0,5\n", "", [1234.0, 0.5]),
    ("a;b\n1,234;0.5\n", "", [1234.0, 0.5]),
    ("a;b\n1,234;5\n", ",", [1.234, 5]),
    ("a;b\n1,234;5\n", ".", [1234, 5]),
    ("a;b\n1.234;5\n", ",", [1234, 5]),
    ("a;b\n1.234;5\n", "", [1.234, 5]),
    ('a,b\n"1,5",2\n', "", [1.5, 2]),
]


@pytest.mark.parametrize(("text", "decimal", "values"), MARKS)
def test_decimal_mark(tmp_path, text, decimal, values):
    assert read(tmp_path, text.encode(), decimal=decimal).iloc[0].tolist() == values


def test_under_a_decimal_comma_a_point_is_not_a_decimal_mark(tmp_path):
    frame = read(tmp_path, b"a;b\n1.5;2,5\n1.25;3,5\n", decimal=",")
    assert frame["a"].tolist() == ["1.5", "1.25"] and frame["b"].tolist() == [2.5, 3.5]
    assert "keep the column text" in notes(tmp_path, b"a;b\n1.5;2,5\n1.25;3,5\n", decimal=",")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"a,y\n1,x\ninf,x\n", "Infinite"),
        (b"a,y\n1,x\n?,x\n", "'?'"),
        (b"a,y\n1,x\n2,None\n", "'None'"),
        (b"a;y\n1,5;x\n", "decimal comma"),
        (b"a,y\n007,x\n", "leading zero"),
        (b"a,y\n1,x\n2,x\n-,x\n", "'-'"),
        (b"a,y\n01/02/2026,x\n", "two ways"),
        (b"a,y\n2026-01-01T00:00:00+02:00,x\n", "UTC"),
        (b"a,y\n2026-01-01T00:00:00.123+02:00,x\n", "UTC"),
        (b"a,y\n2026-01-01 00:00:00.5Z,x\n2026-01-01,y\n", "times without one beside them were taken for UTC"),
        (b"5.1,3.5,setosa\n4.9,3.0,setosa\n", "looks like data"),
        (b"a, y\n1, x\n2, z\n", "Spaces"),
    ],
)
def test_what_was_decided_is_said(tmp_path, data, word):
    assert word in notes(tmp_path, data)


def test_plain_tables_need_no_note(tmp_path):
    assert notes(tmp_path, b"a,b,c,y\n1,1.5,2026-01-01,x\n,,,\n3,2.5,2026-01-02,z\n") == ""


# ---- what is refused ------------------------------------------------------------------------------------------------

BAD = {
    "empty": (b"", "is empty"),
    "blank": (b" \n \n", "is empty"),
    "header only": (b"a,b\n", "no rows"),
    "header only, no newline": (b"a,b", "no rows"),
    "short": (b"a,b\n1,2\n3\n", "line 3 of x.csv has 1 value, but the first line names 2 columns"),
    "long": (b"a,b\n\n1,2\n3,4,5\n", "line 4 of x.csv has 3 values"),
    "short in quotes": (b'a,b\n"1\n1",2\n3\n', "line 4 of x.csv has 1 value"),
    "duplicate": (b"a,b,a\n1,2,3\n", "more than once: 'a'"),
    "duplicate after trimming": (b"a,b, a\n1,2,3\n", "more than once: 'a'"),
    "unnamed": (b"a,,c\n1,2,3\n", "column 2 of x.csv has no name"),
    "unnamed values": (b",b\n1,2\n1,3\n", "column 1 of x.csv has no name"),
    "nul": (b"a,b\n1,\x002\n", "line 2 of x.csv holds a NUL byte"),
    "latin-1": ("a,b\n1,größe\n".encode("latin-1"), "line 2 of x.csv is not UTF-8"),
    "utf-16": ("a,b\n1,2\n".encode("utf-16"), "--encoding utf-16"),
    "open quote": (b'a,b\n1,"2\n3,4\n', "never closed"),
    "swallowing quotes": (b'a,b\n1,"2\n3,"4\n', "quotation marks"),
    "open quote in the header": (b'a,"b\n1,2\n', "never closed"),
    "broken gzip": (gzip.compress(b"a,b\n1,2\n" * 100)[:-20], "damaged gzip"),
    "excel": (b"PK\x03\x04....", "Excel"),
    "long cell": (b'a,b\n"' + b"x" * 140_000 + b'",1\n', "a cell is longer than 131,072 letters"),
    "ambiguous": (b"a;b\n1,234;x\n", "-p decimal="),
    "both marks": (b"a;b\n1,5;2.25\n", "-p decimal="),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_text_is_one_sentence(tmp_path, case):
    data, said = BAD[case]
    with pytest.raises(TableError) as error:
        read(tmp_path, data)
    assert said in str(error.value) and "\n" not in str(error.value) and error.value.exit_code == 2
    assert error.value.__suppress_context__ or error.value.__context__ is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a": 1}\n\n{"a": 2\n', "line 3 of x.jsonl is not a proper JSON object"),
        (b'{"a": 1}\n[2]\n', "line 2"),
        (b'{"a": 1}\n{"a": "x"}\n', "line 2 of x.jsonl: 'a' holds text"),
        (b'{"a": true}\n{"a": 1}\n', "line 2 of x.jsonl: 'a' holds a number"),
        (b'{"a": [1]}\n', "a list or an object"),
        (b'{"a": {"b": 1}}\n', "a list or an object"),
        (b'{"a": 1}\n{"a": 123456789012345678901}\n', "64 bits"),
        (b'{"a": 1152921504606846977}\n{"a": 1.5}\n', "whole numbers beyond 2^53 beside fractions"),
        (b'{"a": "x"}\n{"a": "x\\ud800"}\n', "line 2 of x.jsonl holds \\ud800, which is half of a letter"),
        (b'{"a\\uD800": "x"}\n', "line 1 of x.jsonl holds \\ud800"),
        (b'[{"a": 1}]', "one object a line"),
        (b'{"a": 1, "": 2, "b": 1}\n', "column 2 of x.jsonl has no name"),
        (b'{"a": "\xff"}\n', "line 1 of x.jsonl is not UTF-8"),
        (b"{}\n{}\n", "no columns"),
        (b'{"a": 1, "a": 2}\n', "a key comes twice"),
    ],
)
def test_bad_json_lines(tmp_path, data, said):
    with pytest.raises(TableError, match=r"^[^\n]*$") as error:
        read(tmp_path, data, "x.jsonl")
    assert said in str(error.value)


def test_whole_letters_in_two_escapes_are_read(tmp_path):
    assert read(tmp_path, b'{"a": "\\ud83c\\udf37"}\n', "x.jsonl")["a"].tolist() == ["🌷"]


@pytest.mark.parametrize("kind", [pa.timestamp("ms"), pa.timestamp("ms", "UTC"), pa.date32()], ids=str)
def test_dates_beyond_reach_are_refused(tmp_path, kind):
    far = pa.array([2**31 - 1 if pa.types.is_date(kind) else 2**60, 1], kind)
    parquet.write_table(pa.table({"a": far, "y": ["u", "v"]}), tmp_path / "x.parquet")
    with pytest.raises(TableError, match=r"'a' of x\.parquet has dates more than 290,000 years away"):
        read_table(tmp_path / "x.parquet")
    fine = pa.array([1_700_000_000_123_456_789], pa.timestamp("ns"))
    parquet.write_table(pa.table({"a": fine}), tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet").frame["a"][0] == pd.Timestamp("2023-11-14T22:13:20.123456")


def test_bad_parquet(tmp_path):
    pd.DataFrame({"a": [[1], [2]]}).to_parquet(tmp_path / "nested.parquet")
    with pytest.raises(TableError, match=r"'a' of nested[.]parquet holds list"):
        read_table(tmp_path / "nested.parquet")
    with pytest.raises(TableError, match="not a Parquet file"):
        read(tmp_path, b"a,b\n1,2\n", "x.parquet")
    EXPECTED.to_parquet(tmp_path / "whole.parquet")
    data = (tmp_path / "whole.parquet").read_bytes()
    with pytest.raises(TableError, match="damaged Parquet"):
        read(tmp_path, data[: len(data) // 2], "x.parquet")
    EXPECTED.head(0).to_parquet(tmp_path / "none.parquet")
    with pytest.raises(TableError, match="no rows"):
        read_table(tmp_path / "none.parquet")


def test_bad_paths_and_options(tmp_path):
    (tmp_path / "flowers.csv").write_bytes(b"a,b\n1,2\n")
    for path, said in (
        (tmp_path / "flowrs.csv", "did you mean 'flowers.csv'"),
        (tmp_path, "is a folder"),
        (tmp_path / "flowers.csv" / "x", "no file"),
    ):
        with pytest.raises(TableError, match=said):
            read_table(path)
    for options in ({"encoding": "latin-x"}, {"delimiter": ";;"}, {"decimal": "x"}, {"delimiter": ",", "decimal": ","}):
        with pytest.raises(TableError):
            read_table(tmp_path / "flowers.csv", **options)
    for source, said in (("irsi", "did you mean 'iris'"), ("", "no table is named")):
        with pytest.raises(TableError, match=said):
            load_table(source)


# ---- properties -----------------------------------------------------------------------------------------------------

letters = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=8
)
columns = {
    "number": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "text": letters.map(lambda text: f"t{text}"),
}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_csv_parquet_and_json_lines_have_one_hash(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("hash")
    size = data.draw(st.integers(2, 12))
    frame = pd.DataFrame(
        {kind: data.draw(st.lists(cell, min_size=size, max_size=size)) for kind, cell in columns.items()}
    )
    frame["number"] = frame["number"].astype("float64")
    frame.to_csv(folder / "x.csv", index=False)
    frame.to_parquet(folder / "x.parquet")
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    hashes = {canonical_sha256(read_table(folder / f"x.{form}").frame) for form in ("csv", "parquet", "jsonl")}
    assert len(hashes) == 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text('ab1,;."\n \t|0', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(data)
    try:
        frame = read_table(path).frame
    except TableError as error:
        assert "\n" not in str(error)
    else:
        assert len(frame) and frame.columns.is_unique


@given(st.text(max_size=80))
def test_plain_names_are_plain(text):
    assert set(plain_name(text)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") and 1 <= len(plain_name(text)) <= 60


# ---- the bundled tables ---------------------------------------------------------------------------------------------


def test_iris_is_fishers():
    from sklearn.datasets import load_iris

    path = project_home() / "data" / "raw" / "iris.csv"
    assert sha256_file(path) in (path.parent / "README.md").read_text()
    frame, bunch = load_table("iris").frame, load_iris()
    assert (frame.iloc[:, :4].to_numpy() == bunch.data).all()
    assert (frame["species"].to_numpy() == bunch.target_names[bunch.target]).all()
    assert frame.iloc[101].equals(frame.iloc[142])


@pytest.mark.parametrize(
    ("name", "features", "classes"), [("iris", 4, 3), ("wine", 13, 3), ("breast_cancer", 30, 2), ("digits", 61, 10)]
)
def test_bundled_tables_lose_no_measurement(name, features, classes):
    study = prepare_data(name, "", [], [], "", "", "", "", "", 0.2, 0, "auto")
    assert name in BUNDLED and study.show_rows and len(study.contract.features) == features
    assert len(study.contract.classes) == classes
    assert all(column.kind == "constant" for column in study.contract.left_out)


# ---- the stage ------------------------------------------------------------------------------------------------------


def prepare(path: Path, **changes: object):
    options = {
        "target": "", "drop": [], "keep": [], "positive": "", "encoding": "", "delimiter": "", "decimal": "",
        "contracts_dir": "", "test_size": 0.2, "seed": 0, "show_rows": "auto",
    }  # fmt: skip
    return prepare_data(str(path), **(options | changes))  # type: ignore[arg-type]


STAGE = {
    "no target": (b"a,b\n1,2\n3,4\n", {}, "--target"),
    "near target": (b"a,kind\n1,x\n3,y\n", {"target": "knid"}, "did you mean 'kind'"),
    "all missing": (b"a,y\n1,\n3,\n", {"target": "y"}, "missing in all 2 rows"),
    "continuous": (b"a,y\n" + b"".join(b"%d,%d.5\n" % (i % 3, i) for i in range(40)), {"target": "y"}, "regression"),
    "one class": (b"a,y\n1,x\n3,x\n", {"target": "y"}, "one class only"),
    "class called None": (b"a,y\n1,None\n3,x\n4,x\n", {"target": "y"}, "one row has 'None' as target, which is read"),
    "lonely class": (b"a,y\n1,x\n3,x\n4,z\n", {"target": "y"}, "'z'"),
    "one row": (b"a,y\n1,x\n", {"target": "y"}, "one row"),
    "only the target": (b"y\nx\nx\nz\nz\n", {"target": "y"}, "no column is left"),
    "dropped target": (b"a,y\n1,x\n2,x\n3,z\n4,z\n", {"target": "y", "drop": ["y"]}, "cannot drop"),
    "drop unknown": (b"a,y\n1,x\n2,x\n3,z\n4,z\n", {"target": "y", "drop": ["A1"]}, "no such column"),
    "keep empty": (b"a,b,y\n1,,x\n2,,x\n3,,z\n4,,z\n", {"target": "y", "keep": ["b"]}, "no value"),
    "positive": (b"a,y\n1,x\n2,x\n3,z\n4,z\n", {"target": "y", "positive": "q"}, "positive class 'q'"),
}


@pytest.mark.parametrize("case", STAGE)
def test_tables_that_cannot_be_studied(tmp_path, case):
    data, changes, said = STAGE[case]
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(InputError, match=r"^[^\n]*$") as error:
        prepare(tmp_path / "x.csv", **changes)
    assert said in str(error.value)


def test_rows_without_a_target_keep_the_others_numbers(tmp_path):
    (tmp_path / "x.csv").write_text("a,label\n" + "".join(f"{i}.5,{['u', '', 'v'][i % 3]}\n" for i in range(30)))
    study = prepare(tmp_path / "x.csv")
    assert len(study.frame) == 20 and study.rows[:3].tolist() == [1, 3, 4]
    assert any("missing in 10 of 30" in note for note in study.facts["notes"])
    assert not any("as target" in note for note in study.facts["notes"]), "an empty cell is no word"


def test_a_class_called_like_a_mark_of_missing_is_named(tmp_path):
    (tmp_path / "x.csv").write_text("a,y\n" + "".join(f"{i}.5,{['None', 'Mild', 'Bad'][i % 3]}\n" for i in range(30)))
    said = "10 rows have 'None' as target, which is read as missing: if it is a class, rename it."
    assert said in prepare(tmp_path / "x.csv", target="y").facts["notes"]
