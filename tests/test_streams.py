"""Tables as streams: read like *tables* reads them or refused, safe against bombs, and never a crash."""

from __future__ import annotations

import csv
import gzip
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from pyarrow import parquet

from iris_nb.errors import InputError, TableError
from iris_nb.streams import ROWS, Limits, Writer, open_rows, open_writer, passed_on, passed_schema, safe_text
from iris_nb.tables import read_table

SMALL = Limits(max_inflation=50, max_page_mb=8, max_columns=50, max_row_mb=1, max_footer_mb=1)


def read_all(path: Path, **options: Any) -> tuple[pa.Table, list[int]]:
    """All rows of a table, and the numbers of its torn lines."""
    with open_rows(path, **options) as rows:
        blocks = list(rows)
        table = pa.Table.from_batches([block.batch for block in blocks], rows.schema)
    return table, [line.row for block in blocks for line in block.torn]


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=8)


# ---- the letter of the file ------------------------------------------------------------------------------------


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=20), st.sampled_from(["csv", "tsv", "jsonl", "parquet"]))
@how(max_examples=60)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, rows: list[Any], form: str) -> None:
    path = tmp_path_factory.mktemp("w") / f"t.{form}"
    schema = pa.schema([("a", pa.string()), ("b", pa.string())])
    batch = pa.RecordBatch.from_pylist([{"a": a, "b": b} for a, b in rows], schema)
    with open_writer(path, form, False, schema, raw=True) as writer:
        writer.write(batch)
    delimiter = {"csv": ",", "tsv": "tab"}.get(form, "")
    table, torn = read_all(path, delimiter=delimiter)
    if form == "jsonl":
        import json

        table = pa.table({c: [json.loads(v) for v in table[c].to_pylist()] for c in ("a", "b")})
    assert not torn and list(zip(table["a"].to_pylist(), table["b"].to_pylist(), strict=True)) == rows


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=30), st.sampled_from(",;\t|"), st.booleans())
@how(max_examples=60)
def test_cells_are_those_of_the_csv_module(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], delimiter: str, everything: bool
) -> None:
    text = io.StringIO()
    csv.writer(
        text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL if everything else csv.QUOTE_MINIMAL
    ).writerows([("a", "b", "c"), *rows])
    path = tmp_path_factory.mktemp("r") / "t.csv"
    path.write_bytes(text.getvalue().encode())
    table, torn = read_all(path, delimiter=delimiter)
    assert not torn
    assert [tuple(row.values()) for row in table.to_pylist()] == rows


