"""The predictor: equal answers whatever the shape of the question, and an error that names what does not fit."""

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
from test_modelfile import fit, messy_table

from iris_nb.candidates import CANDIDATES, Candidate, candidate_named
from iris_nb.data import load_data
from iris_nb.errors import ModelFileError, RowsError, StageError
from iris_nb.evaluation import evaluate
from iris_nb.features import load_features
from iris_nb.folders import open_run
from iris_nb.inference import answer_held_out, compare_answers, require_equal, sample_answers, save_inference
from iris_nb.modelfile import save_model
from iris_nb.models import Choice, load_models
from iris_nb.predictor import Predictor
from iris_nb.training import load_training, save_training, train_model

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


def test_the_order_of_the_columns_does_not_matter_and_others_are_passed_over(
    messy: Predictor, table: pd.DataFrame
) -> None:
    straight = messy.predict(table)
    turned = table[FEATURES[::-1]].assign(answer="ja", other=1)
    pd.testing.assert_frame_equal(messy.predict(turned), straight)


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
    chances = answer.drop(columns="label")
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
    answer = predictor_for(tmp_path, candidate_named("forest"), table).predict(table)
    assert answer["label"].dtype == kind
    assert set(answer["label"]) <= set(classes)
    assert (answer["label"] == table["answer"].to_numpy()).mean() > 0.9


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda c: c.name)
def test_missing_and_unknown_values_are_answered_by_every_candidate(candidate: Candidate, tmp_path: Path) -> None:
    predictor = predictor_for(tmp_path, candidate, messy_table())
    nothing = dict.fromkeys(FEATURES)
    strange = {**nothing, "Farbe": "never seen", "petal length (cm)": float("inf"), "petal width (cm)": 1e30}
    answer = predictor.predict([nothing, strange])
    assert np.isfinite(answer.drop(columns="label").to_numpy()).all()
    assert np.isfinite(predictor.predict_proba(pd.DataFrame(np.nan, index=range(3), columns=FEATURES))).all()


WRONG: dict[str, tuple[Any, str]] = {
    "a missing column": (messy_table()[FEATURES[1:]], "petal length"),
    "missing columns": (messy_table()[["answer"]], "Farbe"),
    "a misspelt column": (messy_table().rename(columns={"Farbe": "farbe"}), "did you mean 'farbe'"),
    "text for a number": (messy_table().assign(**{"petal width (cm)": "wide"}), "petal width.*row 1 holds 'wide'"),
    "text for a truth value": (messy_table().assign(**{"in bloom?": "perhaps"}), "in bloom"),
    "a number for a date": (messy_table().assign(picked=3), "picked"),
    "a fraction for a whole number": (messy_table().assign(**{FEATURES[2]: 1.5}), "größe"),
    "a column twice": (pd.concat([messy_table(), messy_table()[["Farbe"]]], axis=1), "more than once.*Farbe"),
    "a row without a column": ([dict.fromkeys(FEATURES), dict.fromkeys(FEATURES[1:])], "row 2 lacks.*petal length"),
    "a list for a value": (dict.fromkeys(FEATURES) | {"in bloom?": [True]}, "in bloom|cannot be read"),
    "an enormous number": (dict.fromkeys(FEATURES) | {FEATURES[2]: 10**400}, "größe|cannot be read"),
    "an array": (np.zeros((2, 6)), "not a ndarray"),
    "a text": ("5.1,3.5", "not a str"),
    "nothing at all": (None, "not a NoneType"),
    "a list of lists": ([[1, 2, 3]], "row 1 is a list"),
    "a series": (pd.Series([1.0]), "not a Series"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_named(what: str, messy: Predictor) -> None:
    rows, message = WRONG[what]
    with pytest.raises(RowsError, match=message) as caught:
        messy.predict(rows)
    assert "\n" not in str(caught.value)


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.datetimes()
    | st.binary(max_size=3) | st.lists(st.integers(), max_size=2) | st.decimals() | st.complex_numbers()
)  # fmt: skip


@settings(max_examples=150, deadline=None)
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


def test_a_path_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no model folder"):
        Predictor.load(tmp_path / "nowhere")


def test_it_tells_where_it_comes_from(messy: Predictor) -> None:
    assert messy.info["format"] == 1 and messy.classes == ("ja", "nein", "vielleicht")
    assert messy.contract.target == "answer" and len(messy.sha256) == 64


# --- the training and inference stages ---


@pytest.mark.parametrize("candidate", [c for c in CANDIDATES if c.eligible], ids=lambda c: c.name)
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
