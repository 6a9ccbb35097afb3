"""Prediction of files: no row is lost, the same bytes each time, whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import Project, clean_environment
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from pyarrow import parquet
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from iris_nb.batch import BatchOptions, BatchResult, predict_file
from iris_nb.cells import Checker
from iris_nb.contract import Column, Contract
from iris_nb.errors import InputError, ParameterError, RowsError, TableError
from iris_nb.modelfile import save_model
from iris_nb.predictor import Predictor
from iris_nb.rows import NO_VALUE, read_rows
from iris_nb.streams import open_rows
from iris_nb.tables import read_table

ENDINGS = ("csv", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.gz")
CONTRACT = Contract(
    "meadow",
    "species",
    (
        Column("length", "number", "feature", True, minimum=0.0, maximum=10.0),
        Column("count", "integer", "feature", minimum=0, maximum=99),
        Column("colour", "category", "feature", True, categories=("blue", "violet", "007")),
        Column("species", "category", "target", categories=("setosa", "=virginica")),
    ),
)


@pytest.fixture(scope="session")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A model with a number, a whole number and a category."""
    random = np.random.default_rng(0)
    X = pd.DataFrame({"length": random.uniform(0, 10, 200), "count": random.integers(0, 100, 200).astype(float)})
    X["colour"] = random.choice(["blue", "violet", "007"], 200)
    y = np.where(X["length"] + X["count"] / 20 + (X["colour"] == "blue") > 8, "=virginica", "setosa")
    texts = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="(missing)", missing_values=np.nan),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    features = ColumnTransformer([("n", numbers, ["length", "count"]), ("c", texts, ["colour"])])
    pipeline = Pipeline([("features", features), ("model", LogisticRegression())]).fit(X, y)
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(folder, pipeline, {"classes": list(CONTRACT.classes)}, CONTRACT)
    return Predictor.load(folder)


