"""ONNX files: equal answers for every candidate, also on the edges of trees, and refused if anything in them is not ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, load_model_from_string
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.ensemble import AdaBoostClassifier, GradientBoostingClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler

from iris_nb.calibrated import METHODS, fit_pipeline
from iris_nb.candidates import CANDIDATES, Candidate, candidate_named, fit_candidate, probabilities
from iris_nb.contract import Contract, infer_contract
from iris_nb.ensembles import ENSEMBLES
from iris_nb.errors import ModelFileError
from iris_nb.features import FeatureOptions, build_features
from iris_nb.files import sha256_bytes
from iris_nb.graph import NotConvertible
from iris_nb.onnxfile import (
    MOST_DIFFERENT,
    OnnxModel,
    as_texts,
    check_graph,
    closer,
    convert,
    export_onnx,
    measure_parity,
    parity_sentence,
    probe_rows,
)

OPTIONS = FeatureOptions(construct="auto", scale="standard", max_categories=3, rare=0.05)
pytestmark = pytest.mark.filterwarnings("ignore")


def messy_table(classes: int = 3, rows: int = 150) -> pd.DataFrame:
    """Numbers with gaps, whole numbers, booleans, categories with rare values and odd names."""
    rng = np.random.default_rng(0)
    shift = np.resize(np.arange(classes), rows)
    colours = np.array(["rot", "blau", "weiß", "grün", "lila, fast"], dtype=object)
    table = pd.DataFrame(
        {
            "petal length (cm)": rng.normal(shift, 1.0).round(2),
            "petal width (cm)": rng.normal(3, 1, rows).round(1),
            'a "quoted" größe': rng.integers(0, 9, rows) + 2 * shift,
            "in bloom?": rng.random(rows) < 0.5,
            "Farbe": rng.choice(colours, rows, p=[0.4, 0.3, 0.2, 0.07, 0.03]),
            "answer": np.array(["ja", "nein", "vielleicht"], dtype=object)[shift],
        }
    )
    table.loc[::7, "petal length (cm)"] = np.nan
    table.loc[::11, "Farbe"] = None
    return table


TABLES = {
    "iris": (lambda: load_iris(as_frame=True).frame, "target"),
    "wine": (lambda: load_wine(as_frame=True).frame, "target"),
    "cancer": (lambda: load_breast_cancer(as_frame=True).frame, "target"),
    "messy": (messy_table, "answer"),
    "messy with two classes": (lambda: messy_table(2), "answer"),
}


def study(name: str) -> tuple[Contract, pd.DataFrame, pd.Series]:
    """Contract, rows and labels of a table."""
    make, target = TABLES[name]
    table = make()
    contract = infer_contract(table, "table", target)
    return contract, contract.conform(table), contract.labels(table[target])


def fit(candidate: Candidate, name: str, options: FeatureOptions = OPTIONS) -> tuple[Any, Contract, pd.DataFrame]:
    """A fitted pipeline, its contract and its rows."""
    contract, X, y = study(name)
    return fit_candidate(candidate, build_features(contract, options), X, y, 0, "none"), contract, X


def columns_of(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Rows as a model takes them."""
    return {str(name): rows[name].to_numpy() for name in rows}


@pytest.mark.parametrize(
    "table", [name if name in ("iris", "messy") else pytest.param(name, marks=pytest.mark.slow) for name in TABLES]
)
@pytest.mark.parametrize(
    "candidate", [c for c in CANDIDATES if c.name not in ("majority", "knn")], ids=lambda c: c.name
)
def test_every_candidate_has_a_file_that_agrees(candidate: Candidate, table: str) -> None:
    pipeline, contract, X = fit(candidate, table)
    exported = export_onnx(pipeline, contract, X)
    assert exported.parity["trusted"], exported.parity["why"]
    assert exported.parity["labels_differ"] == 0 and exported.parity["rows"] == len(X)
    assert exported.parity["largest_difference"] < 1e-6 and exported.data is not None
    model = OnnxModel(exported.data, contract, contract.classes, exported.parity)
    rows = probe_rows(contract, X, 700)
    found, right = model.proba(columns_of(rows)), probabilities(pipeline, rows, contract.classes)
    sure = ~model.near(found)
    assert np.abs(found - right)[sure].max() < MOST_DIFFERENT
    assert (found.argmax(1) == right.argmax(1))[sure].all()


def test_neighbours_are_answered_by_the_exact_model_and_say_why() -> None:
    exported = export_onnx(*fit(candidate_named("knn"), "iris"))
    assert exported.data is None and not exported.parity["trusted"] and not exported.parity["converted"]
    assert "equal distances" in parity_sentence(exported.parity)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["lda", "naive_bayes", "svm", "forest", "boosting"])
@pytest.mark.parametrize("table", ["iris", "messy with two classes"])
def test_calibrated_models_agree(method: str, name: str, table: str) -> None:
    contract, X, y = study(table)
    features = build_features(contract, OPTIONS)
    pipeline = fit_pipeline(candidate_named(name), features, X, y, None, 0, "none", method)
    parity = export_onnx(pipeline, contract, X).parity
    assert parity["trusted"], parity["why"]