@pytest.mark.parametrize(
    "data",
    [b"a,b\n1,2\n", b"\xef\xbb\xbfa;b\r\n1,5;x\r\n2;y\r\n", b"a\tb\n1\t2", b'a,"b\nc"\n"1\n2",3\n', b"a,b\r1,2\r3,4\r"],
)
def test_a_small_file_is_read_as_tables_reads_it(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    frame = read_table(path).frame
    table, torn = read_all(path)
    assert not torn and table.column_names == list(frame) and table.num_rows == len(frame)


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_pieces_may_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Records are whole however the bytes arrive."""
    rows = [(str(n), "größe, “x”\n" * (n % 4), 'say "hi"') for n in range(300)]
    text = io.StringIO()
    csv.writer(text).writerows([("a", "b", "c"), *rows])
    path = tmp_path / "t.csv"
    path.write_bytes(text.getvalue().encode())
    from iris_nb.streams import _Source

    whole = _Source.pieces
    monkeypatch.setattr(_Source, "pieces", lambda self: whole(self, size))
    table, torn = read_all(path)
    assert not torn and [tuple(row.values()) for row in table.to_pylist()] == rows


def test_torn_lines_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [f"{n},x" if n % 1000 else f"{n}" for n in range(1, 200_001)]
    path.write_text("a,b\n" + "\n".join(lines) + "\n")
    table, torn = read_all(path)
    assert torn == list(range(1000, 200_001, 1000)) and table.num_rows == 199_800


BAD = {
    "empty": b"",
    "blank": b" \n\n",
    "a NUL": b"a,b\n1,\0\n",
    "latin-1": "a,b\ngröße,1\n".encode("latin-1"),
    "utf-16": "a,b\n1,2\n".encode("utf-16"),
    "an open quotation mark": b'a,b\n1,"2\n3,4\n',
    "quotation marks that do not fit": b'a,b\n"1"x,2\n',
    "names twice": b"a,a\n1,2\n",
    "zip": b"PK\x03\x04....",
    "half a gzip file": gzip.compress(b"a,b\n1,2\n" * 100)[:-20],
    "gzip with rubbish behind": gzip.compress(b"a,b\n1,2\n") + b"rubbish",
    "half a Parquet file": b"PAR1abc",
    "JSON that is a list": b'[{"a": 1}]',
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_bad_file_is_one_sentence(tmp_path: Path, data: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    try:
        table, torn = read_all(path)
    except InputError as error:
        assert str(error).isprintable() and name in str(error)
    else:
        assert name == "t.jsonl" or table.num_rows == 0 or torn


# ---- bombs -----------------------------------------------------------------------------------------------------


def bomb_program(path: Path) -> tuple[str, int]:
    """What reading a file says, and the peak memory of the process in megabytes."""
    program = (
        "import sys\n"
        "from iris_nb.streams import open_rows\n"
        "from iris_nb.errors import InputError\n"
        "try:\n"
        "    with open_rows(sys.argv[1]) as rows:\n"
        "        print(sum(len(b.rows) for b in rows))\n"
        "except InputError as error:\n"
        "    print(error)\n"
        "print(*(int(l.split()[1]) // 1024 for l in open('/proc/self/status') if l.startswith('VmHWM')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    *said, peak = done.stdout.splitlines()
    return "\n".join(said), int(peak)


def test_a_page_that_claims_two_gigabytes_is_refused_from_its_header(tmp_path: Path) -> None:
    from iris_nb.streams import _page_head

    path = tmp_path / "bomb.parquet"
    zeros = pa.table({"x": pa.repeat(0.0, 20_000_000)})
    one_page = {"use_dictionary": False, "data_page_size": 1 << 30, "max_rows_per_page": 1 << 30}
    parquet.write_table(zeros, path, compression="zstd", row_group_size=1 << 30, **one_page)
    with path.open("rb") as file:
        assert _page_head(file, 4, path.stat().st_size)[1] >= 160_000_000
    with pytest.raises(TableError, match="IRIS_NB_MAX_PAGE_MB"):
        read_all(path, limits=Limits(max_page_mb=100))


@pytest.mark.slow
def test_real_bombs_are_refused_in_seconds_and_little_memory(tmp_path: Path) -> None:
    """Made by a process of their own, so that their size is not this one's."""
    program = (
        "import sys, pyarrow as pa, gzip, random\n"
        "from pyarrow import parquet\n"
        "z = pa.table({'x': pa.repeat(0.0, 260_000_000)})\n"
        "o = dict(use_dictionary=False, data_page_size=(1 << 31) - 1, max_rows_per_page=1 << 30)\n"
        "parquet.write_table(z, sys.argv[1] + '/page.parquet', compression='zstd', row_group_size=1 << 30, **o)\n"
        "with gzip.open(sys.argv[1] + '/a.csv.gz', 'wb') as f:\n"
        "    f.write(b'a,b\\n')\n"
        "    for _ in range(100): f.write(b'0,0\\n' * 500_000)\n"
        "with gzip.open(sys.argv[1] + '/line.csv.gz', 'wb') as f:\n"
        "    for n in range(100): f.write(random.Random(n).randbytes(500_000).hex().encode())\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=300)
    for name, setting in (("page.parquet", "PAGE_MB"), ("a.csv.gz", "INFLATION"), ("line.csv.gz", "ROW_MB")):
        said, peak = bomb_program(tmp_path / name)
        assert setting in said and peak < 500, (name, said, peak)


@pytest.mark.slow
def test_a_hundred_million_equal_values_are_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "honest.parquet"
    one = pa.table({"x": pa.array(["the same text in each row"] * 1_000_000).dictionary_encode()})
    with parquet.ParquetWriter(path, one.schema) as writer:
        for _ in range(100):
            writer.write_table(one, row_group_size=1 << 30)
    said, peak = bomb_program(path)
    assert said == "100000000" and peak < 500


@pytest.mark.parametrize("size", ["as it is", "a lie"])
def test_gzip_that_inflates_a_thousandfold_is_refused(tmp_path: Path, size: str) -> None:
    path = tmp_path / "t.csv.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"a,b\n")
        for _ in range(50):
            file.write(b"0,0\n" * 500_000)
    if size == "a lie":
        path.write_bytes(path.read_bytes()[:-4] + bytes([1, 0, 0, 0]))
    read = 0
    with pytest.raises(TableError, match="IRIS_NB_MAX_INFLATION"), open_rows(path) as rows:
        for block in rows:
            read += len(block.rows)
    assert (read > 0) == (size == "a lie")


@pytest.mark.parametrize("rest", ["cut", "junk"])
def test_a_damaged_gzip_file_is_no_bomb(tmp_path: Path, rest: str) -> None:
    """Its last four bytes are no size."""
    data = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(2000)), mtime=0)
    path = tmp_path / "t.csv.gz"
    path.write_bytes(data[: len(data) // 2] + b"\xfe" * 4 if rest == "cut" else data + b"\xfe" * 8)
    with pytest.raises(TableError, match=r"t\.csv\.gz is a damaged gzip file"):
        read_all(path)


def test_parquet_without_rows_is_a_table(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1.5, 2.5], "wet": [True, False], "site": ["a", "b"]})
    for name, part in (("a", frame.iloc[:0].astype(frame.dtypes)), ("b", frame), ("c", frame.iloc[:0])):
        part.to_parquet(tmp_path / f"{name}.parquet", index=False)
    assert read_all(tmp_path / "a.parquet")[0].num_rows == 0
    assert read_all(tmp_path)[0].to_pylist() == frame.to_dict("records")