def good_rows(rows: int, seed: int = 0) -> pd.DataFrame:
    """Rows that keep the contract, with columns that it does not know."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"plot": [f"{n:03d}" for n in range(rows)], "length": random.uniform(0, 10, rows).round(3)})
    frame.loc[::7, "length"] = np.nan
    frame["count"] = random.integers(0, 100, rows)
    frame["note"] = random.choice(["=1+1", "a, b", 'say "hi"', "x\ny", "größe", "-1.5"], rows)
    frame["colour"] = random.choice(np.array(["blue", "violet", "007", None], dtype=object), rows)
    return frame


def write(frame: pd.DataFrame, path: Path) -> Path:
    """A frame in the format that a name asks for."""
    match path.name.removesuffix(".gz").rpartition(".")[2]:
        case "parquet":
            frame.to_parquet(path, index=False)
        case "jsonl":
            lines = frame.astype(object).where(frame.notna(), None).to_dict("records")
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        case "tsv":
            frame.to_csv(path, index=False, sep="\t")
        case _:
            frame.to_csv(path, index=False)
    return path


def read(path: Path) -> pd.DataFrame:
    """An output, as plain as possible."""
    match path.name.removesuffix(".gz").rpartition(".")[2]:
        case "parquet":
            return pd.read_parquet(path)
        case "jsonl":
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            return pd.DataFrame([json.loads(line) for line in data.decode().splitlines()])
        case "tsv":
            return pd.read_csv(
                path, sep="\t", dtype={"plot": str, "colour": str}, keep_default_na=False, na_values=[""]
            )
        case _:
            return pd.read_csv(path, dtype={"plot": str, "colour": str}, keep_default_na=False, na_values=[""])


@pytest.mark.parametrize("source", ENDINGS)
@pytest.mark.parametrize("target", ENDINGS)
def test_every_format_gives_the_same_answers(predictor: Predictor, tmp_path: Path, source: str, target: str) -> None:
    frame = good_rows(100)
    path = write(frame, tmp_path / f"in.{source}")
    out = tmp_path / f"out.{target}"
    result = predict_file(predictor, path, out, BatchOptions(raw=True))
    table = read(out)
    assert (result.rows_in, result.rows_out, result.rows_rejected) == (100, 100, 0)
    expected = predictor.predict(frame.drop(columns=["plot", "note"]))
    assert table["label"].astype(str).tolist() == expected["label"].tolist()
    np.testing.assert_array_equal(table.filter(like="p:").to_numpy(), expected.filter(like="p:").to_numpy())
    assert (
        table["plot"].tolist() == frame["plot"].tolist()
        and table["note"].astype(str).tolist() == frame["note"].tolist()
    )
    np.testing.assert_array_equal(table["length"].astype(float), frame["length"])
    assert table["colour"].fillna("").tolist() == frame["colour"].fillna("").tolist()


CELLS = st.sampled_from(
    ["1.5", "5", "+3", "-1", "1e1", "007", "0x1", "long", "", "NA", "inf", "71", "9,5", " 4 ", "=1", "1e999", "nan"]
)


@given(
    st.lists(st.tuples(CELLS, CELLS, st.sampled_from(["blue", " violet", "red", "", "?", '"', "007"])), max_size=25),
    st.booleans(),
)
@how(max_examples=60)
def test_no_row_is_lost(
    predictor: Predictor, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], answer: bool
) -> None:
    """Rows in = rows out + rows rejected, in order; what is answered is answered as the study would read it."""
    folder = tmp_path_factory.mktemp("dirty")
    text = io.StringIO()
    lines = [(str(n), *row) for n, row in enumerate(rows, start=1)]
    csv.writer(text, delimiter=";").writerows([("id", "length", "count", "colour"), *lines])
    (folder / "in.csv").write_text(text.getvalue())
    options = BatchOptions(
        rejects=str(folder / "no.csv"), outside="answer" if answer else "reject", raw=True, delimiter=";"
    )
    result = predict_file(predictor, folder / "in.csv", folder / "out.csv", options)
    out = list(csv.DictReader(io.StringIO((folder / "out.csv").read_text(), newline="")))
    no = list(csv.DictReader(io.StringIO((folder / "no.csv").read_text(), newline="")))
    assert result.rows_in == len(rows) == len(out) + len(no)
    numbers = [int(row["id"]) for row in out], [int(row["reject:row"]) for row in no]
    assert all(n == sorted(n) for n in numbers) and sorted([*numbers[0], *numbers[1]]) == list(range(1, len(rows) + 1))
    for row in out:
        assert tuple(row[c] for c in ("length", "count", "colour")) == rows[int(row["id"]) - 1]
    for row in no:
        assert tuple(row[c] for c in ("length", "count", "colour")) == rows[int(row["reject:row"]) - 1]
        assert row["reject:reason"] and (row["reject:column"] or row["reject:reason"] == NO_VALUE)


@given(st.lists(CELLS.filter(lambda c: c not in ("=1",)), min_size=1, max_size=6), st.sampled_from(["", ".", ","]))
@how(max_examples=80)
def test_numbers_are_read_as_the_study_reads_them_or_not(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str], decimal: str
) -> None:
    """Where *tables* makes numbers of a column, each cell that is read here has the same value."""
    path = tmp_path_factory.mktemp("n") / "t.csv"
    text = io.StringIO()
    csv.writer(text, delimiter=";").writerows([("id", "x"), *((str(n), cell) for n, cell in enumerate(cells))])
    path.write_text(text.getvalue())
    contract = Contract(
        "t", "y", (Column("x", "number", "feature", True), Column("y", "category", "target", categories=("a", "b")))
    )
    try:
        column = read_table(path, decimal=decimal, delimiter=";").frame["x"]
    except TableError:
        return
    if column.dtype.kind not in "fi" and str(column.dtype) != "Int64":
        return
    batch = pa.RecordBatch.from_pydict({"x": pa.array(cells, pa.string())})
    checked = Checker(contract, "text", batch.schema, decimal).check(batch)
    wrong = {fault.place for fault in checked.wrong}
    theirs = column.to_numpy(dtype=float, na_value=np.nan)
    for place, mine in enumerate(checked.values["x"]):
        missing = np.isnan(theirs[place]) and not np.isfinite(mine)
        assert place in wrong or mine == theirs[place] or missing, cells


@pytest.mark.parametrize(
    ("cells", "values", "said"),
    [
        (["9007199254740995", "oops"], [9007199254740995, None], ["'oops' is not a whole number"]),
        (["9007199254740995", "5.0", None], [9007199254740995, 5, None], []),
        (["+7", "99999999999999999999"], [7, None], ["'99999999999999999999' is too large a whole number"]),
        (["-9223372036854775808", "1" * 5000, "2"], [-(2**63), None, 2], [f"'{'1' * 5000}' is too large a number"]),
        (["007", "8"], [None, 8], ["'007' is a code with a leading zero, not a number"]),
        (["1.234,5"], [None], ["'1.234,5' is a number only with a decimal comma and points between thousands; say so with --decimal ,"]),
        (["1,234"], [None], ["'1,234' may mean two numbers; say which with --decimal . or --decimal ,"]),
    ],
)  # fmt: skip
def test_a_whole_number_is_judged_apart_from_its_neighbours(
    cells: list[str | None], values: list[int | None], said: list[str]
) -> None:
    target = Column("y", "category", "target", categories=("a", "b"))
    batch = pa.RecordBatch.from_pydict({"x": pa.array(cells, pa.string())})
    checked = Checker(
        Contract("t", "y", (Column("x", "integer", "feature", True), target)), "text", batch.schema
    ).check(batch)
    assert checked.typed["x"].to_pylist() == values and [fault.reason for fault in checked.wrong] == said


def test_the_same_bytes_again_and_with_two_jobs(predictor: Predictor, tmp_path: Path) -> None:
    frame = pd.concat([good_rows(70_000, 1), good_rows(2_000, 2).assign(length=99.0), good_rows(70_000, 3)])
    path = write(frame, tmp_path / "in.parquet")
    for ending in ("parquet", "csv"):
        seen = set()
        for jobs in (1, 1, 2):
            out, no = tmp_path / f"out.{ending}", tmp_path / f"no.{ending}"
            result = predict_file(predictor, path, out, BatchOptions(jobs=jobs, rejects=str(no)))
            seen.add((out.read_bytes(), no.read_bytes()))
            assert (result.rows_out, result.rows_rejected) == (140_000, 2_000)
        assert len(seen) == 1


def test_a_folder_is_read_in_the_order_of_names(predictor: Predictor, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    frame = good_rows(30)
    write(frame[20:], folder / "part-2.csv")
    write(frame[:10], folder / "part-0.csv")
    write(frame[10:20][list(frame)[::-1]].assign(length="long"), folder / "part-1.csv.gz")
    (folder / "_SUCCESS").touch()
    result = predict_file(predictor, folder, tmp_path / "out.jsonl", BatchOptions(rejects=str(tmp_path / "no.csv")))
    assert result.rows_out == 20 and result.files == 3
    assert read(tmp_path / "out.jsonl")["plot"].tolist() == [*frame["plot"][:10], *frame["plot"][20:]]
    rejects = pd.read_csv(tmp_path / "no.csv")
    assert set(rejects["reject:file"]) == {"part-1.csv.gz"} and rejects["reject:row"].tolist() == list(range(1, 11))
    write(frame[:2].drop(columns="note"), folder / "part-9.csv")
    with pytest.raises(TableError, match="'note'"):
        predict_file(predictor, folder, tmp_path / "new.jsonl", BatchOptions(rejects=str(tmp_path / "no.csv")))
    assert not (tmp_path / "new.jsonl").exists()


def test_nothing_is_written_when_the_input_is_bad(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    out = tmp_path / "out.csv"
    out.write_text("old")
    rows = "\n".join("1.5,5,blue" for _ in range(200_000))
    path.write_text(f'length,count,colour\n{rows}\n1,2,"blue\n')
    for options in (BatchOptions(), BatchOptions(rejects=str(tmp_path / "no.csv"))):
        with pytest.raises(InputError):
            predict_file(predictor, path, out, options)
    path.write_text(f"length,count,colour\n{rows}\n1,long,blue\n")
    for options in (BatchOptions(), BatchOptions(strict=True)):
        with pytest.raises(RowsError, match="row 200001: count 'long' is not a whole number"):
            predict_file(predictor, path, out, options)
    assert out.read_text() == "old" and sorted(p.name for p in tmp_path.iterdir()) == ["in.csv", "out.csv"]


@pytest.mark.parametrize(
    ("source", "target", "options"),
    [
        ("in.csv", "in.csv", {}),
        ("in.csv", "link.csv", {}),
        ("in.csv", "out.xlsx", {}),
        ("in.csv", "folder", {}),
        ("folder", "folder/out.csv", {}),
        ("in.csv", "out.csv", {"rejects": "out.csv"}),
        ("in.csv", "out.csv", {"rejects": "in.csv"}),
        ("in.csv", "out.csv", {"outside": "perhaps"}),
        ("in.csv", "out.csv", {"jobs": 0}),
        ("in.csv", "out.csv", {"decimal": "x"}),
        ("in.csv", "in.csv/out.csv", {}),
        ("folder", "in.csv/below/out.csv", {}),
        ("in.csv", "out.csv", {"strict": True, "rejects": "no.csv"}),
        ("in.csv", "-", {}),
        ("label.csv", "out.csv", {}),
    ],
)
def test_what_cannot_be_done_is_refused_first(
    predictor: Predictor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    target: str,
    options: dict[str, Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    write(good_rows(3), tmp_path / "folder" / "a.csv")
    write(good_rows(3), tmp_path / "in.csv")
    write(good_rows(3).assign(label="x"), tmp_path / "label.csv")
    (tmp_path / "link.csv").symlink_to("in.csv")
    before = (tmp_path / "in.csv").read_bytes()
    with pytest.raises(ParameterError) as error:
        predict_file(predictor, source, target, BatchOptions(**options))
    assert "\n" not in str(error.value) and (tmp_path / "in.csv").read_bytes() == before
    assert not (tmp_path / "out.csv").exists()
    assert ("a part of its path is a file" in str(error.value)) == target.startswith("in.csv/")


def test_a_model_needs_its_columns(predictor: Predictor, tmp_path: Path) -> None:
    path = write(good_rows(3).rename(columns={"colour": "color"}), tmp_path / "in.csv")
    with pytest.raises(RowsError, match=r"lacks the column 'colour'.*did you mean 'color'"):
        predict_file(predictor, path, tmp_path / "out.csv")
    path = write(good_rows(3).assign(count="x"), tmp_path / "in.parquet")
    with pytest.raises(RowsError, match="'count' holds"):
        predict_file(predictor, path, tmp_path / "out.csv")


def test_formulas_are_made_text_in_outputs_and_rejects(predictor: Predictor, tmp_path: Path) -> None:
    frame = good_rows(4).assign(note=["=1", "+2", "@x", "-1.5"]).rename(columns={"note": "=note"})
    path = write(frame, tmp_path / "in.csv")
    predict_file(predictor, path, tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv", dtype=str)
    assert table["'=note"].tolist() == ["'=1", "+2", "'@x", "-1.5"] and "'p:=virginica" not in table
    assert set(table["label"]) <= {"setosa", "'=virginica"}
    predict_file(predictor, path, tmp_path / "out.csv", BatchOptions(raw=True))
    assert pd.read_csv(tmp_path / "out.csv", dtype=str)["=note"].tolist() == ["=1", "+2", "@x", "-1.5"]
    write(frame.assign(length="=long"), path)
    predict_file(predictor, path, tmp_path / "out.csv", BatchOptions(rejects=str(tmp_path / "no.csv")))
    assert pd.read_csv(tmp_path / "no.csv")["reject:value"].tolist() == ["'=long"] * 4


def test_explanations_name_what_moved_the_answer(predictor: Predictor, tmp_path: Path) -> None:
    path = write(good_rows(50), tmp_path / "in.parquet")
    predict_file(predictor, path, tmp_path / "out.parquet", BatchOptions(explain=True))
    why = pd.read_parquet(tmp_path / "out.parquet")["why"]
    assert why.str.contains("length [+-]0|count [+-]0", regex=True).mean() > 0.8


def test_a_stream_stops_at_the_first_row_it_cannot_answer(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pipe:
        def __init__(self, data: bytes) -> None:
            self.buffer = io.BytesIO(data)

    data = b'{"length": 1.5, "count": 5, "colour": "blue"}\n{"length": "x", "count": 5, "colour": "blue"}\n'
    monkeypatch.setattr(sys, "stdin", Pipe(data))
    monkeypatch.setattr(sys, "stdout", Pipe(b""))
    with pytest.raises(RowsError, match="row 2"):
        predict_file(predictor, "-", "-", BatchOptions(form="jsonl"))
    monkeypatch.setattr(sys, "stdin", Pipe(data))
    out = Pipe(b"")
    monkeypatch.setattr(sys, "stdout", out)
    result = predict_file(predictor, "-", "-", BatchOptions(form="jsonl", rejects=str(tmp_path / "no.jsonl")))
    assert result.rows_rejected == 1 and json.loads(out.buffer.getvalue())["length"] == 1.5
    assert json.loads((tmp_path / "no.jsonl").read_text())["reject:value"] == '"x"'


def test_a_parquet_stream_that_breaks_off_has_no_footer(predictor: Predictor, tmp_path: Path) -> None:
    """In a process of its own, since Python's last words at the end of an object cannot be caught."""
    save_model(tmp_path / "model", predictor._model.pipeline, {"classes": list(CONTRACT.classes)}, CONTRACT)
    frame = pd.concat([good_rows(1000)] * 20, ignore_index=True).drop(columns=["plot", "note"])
    good = write(frame.assign(count=frame["count"].astype(float)), tmp_path / "good.parquet")
    bad = write(frame.assign(count=[*frame["count"][:-1].astype(float), 1e300]), tmp_path / "bad.parquet")
    program = (
        "import sys\n"
        "import iris_nb.streams\n"
        "iris_nb.streams.ROWS = 1000\n"
        "from iris_nb.batch import BatchOptions, predict_file\n"
        "from iris_nb.errors import InputError\n"
        "from iris_nb.predictor import Predictor\n"
        "try:\n"
        "    predict_file(Predictor.load(sys.argv[1]), *sys.argv[2:], BatchOptions(form='parquet'))\n"
        "except InputError as error:\n"
        "    print(error, file=sys.stderr)\n"
    )
    said = {}
    for source, target in ((good, "-"), (bad, "-"), (bad, str(tmp_path / "out.parquet"))):
        words = [sys.executable, "-c", program, str(tmp_path / "model"), str(source), target]
        done = subprocess.run(words, capture_output=True, check=True, timeout=120)
        assert len(done.stderr.decode().splitlines()) == (source == bad), done.stderr.decode()
        said[source, target] = done.stdout
    assert parquet.read_table(io.BytesIO(said[good, "-"])).num_rows == 20_000
    torn = said[bad, "-"]
    assert len(torn) > 10_000 and torn[:4] == b"PAR1" and torn[-4:] != b"PAR1"
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_files_and_programs_are_read_alike(tmp_path: Path, ending: str) -> None:
    """Texts of every kind; and what is odd is said of a file as of a row."""
    columns = (
        Column("site", "category", "feature", True, categories=("north", "south")),
        Column("wet", "boolean", "feature", True),
        Column("day", "date", "feature", True),
    )
    contract = Contract("t", "y", (*columns, Column("y", "category", "target", categories=("a", "b"))))
    days = ["2024-05-05", "05.05.2024", "31/12/2024", "", "2024-05", "20240505", "03/04/2024", "2024-05-05T10:00Z"]
    sites = [" north", "", "south ", "east", "north", "south", "\tnorth", "north"]
    truths = ["true", "FALSE", " true ", "", "yes", "true", "", "false"]
    frame = pd.DataFrame({"site": sites, "wet": truths, "day": days, "n": range(8)})
    with open_rows(write(frame, tmp_path / f"in.{ending}")) as rows:
        (block,) = rows
        checked = Checker(contract, rows.kind, rows.schema).check(block.batch)
    wrong = {(fault.place, fault.column) for fault in checked.wrong}
    for place, row in enumerate(frame.drop(columns="n").to_dict("records")):
        for column in columns:
            alone = Contract("t", "y", (column, contract.target_column))
            try:
                (value,) = read_rows({column.name: row[column.name]}, alone).columns[column.name]
            except RowsError:
                assert (place, column.name) in wrong
                continue
            mine = checked.values[column.name][place]
            assert (place, column.name) not in wrong and (mine == value or (pd.isna(mine) and pd.isna(value)))
    assert len(wrong) == 4