@pytest.mark.parametrize("kind", ENSEMBLES)
@pytest.mark.parametrize("table", ["iris", "messy with two classes"])
def test_ensembles_agree(kind: Any, table: str) -> None:
    kind = ENSEMBLES[kind] if isinstance(ENSEMBLES, dict) else kind
    candidate = kind([candidate_named(name) for name in ("lda", "naive_bayes", "tree")])
    parity = export_onnx(*fit(candidate, table)).parity
    assert parity["trusted"], parity["why"]


@pytest.mark.parametrize(
    "options",
    [
        FeatureOptions("none", "none", 20, 0.0),
        FeatureOptions("all", "robust", 2, 0.2, polynomial=4),
        FeatureOptions("auto", "standard", 20, 0.01, select="mutual_info", select_share=0.5),
    ],
    ids=["plain", "robust and polynomial", "selected"],
)
@pytest.mark.parametrize("name", ["logistic", "tree"])
def test_every_preparation_agrees(options: FeatureOptions, name: str) -> None:
    parity = export_onnx(*fit(candidate_named(name), "messy", options)).parity
    assert parity["trusted"], parity["why"]


def with_model(model: Any, table: str = "iris") -> tuple[Any, Contract, pd.DataFrame]:
    """Any classifier behind the prepared features."""
    contract, X, y = study(table)
    features = build_features(contract, OPTIONS)
    Z = features.fit_transform(X, y)
    return Pipeline([("features", features), ("model", model.fit(Z, y.astype(str)))]), contract, X


@pytest.mark.parametrize(
    "model",
    [
        GradientBoostingClassifier(n_estimators=20),
        make_pipeline(MinMaxScaler(), GradientBoostingClassifier(n_estimators=9)),
    ],
    ids=["gradient boosting", "scaled before"],
)
def test_imported_models_agree(model: Any) -> None:
    parity = export_onnx(*with_model(model)).parity
    assert parity["trusted"], parity["why"]


@pytest.mark.parametrize(
    "model", [AdaBoostClassifier(n_estimators=10), SGDClassifier(loss="log_loss")], ids=["ada", "sgd"]
)
def test_what_is_borrowed_is_compared_like_the_rest(model: Any) -> None:
    pipeline, contract, X = with_model(model)
    exported = export_onnx(pipeline, contract, X)
    assert (exported.data is not None) == exported.parity["trusted"]
    assert exported.parity["trusted"] or exported.parity["why"]


def test_a_model_without_probabilities_says_so() -> None:
    parity = export_onnx(*with_model(SGDClassifier())).parity
    assert not parity["converted"] and "gives no probabilities" in parity["why"]


def test_dates_say_why_there_is_no_file() -> None:
    table = messy_table().assign(picked=pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(150) // 2, unit="D"))
    contract = infer_contract(table, "table", "answer")
    X, y = contract.conform(table), contract.labels(table["answer"])
    pipeline = fit_candidate(candidate_named("lda"), build_features(contract, OPTIONS), X, y, 0, "none")
    assert "'picked' holds dates" in export_onnx(pipeline, contract, X).parity["why"]


def test_a_file_that_disagrees_is_refused() -> None:
    pipeline, contract, X = fit(candidate_named("logistic"), "iris")
    other, _, _ = fit(candidate_named("naive_bayes"), "iris")
    model = OnnxModel(convert(other, contract), contract, contract.classes, {})
    parity = measure_parity(model, pipeline, contract, X)
    assert parity["converted"] and not parity["trusted"] and "label" in parity["why"]


# --- on the edges of trees ---


@pytest.fixture(scope="module")
def edgy() -> tuple[Any, OnnxModel, pd.DataFrame, dict[int, np.ndarray]]:
    """Extremely randomised trees on raw measurements, their file, rows, and the thresholds of each feature."""
    pipeline, contract, X = fit(candidate_named("extra_trees"), "iris", FeatureOptions("none", "none", 20, 0.01))
    model = OnnxModel(convert(pipeline, contract), contract, contract.classes, {})
    trees = [tree.tree_ for tree in pipeline["model"].estimators_]
    edges = {f: np.unique(np.concatenate([t.threshold[t.feature == f] for t in trees])) for f in range(4)}
    return pipeline, model, X, edges


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_rows_on_thresholds_turn_the_same_way(data: st.DataObject, edgy: Any) -> None:
    pipeline, model, X, edges = edgy
    row = []
    for feature in range(4):
        edge = edges[feature][data.draw(st.integers(0, len(edges[feature]) - 1))]
        rounded = np.float32(edge)
        way = data.draw(st.sampled_from(["edge", "rounded", "below", "above", "just below", "just above"]))
        row.append(
            {
                "edge": edge,
                "rounded": float(rounded),
                "below": float(np.nextafter(rounded, np.float32(-9))),
                "above": float(np.nextafter(rounded, np.float32(9e9))),
                "just below": np.nextafter(edge, -np.inf),
                "just above": np.nextafter(edge, np.inf),
            }[way]
        )
    rows = pd.DataFrame([row], columns=X.columns)
    assert np.abs(model.proba(columns_of(rows)) - pipeline.predict_proba(rows)).max() < 1e-7


def test_numbers_beyond_32_bits_are_left_to_the_exact_model(edgy: Any) -> None:
    _, model, X, _ = edgy
    rows = X.iloc[:3].copy()
    rows.iloc[1, 0] = 1e39
    assert model.near(model.proba(columns_of(rows))).tolist() == [False, True, False]


# --- a model that answers ---


@pytest.mark.parametrize("name", ["logistic", "naive_bayes", "svm", "mlp", "tree", "forest", "boosting"])
def test_a_row_gets_the_same_bits_alone_and_in_any_block(name: str) -> None:
    pipeline, contract, X = fit(candidate_named(name), "messy")
    exported = export_onnx(pipeline, contract, X)
    model = OnnxModel(exported.data or b"", contract, contract.classes, exported.parity)
    whole = model.proba(columns_of(X))
    model.rows = 7
    assert np.array_equal(model.proba(columns_of(X)), whole)
    for place in (0, 7, 11):
        assert np.array_equal(model.proba(columns_of(X.iloc[[place]]))[0], whole[place])
    for place in np.flatnonzero(X.notna().all(axis=1)):
        assert model.proba_of_one(tuple(X.iloc[place])) == whole[place].tolist()
    assert model.proba({name: values[:0] for name, values in columns_of(X).items()}).shape == (0, 3)


@given(
    texts=st.lists(st.one_of(st.none(), st.text(max_size=4), st.sampled_from(["red", "red\0x", "blue"])), max_size=90)
)
@settings(max_examples=50, deadline=None)
def test_texts_are_known_missing_or_unknown(texts: list[str | None]) -> None:
    found = as_texts(np.array([*texts, "red"], dtype=object), frozenset(["red", "blue"]))
    right = ["(missing)" if t is None else t if t in ("red", "blue") else "(unknown)" for t in [*texts, "red"]]
    assert found.tolist() == right


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=20), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_closer_compares_the_two_likeliest(rows: list[list[float]], margin: float) -> None:
    top = np.sort(np.array(rows), axis=1)
    assert np.array_equal(closer(np.array(rows), margin), ~(top[:, -1] - top[:, -2] >= margin))