def test_keys_that_differ_by_spaces_tear_their_line(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"size": 1}\n{"size": 2.5, " size": 99}\n{" size ": 3}\n')
    table, torn = read_all(tmp_path / "t.jsonl")
    assert torn == [2] and table["size"].to_pylist() == ["1", "3"]


@pytest.mark.parametrize("encoding", ["undefined", "punycode", "utf-7", "idna", "rot13"])
def test_every_encoding_of_python_is_read_or_refused(tmp_path: Path, encoding: str) -> None:
    for data in (b"a,b\n1,+2AA-\n", b"a,b\n1,\xff-\n", b"a-b\n+\n"):
        (tmp_path / "t.csv").write_bytes(data)
        with pytest.raises(TableError, match=f"is not {encoding}|no encoding '{encoding}'"):
            read_all(tmp_path / "t.csv", encoding=encoding)
            raise TableError(f"is not {encoding}: what can be read is fine")


def test_lists_that_the_program_made_stay_json(tmp_path: Path) -> None:
    import json

    from iris_nb.streams import LISTS

    texts = ['["+", "-"]', "[-2, -1, 1]", '["=1"]']
    schema = pa.schema([pa.field("set", pa.string(), metadata={LISTS: b""}), ("note", pa.string())])
    for form in ("csv", "tsv"):
        with open_writer(tmp_path / f"t.{form}", form, False, schema) as writer:
            writer.write(pa.RecordBatch.from_pydict({"set": texts, "note": texts}, schema=schema))
        table = pd.read_csv(tmp_path / f"t.{form}", sep="\t" if form == "tsv" else ",")
        assert table["set"].map(json.loads).tolist() == [json.loads(text) for text in texts]
        assert table["note"].tolist() == [safe_text(text) for text in texts] != texts


def test_too_many_columns_are_refused(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(20_000)]
    (tmp_path / "t.csv").write_text(",".join(names) + "\n" + ",".join("1" * 20_000) + "\n")
    (tmp_path / "t.jsonl").write_text("{" + ", ".join(f'"{n}": 1' for n in names) + "}\n")
    parquet.write_table(pa.table({n: pa.array([], pa.int8()) for n in names}), tmp_path / "t.parquet")
    for path in tmp_path.iterdir():
        with pytest.raises(TableError, match=r"MAX_COLUMNS|MAX_FOOTER"):
            read_all(path)


def test_nested_columns_are_refused_before_arrow_sees_them(tmp_path: Path) -> None:
    kind: pa.DataType = pa.int8()
    for _ in range(60):
        kind = pa.struct([("x", kind)])
    parquet.write_table(pa.table({"deep": pa.array([], kind)}), tmp_path / "t.parquet")
    with pytest.raises(TableError, match="nested"):
        read_all(tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + '}\n{"a": 1}\n')
    table, torn = read_all(tmp_path / "t.jsonl")
    assert torn == [1] or table.num_rows == 1


def test_a_row_that_never_ends_is_refused(tmp_path: Path) -> None:
    for data in (b"a,b\n1," + b"x" * 8_000_000, b'a,b\n1,"' + b"x\n" * 5_000_000):
        (tmp_path / "t.csv").write_bytes(data)
        with pytest.raises(TableError):
            read_all(tmp_path / "t.csv", limits=SMALL)


def test_long_texts_in_a_dictionary_are_not_spelled_out_at_once(tmp_path: Path) -> None:
    long = "x" * 900_000
    table = pa.table({"x": pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), [long])})
    parquet.write_table(table, tmp_path / "t.parquet")
    with open_rows(tmp_path / "t.parquet") as rows:
        sizes = [block.batch.nbytes for block in rows]
    assert max(sizes) < 40_000_000 and sum(sizes) > 900_000_000


# ---- chance ----------------------------------------------------------------------------------------------------