def test_gaps_and_infinite_numbers_are_said_of_a_file_too(predictor: Predictor, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"length": [1.5, np.inf, np.nan], "count": [5.0, -np.inf, np.nan], "colour": ["blue"] * 2 + [None]}
    )
    expected = predictor.predict(frame)["outside"].tolist()
    assert expected[1].count("is not finite") == 2 and expected[2] == NO_VALUE
    (tmp_path / "in.csv").write_text("length,count,colour\n1.5,5,blue\ninf,-Infinity,blue\n,,\n")
    (tmp_path / "in.jsonl").write_text(
        '{"length": 1.5, "count": 5, "colour": "blue"}\n{"length": Infinity, "count": -Infinity, "colour": "blue"}\n'
        '{"length": null, "count": NaN, "colour": ""}\n'
    )
    frame.to_parquet(tmp_path / "in.parquet", index=False)
    for ending in ("csv", "jsonl", "parquet"):
        out, no = tmp_path / f"out.{ending}", tmp_path / f"no.{ending}"
        result = predict_file(predictor, tmp_path / f"in.{ending}", out, BatchOptions(outside="answer"))
        assert read(out)["outside"].fillna("").tolist() == expected and result.rows_outside == 2
        result = predict_file(predictor, tmp_path / f"in.{ending}", out, BatchOptions(rejects=str(no)))
        assert read(no)["reject:reason"].tolist() == expected[1:] and result.rows_rejected == 2


