"""The predictor: equal answers whatever the shape of the question, and an error that names what does not fit."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris, load_wine
from test_modelfile import OPTIONS, fit, messy_table

from iris_nb import candidates
from iris_nb.candidates import CANDIDATES, Candidate, candidate_named, fit_candidate
from iris_nb.conformal import conformal_of
from iris_nb.contract import Column, Contract, infer_contract
from iris_nb.data import load_data
from iris_nb.domain import domain_of
from iris_nb.errors import InputError, ModelFileError, RowsError, StageError
from iris_nb.evaluation import Answers, evaluate
from iris_nb.features import build_features, load_features
from iris_nb.files import read_json, sha256_file, write_json
from iris_nb.folders import open_run
from iris_nb.inference import (
    Way,
    answer_held_out,
    compare_answers,
    compare_ways,
    require_equal,
    sample_answers,
    save_inference,
)
from iris_nb.modelfile import load_model, save_model
from iris_nb.models import Choice, load_models
from iris_nb.predictor import Predictor, _looks_like_a_path, _Way
from iris_nb.rows import NO_VALUE, RowReader, read_rows, remarks
from iris_nb.runs import begin_run, blank_record, blank_stage, write_manifest
from iris_nb.training import load_training, save_training, train_model


def some_fast(candidates: Iterable[Candidate]) -> list[Any]:
    """Candidates to try, most of them only among the slow tests."""
    fast = ("lda", "forest")
    return [pytest.param(c, id=c.name, marks=[] if c.name in fast else pytest.mark.slow) for c in candidates]


FEATURES = ["petal length (cm)", "petal width (cm)", 'a "quoted" größe', "in bloom?", "Farbe", "picked"]


def predictor_for(folder: Path, candidate: Candidate, table: pd.DataFrame) -> Predictor:
    """A predictor of a table, by way of a file."""
    pipeline, contract = fit(candidate, table)
    save_model(folder / "model", pipeline, {"classes": list(contract.classes)}, contract)
    return Predictor.load(folder / "model")


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return predictor_for(tmp_path_factory.mktemp("messy"), candidate_named("lda"), messy_table())


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return messy_table()[FEATURES]


def test_importing_it_is_light() -> None:
    program = "import sys, iris_nb.predictor as p; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"mlflow", "papermill", "matplotlib", "seaborn", "plotly", "IPython", "nbdev", "fastcore"} & set(loaded)


def test_the_order_of_the_columns_does_not_matter_and_the_target_is_passed_over(
    messy: Predictor, table: pd.DataFrame
) -> None:
    straight = messy.predict(table)
    turned = table[FEATURES[::-1]].assign(answer="ja")
    pd.testing.assert_frame_equal(messy.predict(turned), straight)
    pd.testing.assert_frame_equal(messy.predict(table.assign(answer=pd.NA).set_index(table.index)), straight)


def test_a_list_of_dictionaries_is_answered_like_a_frame(messy: Predictor, table: pd.DataFrame) -> None:
    rows = table.astype(object).where(table.notna(), None).to_dict(orient="records")
    pd.testing.assert_frame_equal(messy.predict(rows), messy.predict(table), check_index_type=False)
    pd.testing.assert_frame_equal(messy.predict(tuple(rows)), messy.predict(table), check_index_type=False)
    one = messy.predict(rows[3])
    pd.testing.assert_frame_equal(one, messy.predict(table.iloc[[3]]).reset_index(drop=True), rtol=1e-12)


def test_a_row_is_answered_the_same_alone_and_in_company(messy: Predictor, table: pd.DataFrame) -> None:
    together = messy.predict_proba(table)
    alone = np.vstack([messy.predict_proba(table.iloc[[i]]) for i in range(20)])
    assert np.allclose(together[:20], alone, rtol=0, atol=1e-12)


def test_probabilities_sum_to_one_and_the_label_is_the_likeliest(messy: Predictor, table: pd.DataFrame) -> None:
    answer = messy.predict(table)
    chances = answer.drop(columns=["label", "outside"])
    assert list(chances) == [f"p:{name}" for name in messy.classes]
    assert np.allclose(chances.sum(axis=1), 1)
    assert (chances.idxmax(axis=1).str.removeprefix("p:") == answer["label"]).all()
    assert (messy.predict_proba(table) == chances.to_numpy()).all()


def test_the_index_is_kept(messy: Predictor, table: pd.DataFrame) -> None:
    index = pd.Index([f"flower {i}" for i in range(len(table))])
    assert messy.predict(table.set_axis(index)).index.equals(index)


@pytest.mark.parametrize("rows", [[], pd.DataFrame(), pd.DataFrame(columns=FEATURES), messy_table().head(0)], ids=repr)
def test_no_rows_have_no_answers_in_the_right_columns(rows: Any, messy: Predictor, table: pd.DataFrame) -> None:
    answer, full = messy.predict(rows), messy.predict(table)
    assert len(answer) == 0 and list(answer) == list(full) and answer.dtypes.equals(full.dtypes)
    assert messy.predict_proba(rows).shape == (0, 3)


@pytest.mark.parametrize(
    ("classes", "kind"),
    [((3, 5, 40), "int64"), ((True, False), "bool"), ((0.5, 1.5), "float64"), (("3a", "größe", ""), "str")],
    ids=["integer", "boolean", "number", "text"],
)
def test_labels_come_back_in_the_kind_of_the_target(classes: tuple[Any, ...], kind: str, tmp_path: Path) -> None:
    table = messy_table(classes=classes)
    predictor = predictor_for(tmp_path, candidate_named("forest"), table)
    answer, one = predictor.predict(table), predictor.one(table[FEATURES].iloc[0].to_dict())
    assert one.label == answer["label"].iloc[0] and one.proba[one.label] == max(one.proba.values())
    assert answer["label"].dtype == kind
    assert set(answer["label"]) <= set(classes)
    assert (answer["label"] == table["answer"].to_numpy()).mean() > 0.9


@pytest.mark.parametrize("candidate", some_fast(CANDIDATES))
def test_missing_and_unknown_values_are_answered_by_every_candidate(candidate: Candidate, tmp_path: Path) -> None:
    predictor = predictor_for(tmp_path, candidate, messy_table())
    nothing = dict.fromkeys(FEATURES)
    strange = {**nothing, "Farbe": "never seen", "petal length (cm)": float("inf"), "petal width (cm)": 1e30}
    answer = predictor.predict([nothing, strange])
    assert np.isfinite(answer.filter(like="p:").to_numpy()).all()
    assert np.isfinite(predictor.predict_proba(pd.DataFrame(np.nan, index=range(3), columns=FEATURES))).all()


WRONG: dict[str, tuple[Any, str]] = {
    "a missing column": (messy_table()[FEATURES[1:]], "petal length"),
    "missing columns": (messy_table()[["answer"]], "Farbe"),
    "a misspelt column": (
        messy_table().rename(columns={"Farbe": "farbe"}),
        "unknown column 'farbe' .did you mean 'Farbe'",
    ),
    "text for a number": (messy_table().assign(**{"petal width (cm)": "wide"}), "petal width.*row 1 holds 'wide'"),
    "text for a truth value": (messy_table().assign(**{"in bloom?": "perhaps"}), "in bloom"),
    "a number for a date": (messy_table().assign(picked=3), "picked"),
    "a fraction for a whole number": (messy_table().assign(**{FEATURES[2]: 1.5}), "größe"),
    "a column twice": (pd.concat([messy_table(), messy_table()[["Farbe"]]], axis=1), "Farbe.*more than once"),
    "a row without a column": ([dict.fromkeys(FEATURES), dict.fromkeys(FEATURES[1:])], "row 2 lacks.*petal length"),
    "a list for a value": (dict.fromkeys(FEATURES) | {"in bloom?": [True]}, "in bloom|cannot be read"),
    "an enormous number": (dict.fromkeys(FEATURES) | {FEATURES[2]: 10**400}, "größe|cannot be read"),
    "an unknown column": (messy_table().assign(height=3), "unknown column 'height'"),
    "an answer that is asked again": (
        messy_table().assign(label="ja", **{"p:ja": 1.0}),
        "unknown columns 'label', 'p:ja'",
    ),
    "numbers for names": (messy_table()[FEATURES].set_axis(range(6), axis=1), "numbers and no names"),
    "pairs for names": (messy_table()[FEATURES].T.set_index([FEATURES, FEATURES]).T, "lack the columns"),
    "an array of other width": (np.zeros((2, 5)), "the array has 5 columns, and the contract 6"),
    "an array of one dimension": (np.zeros(6), "1 dimensions and not two"),
    "an array of texts": (np.full((2, 6), "7"), "must hold numbers"),
    "an empty dictionary": ({}, "the row lacks the columns"),
    "a list of empty dictionaries": ([{}], "row 1 lacks the columns"),
    "a text": ("5.1,3.5", "not as a str"),
    "nothing at all": (None, "not as a NoneType"),
    "a list of lists": ([[1, 2, 3]], "row 1 is a list"),
    "a series": (pd.Series([1.0]), "not as a Series"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_named(what: str, messy: Predictor) -> None:
    rows, message = WRONG[what]
    with pytest.raises(RowsError, match=message) as caught:
        messy.predict(rows)
    assert "\n" not in str(caught.value)


def test_all_that_is_wrong_is_one_error(messy: Predictor) -> None:
    rows = messy_table().drop(columns=["picked", "answer"]).rename(columns={"Farbe": "farbe"})
    rows = rows.assign(**{FEATURES[0]: "long", FEATURES[3]: "perhaps"})
    for asked in (rows, rows.to_dict("records"), rows.iloc[0].to_dict()):
        with pytest.raises(RowsError) as caught:
            messy.predict(asked)
        assert all(name in str(caught.value) for name in ("'picked'", "'Farbe'", "'farbe'", FEATURES[0], FEATURES[3]))
    with pytest.raises(RowsError) as single:
        messy.one(rows.iloc[0].to_dict())
    assert str(single.value) == str(caught.value)


def test_every_wrong_column_of_many_is_named() -> None:
    columns = [Column(f"x{n}", "number", "feature") for n in range(30)]
    contract = Contract("wide", "y", (*columns, Column("y", "category", "target", categories=("a", "b"))))
    with pytest.raises(RowsError) as caught:
        read_rows(dict.fromkeys(contract.feature_names, "text"), contract)
    assert all(f"'{name}'" in str(caught.value) for name in contract.feature_names) and len(str(caught.value)) < 1200


KINDS: dict[str, Any] = {
    "nullable": lambda t: t.convert_dtypes(),
    "arrow": lambda t: t.convert_dtypes(dtype_backend="pyarrow"),
    "categorical": lambda t: t.astype({"Farbe": "category", FEATURES[2]: "category"}),
    "objects": lambda t: t.astype(object),
    "a zone": lambda t: t.assign(picked=t["picked"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")),
    "dates as text": lambda t: t.assign(picked=t["picked"].dt.strftime("%Y-%m-%d")),
    "truth as numbers": lambda t: t.assign(**{"in bloom?": t["in bloom?"].astype(int)}),
    "truth as words": lambda t: t.assign(**{"in bloom?": t["in bloom?"].map({True: "True", False: "false"})}),
    "small numbers": lambda t: t.assign(**{FEATURES[2]: t[FEATURES[2]].astype("int8")}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_storage_type_does_not_matter(kind: str, messy: Predictor, table: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(messy.predict(KINDS[kind](table)), messy.predict(table))


def test_an_array_is_answered_like_a_frame(messy: Predictor, table: pd.DataFrame) -> None:
    plain = table.astype(object).where(table.notna(), None).to_numpy()
    pd.testing.assert_frame_equal(messy.predict(plain), messy.predict(table))
    hidden = np.ma.masked_array(np.array([[1.0, 2.0]]), mask=[[False, True]])
    two = [Column("a", "number", "feature"), Column("b", "number", "feature")]
    contract = Contract("t", "y", (*two, Column("y", "category", "target", categories=("u", "v"))))
    assert np.isnan(read_rows(hidden, contract).columns["b"]).all()


# --- remarks ---


def test_remarks_say_what_is_odd(messy: Predictor, table: pd.DataFrame) -> None:
    sound = table.loc[table.notna().all(axis=1)].head(3)
    assert messy.check(sound) == [""] * 3 == messy.predict(sound)["outside"].tolist()
    changes = {"Farbe": "grün", "petal width (cm)": 99.5, FEATURES[2]: -7, "picked": "1931-05-01", "in bloom?": None}
    odd = sound.astype(object).iloc[[0]].assign(**changes)
    (said,) = messy.check(odd)
    for text in (
        "Farbe 'grün' is not one of 'blau', 'rot', 'weiß'",
        "99.5 is above",
        "-7 is below",
        "1931-05-01 is below",
    ):
        assert text in said
    assert "in bloom? is missing" in said and messy.one(odd.iloc[0].to_dict()).outside == said
    assert messy.check(sound.assign(Farbe=None)) == [""] * 3  # the contract says that it may be missing


def test_an_infinite_value_counts_as_missing_and_is_remarked_on(messy: Predictor, table: pd.DataFrame) -> None:
    row = table.iloc[[1]].astype(object).iloc[0].to_dict()
    for value in (float("inf"), -np.inf, np.float32("inf")):
        asked = row | {"petal width (cm)": value}
        assert messy.check(asked) == ["petal width (cm) is not finite and counts as missing"]
        assert messy.one(asked).proba == messy.one(row | {"petal width (cm)": None}).proba


def test_a_row_without_any_value_is_never_in(tmp_path: Path, table: pd.DataFrame) -> None:
    predictor = sure_predictor(tmp_path)
    nothing = dict.fromkeys(FEATURES)
    answer = predictor.predict([nothing, nothing | {FEATURES[0]: float("inf")}, table.astype(object).iloc[1].to_dict()])
    assert answer["domain"].tolist()[:2] == ["out", "out"] and answer["outside"].tolist()[:2] == [NO_VALUE] * 2
    assert answer["distance"].isna().tolist() == [True, True, False] and answer["outside"][2] == ""
    single = predictor.one(nothing, sure=True)
    assert (single.domain, single.outside) == ("out", NO_VALUE)


LIMITED = Contract(
    "t",
    "y",
    (
        Column("n", "number", "feature", minimum=0, maximum=1.5),
        Column("i", "integer", "feature", nullable=True, minimum=-3, maximum=3),
        Column("b", "boolean", "feature"),
        Column("c", "category", "feature", nullable=True, categories=("u", "v")),
        Column("free", "number", "feature", nullable=True),
        Column("d", "date", "feature", minimum="2020-01-01", maximum="2021-01-01"),
        Column("id", "id", "left out", reason="it is an id"),
        Column("y", "category", "target", categories=("a", "b")),
    ),
)
CELLS = {
    "n": st.none() | st.floats() | st.integers() | st.booleans() | st.text(max_size=3) | st.just(10**400),
    "i": st.none() | st.floats() | st.integers(-9, 9) | st.integers() | st.just(np.int64(2)) | st.just(np.float64(2.5)),
    "b": st.none() | st.booleans() | st.sampled_from([0, 1, 0.0, 1.0, 2, "True", "yes", float("nan"), np.True_]),
    "c": st.none()
    | st.sampled_from(["u", "v", 1, 1.5, float("nan"), True])
    | st.text(max_size=3)
    | st.lists(st.none()),
    "free": st.none() | st.floats() | st.integers() | st.just(pd.NA) | st.just(pd.NaT) | st.decimals(),
    "d": st.none() | st.dates() | st.datetimes() | st.sampled_from(["2020-06-01", "2031-06-01", "later", 3]),
}


@settings(max_examples=60)
@given(row=st.fixed_dictionaries(CELLS, optional={"id": st.integers(), "y": st.text(), "other": st.integers()}))
def test_a_single_row_is_read_as_a_frame_of_it(row: dict[str, Any]) -> None:
    assert_read_alike(row)


@pytest.mark.slow
@settings(max_examples=2000)
@given(row=st.fixed_dictionaries(CELLS, optional={"id": st.integers(), "y": st.text(), "other": st.integers()}))
def test_many_single_rows_are_read_as_frames_of_them(row: dict[str, Any]) -> None:
    assert_read_alike(row)


def assert_read_alike(row: dict[str, Any]) -> None:
    """A single row has the values and the remark of a frame of it, or the same error."""
    reader = RowReader(LIMITED)
    try:
        read = read_rows([row], LIMITED)
    except RowsError as error:
        with pytest.raises(RowsError) as caught:
            reader.read(row)
        assert str(caught.value).replace("the row", "row 1") == str(error)
        return
    values, said = reader.read(row)
    assert said == remarks(read.columns, LIMITED).get(0, "")
    for value, column in zip(values, read.columns.values(), strict=True):
        infinite = isinstance(value, float) and math.isinf(value)  # of either sign: it counts as missing
        assert (value != value and pd.isna(column[0])) or (
            abs(column[0]) == math.inf if infinite else value == column[0]
        )


# --- the fast way ---


def sure_predictor(folder: Path, candidate: str = "lda", score: str = "lac") -> Predictor:
    """A predictor with prediction sets and a domain."""
    table = messy_table()
    pipeline, contract = fit(candidate_named(candidate), table)
    X, y = contract.conform(table), contract.labels(table["answer"])
    answers = Answers(y.to_numpy(), pipeline.predict_proba(X), contract.classes)
    sets = conformal_of(answers, 0.8, score, "class")
    domain = domain_of(pipeline["features"].transform(X), y, 1000, 0)
    extras = {"conformal": sets.to_dict(), "domain": domain.to_dict()}
    save_model(folder / "model", pipeline, {"classes": list(contract.classes)}, contract, extras)
    return Predictor.load(folder / "model")


class Off:
    """A fast way that is off by a little, and counts what it was asked."""

    def __init__(self, exact: Predictor, off: float) -> None:
        self.exact, self.off, self.asked = exact, off, 0

    def proba(self, columns: Any) -> Any:
        proba = self.exact.answer(columns)
        self.asked += len(proba)
        noise = np.tile([self.off, -self.off], proba.shape[1])[: proba.shape[1]]
        noise[-1] -= noise.sum()
        return proba + noise


@pytest.fixture(scope="module", params=["lac", "aps"])
def exact_and_off(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Predictor, Predictor]:
    folder = tmp_path_factory.mktemp("off")
    exact, off = sure_predictor(folder, score=request.param), Predictor.load(folder / "model")
    off._way = _Way("onnx", "for a test", Off(exact, 0.02), 0.1, 0.02)
    return exact, off


def test_labels_sets_and_marks_of_a_fast_way_are_those_of_the_exact_one(
    exact_and_off: tuple[Predictor, Predictor], table: pd.DataFrame
) -> None:
    exact, off = exact_and_off
    right, fast = exact.predict(table), off.predict(table)
    for name in ("label", "set", "domain", "distance", "outside"):
        pd.testing.assert_series_equal(right[name], fast[name])
    chances = [f"p:{name}" for name in exact.classes]
    apart = np.abs(right[chances] - fast[chances]).to_numpy().max(axis=1)
    top = np.sort(right[chances].to_numpy(), axis=1)
    assert (apart[top[:, -1] - top[:, -2] < 0.05] < 1e-12).all() and apart.max() > 0.01


ASKED = st.fixed_dictionaries(
    {
        FEATURES[0]: st.none() | st.floats(-5, 9) | st.sampled_from([float("nan"), float("inf"), 1e31]),
        FEATURES[1]: st.floats(-5, 9) | st.integers(0, 9),
        FEATURES[2]: st.none() | st.integers(-3, 30),
        FEATURES[3]: st.none() | st.booleans(),
        FEATURES[4]: st.sampled_from(["rot", "blau", "weiß", "grün", None]),
        FEATURES[5]: st.none() | st.sampled_from(["2020-05-01", "2022-07-09", "2040-01-01"]),
    }
)


def assert_one_is_predict(predictor: Predictor, row: dict[str, Any]) -> None:
    """A single row has the answer that predict gives to it, bit for bit."""
    whole, single = predictor.predict([row]), predictor.one(row, sure=True)
    assert list(single.proba.values()) == whole.filter(like="p:").iloc[0].tolist()
    assert single.label == whole["label"][0] and single.outside == whole["outside"][0]
    assert json.dumps(list(single.set or ()), ensure_ascii=False) == whole["set"][0]
    assert single.domain == whole["domain"][0]
    assert single.distance == whole["distance"][0] or np.isnan(whole["distance"][0])
    assert predictor.one(row)[:3] == single[:3]


@settings(max_examples=10)
@given(row=ASKED)
def test_one_row_is_answered_as_predict_answers_it(exact_and_off: tuple[Predictor, Predictor], row: Any) -> None:
    for predictor in exact_and_off:
        assert_one_is_predict(predictor, row)


@pytest.mark.slow
@settings(max_examples=200)
@given(row=ASKED)
def test_many_single_rows_are_answered_as_predict_answers_them(
    exact_and_off: tuple[Predictor, Predictor], row: Any
) -> None:
    for predictor in exact_and_off:
        assert_one_is_predict(predictor, row)


def test_the_exact_way_is_never_fast(tmp_path: Path) -> None:
    sure_predictor(tmp_path)
    predictor = Predictor.load(tmp_path / "model", exact=True)
    assert (predictor.how, predictor.why) == ("skops", "the exact way was asked for") and predictor._way.fast is None
    assert Predictor.load(tmp_path / "model").how == "skops"


def with_onnx(model: Any, parity: Any, data: bytes = b"\x00") -> Any:
    """A loaded model that says it has an ONNX file."""

    class WithFiles:
        files: ClassVar[dict[str, bytes]] = {"model.onnx": data, "parity.json": json.dumps(parity).encode()}

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

    return WithFiles()


def tables() -> dict[str, tuple[pd.DataFrame, str]]:
    """Iris, wine, and a messy table without dates, which have no place in a graph."""
    iris, wine = load_iris(as_frame=True).frame, load_wine(as_frame=True).frame
    return {
        "iris": (iris, "target"),
        "wine": (wine, "target"),
        "messy": (messy_table().drop(columns="picked"), "answer"),
    }


def disturbed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows as they should not be: gaps, huge values, categories that nobody knows, and rows between two others."""
    table, rng = table.astype(object), np.random.default_rng(0)
    for name in table:
        table.loc[rng.random(len(table)) < 0.1, name] = None
        if isinstance(table[name].dropna().iloc[0], str):
            table.loc[rng.random(len(table)) < 0.1, name] = "nobody knows"
        elif not isinstance(table[name].dropna().iloc[0], bool):
            table.loc[rng.random(len(table)) < 0.1, name] = 1000
    return table