def parquet_seeds() -> list[bytes]:
    """Small Parquet files in different encodings."""
    frame = pd.DataFrame({"x": np.arange(50) / 7, "name": ["a", "bb", None, "dddd", "e"] * 10, "n": np.arange(50)})
    frame["day"] = pd.to_datetime("2026-01-01") + pd.to_timedelta(frame["n"], unit="D")
    table = pa.Table.from_pandas(frame)
    ways: list[dict[str, Any]] = [
        {},
        {"use_dictionary": False, "compression": "none"},
        {"compression": "zstd", "data_page_version": "2.0"},
        {"use_dictionary": False, "column_encoding": {"name": "DELTA_BYTE_ARRAY", "n": "DELTA_BINARY_PACKED"}},
        {"use_dictionary": False, "compression": "gzip", "column_encoding": {"x": "BYTE_STREAM_SPLIT"}},
    ]
    found = []
    for way in ways:
        sink = io.BytesIO()
        parquet.write_table(table, sink, row_group_size=20, **way)
        found.append(sink.getvalue())
    return found


SEEDS = [
    *parquet_seeds(),
    b'a,b,c\n1,"x\ny",3\n4,5,6\n',
    b'{"a": 1, "b": "x"}\n{"a": 2.5, "b": null}\n',
    gzip.compress(b"a,b\n1,2\n3,4\n" * 30),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A small file with some bytes changed, cut off, or put in."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "set", "cut", "insert", "end"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at : at + draw(st.integers(1, 40))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case _ if len(data) > 60:
                data[-draw(st.integers(1, 60))] = draw(st.integers(0, 255))
    return bytes(data)


@given(
    damaged(), st.sampled_from(["t.parquet", "t.csv", "t.jsonl", "t.txt"]), st.sampled_from(["csv", "jsonl", "parquet"])
)
@how(max_examples=400)
def test_damage_is_an_input_error_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str, form: str
) -> None:
    """What can be read can be written, and what cannot is one sentence."""
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    try:
        with open_rows(path, limits=SMALL) as rows:
            writer = Writer(io.BytesIO(), form, passed_schema(rows.schema, rows.kind, form), False)
            for block in rows:
                columns = passed_on(block.batch, rows.kind, form)
                writer.write(pa.RecordBatch.from_arrays(columns, schema=writer.schema))
            writer.close()
    except InputError as error:
        assert str(error).isprintable()


@pytest.mark.slow
@pytest.mark.parametrize("change", [1, 2, 16, 128])
@pytest.mark.parametrize("read", [read_all, read_table])
def test_every_byte_of_a_footer_may_be_wrong(tmp_path: Path, read: Any, change: int) -> None:
    """Arrow ends the process when it is asked for the columns of a row group that is described wrongly."""
    data = SEEDS[0]
    path, refused = tmp_path / "t.parquet", 0
    for at in range(len(data) - 8 - int.from_bytes(data[-8:-4], "little"), len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ change]) + data[at + 1 :])
        try:
            read(path)
        except InputError as error:
            assert str(error).isprintable()
            refused += 1
    assert refused > 100


def test_keys_that_are_mostly_absent_do_not_fill_the_memory(tmp_path: Path) -> None:
    lines = [f'{{"a": {n}, "k{n % 40}": 1}}' for n in range(60_000)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    with open_rows(tmp_path / "t.jsonl") as rows:
        sizes = [block.batch.num_rows * block.batch.num_columns for block in rows]
    assert max(sizes) <= 1 << 22 and sum(sizes) == 60_000 * 41


def test_messages_have_one_line_whatever_columns_are_called(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('"a\n\x1b[2Jb","a\n\x1b[2Jb"\n1,2\n')
    with pytest.raises(TableError) as error:
        read_all(tmp_path / "t.csv")
    assert str(error.value).isprintable()


def test_half_letters_of_json_tear_their_line(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": "\\ud800"}\n{"a": "\\ud83d\\ude00"}\n{"a": "\\u0000"}\n')
    table, torn = read_all(tmp_path / "t.jsonl")
    assert torn == [1, 3] and table.num_rows == 1


def test_letters_of_parquet_are_looked_at(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    parquet.write_table(pa.table({"a": bad}), tmp_path / "t.parquet")
    with pytest.raises(TableError, match="damaged"):
        read_all(tmp_path / "t.parquet")


# ---- spreadsheets ----------------------------------------------------------------------------------------------


@given(st.text(max_size=20))
def test_no_text_stays_a_formula(text: str) -> None:
    safe = safe_text(text)
    assert safe_text(safe) == safe and safe.replace("'", "") == text.replace("'", "")
    if safe[:1] in ("=", "@"):
        pytest.fail(safe)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_a_number_stays_a_number(value: float) -> None:
    assert safe_text(str(value)) == str(value) and safe_text(f"{value:+}") == f"{value:+}"


def test_blocks_are_bounded(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"x": np.arange(3 * ROWS + 5)}), tmp_path / "t.parquet")
    with open_rows(tmp_path / "t.parquet") as rows:
        sizes = [len(block.rows) for block in rows]
    assert sizes == [ROWS, ROWS, ROWS, 5]