def test_a_number_that_is_too_large_is_called_that(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f"length,count,colour\n{'9' * 400},5,blue\n1.5,5,blue\n")
    (tmp_path / "in.jsonl").write_text('{"length": 1e999, "count": 5, "colour": "blue"}\n')
    for name in ("in.csv", "in.jsonl"):
        with pytest.raises(RowsError, match="' is too large a number"):
            predict_file(predictor, tmp_path / name, tmp_path / "out.csv")


def test_a_private_file_stays_private(predictor: Predictor, tmp_path: Path) -> None:
    path, out = write(good_rows(3), tmp_path / "in.csv"), tmp_path / "out.csv"
    out.touch(0o600)
    predict_file(predictor, path, out)
    assert out.stat().st_mode & 0o777 == 0o600


def test_nothing_to_answer_is_answered(predictor: Predictor, tmp_path: Path) -> None:
    for ending in ("csv", "parquet"):
        path = write(good_rows(3)[:0].astype({"colour": "str"}), tmp_path / f"in.{ending}")
        assert predict_file(predictor, path, tmp_path / f"out-{ending}.parquet") == BatchResult(
            columns=["label", "p:setosa", "p:=virginica"]
            if CONTRACT.classes[0] == "setosa"
            else ["label", "p:=virginica", "p:setosa"]
        )
        assert parquet.read_table(tmp_path / f"out-{ending}.parquet").num_rows == 0