@pytest.mark.slow
@pytest.mark.parametrize("which", ["iris", "wine", "messy"])
@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda c: c.name)
def test_every_way_of_every_candidate_gives_the_same_labels(candidate: Candidate, which: str, tmp_path: Path) -> None:
    onnxfile = pytest.importorskip("iris_nb.onnxfile")
    table, target = tables()[which]
    contract = infer_contract(table, which, target)
    train, test = table.iloc[::2], table.iloc[1::2].drop(columns=target)
    X, y = contract.conform(train), contract.labels(train[target])
    pipeline = fit_candidate(candidate, build_features(contract, OPTIONS), X, y, 0, "none")
    save_model(tmp_path / "model", pipeline, {"classes": list(contract.classes)}, contract)
    model = load_model(tmp_path / "model")
    made = onnxfile.export_onnx(pipeline, contract, X)
    if not made.parity["trusted"]:
        assert made.parity["why"]
        return
    exact, fast = Predictor(model, exact=True), Predictor(with_onnx(model, made.parity, made.data))
    assert fast.how == "onnx", fast.why
    for rows in (test, disturbed(test)):
        right, quick = exact.predict(rows), fast.predict(rows)
        assert (right["label"] == quick["label"]).all()
        assert np.allclose(right.filter(like="p:"), quick.filter(like="p:"), rtol=0, atol=1e-5)
        plain = rows.astype(object).where(rows.notna(), None).to_dict("records")
        assert [fast.one(row).label for row in plain] == right["label"].tolist()