def test_what_is_no_number_is_close() -> None:
    assert closer(np.array([[np.nan, 0.1], [0.1, np.nan], [0.9, 0.1]]), 0.1).tolist() == [True, True, False]


def test_another_process_writes_the_same_bytes() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom test_onnxfile import *\n"
        "print(*(sha256_bytes(convert(*fit(candidate_named(n), 'messy')[:2])) for n in ('svm', 'boosting')))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        sha256_bytes(convert(*fit(candidate_named(n), "messy")[:2])) for n in ("svm", "boosting")
    ]


# --- files that are not ours ---


@pytest.fixture(scope="module")
def file() -> bytes:
    """An ONNX file of ours."""
    return convert(*fit(candidate_named("logistic"), "iris")[:2])


def outside(model: Any) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="../../etc/passwd")


def outside_in_attribute(model: Any) -> None:
    tensor = TensorProto(name="t", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="x")
    model.graph.node.append(helper.make_node("Cast", ["c0"], ["x"], value=tensor))


def inner_graph(model: Any) -> None:
    inner = helper.make_graph([helper.make_node("Print", ["a"], ["b"], domain="evil")], "inner", [], [])
    model.graph.node.append(helper.make_node("Cast", ["c0"], ["x"], body=inner))


def function(model: Any) -> None:
    model.functions.add(name="Add", domain="evil")


CHANGES = {
    "weights elsewhere": (outside, "another file"),
    "weights of an attribute elsewhere": (outside_in_attribute, "another file"),
    "a loop": (lambda m: m.graph.node.append(helper.make_node("Loop", ["c0"], ["x"])), "Loop"),
    "another domain": (
        lambda m: m.graph.node.append(helper.make_node("Add", ["c0"], ["x"], domain="com.x")),
        r"com\.x",
    ),
    "another set": (lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1)), r"com\.microsoft"),
    "a graph inside": (inner_graph, "graph inside"),
    "a function": (function, "functions"),
    "training": (lambda m: m.training_info.add(), "functions"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_with_more_than_plain_operations_is_refused(change: str, file: bytes) -> None:
    model = load_model_from_string(file)
    CHANGES[change][0](model)
    with pytest.raises(ModelFileError, match=CHANGES[change][1]):
        check_graph(model.SerializeToString())


@given(st.binary(max_size=200))
@settings(max_examples=80, deadline=None)
def test_any_bytes_are_refused(data: bytes) -> None:
    contract, _, _ = study("iris")
    with pytest.raises(ModelFileError) as caught:
        OnnxModel(data, contract, contract.classes, {})
    assert "\n" not in str(caught.value)


def test_a_file_of_another_table_is_refused(file: bytes) -> None:
    contract, _, _ = study("wine")
    with pytest.raises(ModelFileError, match="not of one model"):
        OnnxModel(file, contract, contract.classes, {})


def test_not_convertible_is_an_error_of_ours() -> None:
    assert NotConvertible("why").exit_code == 1