def test_a_stop_by_the_system_leaves_nothing(project: Project, predictor: Predictor, tmp_path: Path) -> None:
    source = write(good_rows(300_000), tmp_path / "in.csv")
    save_model(tmp_path / "model", predictor._model.pipeline, {"classes": list(CONTRACT.classes)}, CONTRACT)
    out = tmp_path / "out" / "out.csv"
    process = project.start("predict", str(source), str(out), "--model", str(tmp_path / "model"))
    deadline = time.monotonic() + 60
    while process.poll() is None and not (out.parent.is_dir() and any(out.parent.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and "stopped by SIGTERM; nothing was written" in str(said)
    assert not list(out.parent.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_standard_output_is_a_sentence(project: Project, predictor: Predictor, tmp_path: Path) -> None:
    source = write(good_rows(30), tmp_path / "in.csv")
    save_model(tmp_path / "model", predictor._model.pipeline, {"classes": list(CONTRACT.classes)}, CONTRACT)
    words = [
        str(Path(sys.executable).with_name("iris-nb")),
        "predict",
        str(source),
        "-",
        "--format",
        "csv",
        "--model",
        str(tmp_path / "model"),
    ]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            words,
            cwd=project.home,
            env=clean_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2 and "standard output cannot be written: No space left" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_killed_in_the_middle_leaves_no_output(predictor: Predictor, tmp_path: Path) -> None:
    source = write(good_rows(150_000), tmp_path / "in.csv")
    (tmp_path / "out").mkdir()
    folder = tmp_path / "model"
    save_model(folder, predictor._model.pipeline, {"classes": list(CONTRACT.classes)}, CONTRACT)
    program = (
        "import sys\n"
        "from iris_nb.batch import predict_file\n"
        "from iris_nb.predictor import Predictor\n"
        "def tell(place, rows): print(rows, flush=True)\n"
        "predict_file(Predictor.load(sys.argv[1]), sys.argv[2], sys.argv[3], progress=tell)\n"
    )
    out = tmp_path / "out" / "out.csv"
    words = [sys.executable, "-c", program, str(folder), str(source), str(out)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout and process.stdout.readline()
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not out.exists()
    assert all(path.name.startswith(".") for path in out.parent.iterdir())