TRUSTED = {
    "converted": True,
    "why": "",
    "rows": 9,
    "labels_differ": 0,
    "largest_difference": 0.0,
    "margin": 0.1,
    "trusted": True,
}


@pytest.mark.parametrize(
    "parity",
    [None, [], {}, TRUSTED | {"trusted": "yes"}, TRUSTED | {"trusted": False}, TRUSTED | {"margin": -1}]
    + [TRUSTED | {"margin": m} for m in (None, "0", True, float("nan"), float("inf"))],
    ids=str,
)
def test_a_graph_that_is_not_trusted_is_not_used(parity: Any, messy: Predictor) -> None:
    predictor = Predictor(with_onnx(messy._model, parity))
    assert predictor.how == "skops" and "not trusted" in predictor.why


def test_a_graph_that_cannot_be_opened_is_not_used(messy: Predictor, table: pd.DataFrame) -> None:
    predictor = Predictor(with_onnx(messy._model, TRUSTED))
    assert predictor.how == "skops" and "model.onnx cannot be" in predictor.why
    pd.testing.assert_frame_equal(predictor.predict(table), messy.predict(table))


def test_numbers_that_only_the_exact_model_may_see(
    exact_and_off: tuple[Predictor, Predictor], table: pd.DataFrame
) -> None:
    exact, off = exact_and_off
    far = table.astype(object).head(2).assign(**{FEATURES[1]: [1e31, np.inf]})
    before = off.predict_proba(far)
    assert (before[0] == exact.predict_proba(far.head(1))[0]).all() and np.isfinite(before).all()


def test_many_threads_get_their_own_answers(exact_and_off: tuple[Predictor, Predictor], table: pd.DataFrame) -> None:
    rows = table.astype(object).where(table.notna(), None).head(4).to_dict("records")
    for predictor in exact_and_off:
        alone = [predictor.one(row) for row in rows]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(predictor.one, rows * 2)) == alone * 2
    assert blas_threads() == BLAS_THREADS


def blas_threads() -> list[int]:
    return [one["num_threads"] for one in candidates._controller().info() if one["user_api"] == "blas"]


BLAS_THREADS = blas_threads()


# --- which model ---


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.datetimes()
    | st.binary(max_size=3) | st.lists(st.integers(), max_size=2) | st.decimals() | st.complex_numbers()
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries(dict.fromkeys(FEATURES, VALUES)), max_size=3))
def test_any_values_are_answered_or_refused(rows: list[dict[str, Any]], messy: Predictor) -> None:
    try:
        answer = messy.predict(rows)
    except RowsError:
        return
    assert len(answer) == len(rows) and np.isfinite(messy.predict_proba(rows)).all()


def test_a_value_that_a_model_cannot_take_is_no_crash(tmp_path: Path) -> None:
    predictor = predictor_for(tmp_path, candidate_named("forest"), messy_table())
    with pytest.raises(RowsError, match="cannot answer these rows"):
        predictor.predict(dict.fromkeys(FEATURES) | {"petal width (cm)": 1e300})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "no model was named"),
        ("   ", "no model was named"),
        (Path(), "no model was named"),
        ("{}/nowhere", "there is no model folder .*the folders in .* are 'model', 'empty'"),
        ("{}/nowhere/at/all", "there is no model folder .*the folders in"),
        ("{}/empty", "neither a model folder .* nor that of a run .*it holds nothing"),
        ("{}", "neither a model folder"),
        ("{}/model/model.skops", "is a file; give the folder"),
    ],
)
def test_a_source_that_is_no_model(source: Any, message: str, tmp_path: Path) -> None:
    sure_predictor(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match=message) as caught:
        Predictor.load(source.format(tmp_path) if isinstance(source, str) else source)
    assert "\n" not in str(caught.value)


def test_an_alias_is_never_a_folder_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sure_predictor(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert _looks_like_a_path("model") and _looks_like_a_path("./production") and _looks_like_a_path(Path("production"))
    for name in (
        "production",
        "staging",
        "model/3",
        "model@production",
        "models:/model/3",
        "20261122T203015-iris-5f0a",
    ):
        (tmp_path / name.replace("/", "-")).mkdir(exist_ok=True)
        assert not _looks_like_a_path(name)
    assert Predictor.load("model").classes == ("ja", "nein", "vielleicht")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run whose record knows its model."""
    with begin_run(tmp_path, "messy", blank_record(table="messy")) as folder:
        sure_predictor(folder / "training")
        model = folder / "training" / "model"
        write_json(folder / "training" / "training.json", {"model_sha256": sha256_file(model / "manifest.json")})
        names = ("training/training.json", "training/model/manifest.json")
        stage = blank_stage("training", status="done", files={name: sha256_file(folder / name) for name in names})
        write_manifest(folder, read_json(folder / "run.json") | {"status": "done", "stages": [stage]})
    return folder


def test_a_run_is_loaded_by_its_record(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = sha256_file(run / "training" / "model" / "manifest.json")
    assert Predictor.load(run).sha256 == known == Predictor.load(str(run), known).sha256
    monkeypatch.chdir(run)
    assert Predictor.load("./").sha256 == known
    with pytest.raises(ModelFileError, match="was expected"):
        Predictor.load(run, "0" * 64)


def forged_model(run: Path) -> None:
    shutil.rmtree(run / "training" / "model")
    table = messy_table()
    pipeline, contract = fit(candidate_named("forest"), table)
    save_model(run / "training" / "model", pipeline, {"classes": list(contract.classes)}, contract)


def forged_facts(run: Path) -> None:
    forged_model(run)
    known = sha256_file(run / "training" / "model" / "manifest.json")
    write_json(run / "training" / "training.json", {"model_sha256": known})


def forged_record(run: Path) -> None:
    forged_facts(run)
    record = read_json(run / "run.json")
    record["stages"][0]["files"] = {name: sha256_file(run / name) for name in record["stages"][0]["files"]}
    write_json(run / "run.json", record)


def no_model(run: Path) -> None:
    record = read_json(run / "run.json")
    write_manifest(run, record | {"status": "failed", "stages": [blank_stage("training", status="failed")]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (forged_model, "not the one that was recorded"),
        (forged_facts, "training/training.json .* is not what run.json recorded"),
        (forged_record, "seal does not fit"),
        (no_model, "has no model: its training did not end"),
    ],
)
def test_a_run_whose_model_was_exchanged_is_refused(change: Any, message: str, run: Path) -> None:
    change(run)
    with pytest.raises(InputError, match=message):
        Predictor.load(run)


def test_it_tells_where_it_comes_from(messy: Predictor) -> None:
    assert messy.info["format"] == 2 and messy.classes == ("ja", "nein", "vielleicht")
    assert messy.contract.target == "answer" and len(messy.sha256) == 64


# --- the training and inference stages ---


@pytest.mark.parametrize("candidate", some_fast(c for c in CANDIDATES if c.eligible))
def test_every_candidate_passes_through_training_and_inference(candidate: Candidate) -> None:
    run = open_run("")
    data = load_data(run)
    choice = Choice(load_models(run, data).facts | {"chosen": candidate.name})
    trained = train_model(data, load_features(run, data), choice, 0)
    outcome = evaluate(trained.answers, trained.baseline, "balanced_accuracy", "", 100, 0.95, 10, 0)
    save_training(run, data, choice, trained, outcome, 0)
    training = load_training(run, data)
    served = answer_held_out(data, training)
    proof = compare_answers(training.predictions, served, 0.0)
    assert proof.equal and proof.largest_difference == 0 and outcome.gate.passed
    assert all(way.labels_differ == 0 for way in compare_ways(data, training, served))
    require_equal(proof)
    save_inference(run, training, served, proof)
    assert (run.path / "inference" / "predictions.parquet").read_bytes() == (
        run.path / "training" / "predictions.parquet"
    ).read_bytes()


def test_the_same_seed_trains_the_same_model_and_answers() -> None:
    hashes = set()
    for _ in range(2):
        run = open_run("")
        training = load_training(run, load_data(run))
        hashes.add((training.facts["model_sha256"], training.predictions.to_json(), str(training.facts)))
    assert len(hashes) == 1


def answers(**changes: Any) -> pd.DataFrame:
    columns = {"row": [4, 7], "actual": ["a", "b"], "predicted": ["a", "b"], "p:a": [0.9, 0.2], "p:b": [0.1, 0.8]}
    return pd.DataFrame(columns | changes)


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({"predicted": ["a", "a"]}, 7),
        ({"p:a": [0.9 + 1e-9, 0.2]}, 4),
        ({"p:b": [0.1, float("nan")]}, 7),
        ({"p:b": [float("inf"), 0.8]}, 4),
    ],
)
def test_the_first_row_that_differs_is_named(changes: dict[str, Any], row: int) -> None:
    proof = compare_answers(answers(), answers(**changes), 1e-12)
    assert not proof.equal and proof.first_different is not None and proof.first_different.row == row
    with pytest.raises(StageError, match=f"row {row} "):
        require_equal(proof)


@pytest.mark.parametrize("way", [Way("onnx", 2, 1, 0.5), Way("single rows", 2, 0, None)])
def test_a_way_that_answers_otherwise_ends_the_run(way: Way) -> None:
    with pytest.raises(StageError, match=f"the way '{way.way}' does not answer"):
        require_equal(compare_answers(answers(), answers(), 1e-12, (way,)))
    require_equal(compare_answers(answers(), answers(), 1e-12, (Way("onnx", 0, 0, None, "there is none"),)))


@pytest.mark.parametrize("other", [answers(row=[4, 8]), answers().rename(columns={"p:a": "p:c"}), answers().head(1)])
def test_answers_to_other_rows_are_not_compared(other: pd.DataFrame) -> None:
    with pytest.raises(StageError, match="other rows or classes"):
        compare_answers(answers(), other, 1e-12)


def test_a_difference_below_the_tolerance_is_equal() -> None:
    assert compare_answers(answers(), answers(**{"p:a": [0.9 + 1e-14, 0.2]}), 1e-12).equal


def test_a_model_that_was_exchanged_after_training_is_refused() -> None:
    run = open_run("")
    data = load_data(run)
    training = load_training(run, data)
    (training.model / "manifest.json").write_text((training.model / "manifest.json").read_text() + " ")
    with pytest.raises(ModelFileError, match="not the one that was recorded"):
        answer_held_out(data, training)


def test_rows_are_shown_only_where_they_may_be() -> None:
    run = open_run("")
    data = load_data(run)
    served = answer_held_out(data, load_training(run, data))
    assert "petal_length" in repr(sample_answers(data, served, 5))
    data.facts["show_rows"] = False
    hidden = repr(sample_answers(data, served, 5)) + sample_answers(data, served, 5)._repr_html_()
    assert "petal_length" not in hidden and "confidence" not in hidden
