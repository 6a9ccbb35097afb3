"""Imported models: nothing runs without trust, nothing of the file is kept but plain data."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, clean_environment
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestRegressor, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from iris_nb import legacy
from iris_nb.candidates import CANDIDATES, fit_candidate, fit_model, probabilities
from iris_nb.data import load_data
from iris_nb.errors import InputError, ModelFileError, ParameterError
from iris_nb.files import sha256_bytes
from iris_nb.folders import open_run
from iris_nb.legacy import (
    IMPORTABLE,
    MARK,
    Imported,
    from_plain,
    glance,
    import_model,
    import_report,
    legacy_candidates,
    remedy,
    renew,
    score_as_it_came,
    to_plain,
    unpack,
)
from iris_nb.modelfile import ALLOWED_TYPES, dump_model, parse_model

FIXTURES = ROOT / "tests" / "data" / "legacy"
SUMS = dict(reversed(line.split()) for line in (FIXTURES / "SHA256SUMS").read_text().splitlines())
SCALED = StandardScaler().set_output(transform="pandas")
BUNCH = load_iris(as_frame=True)
LABELS = pd.Series(BUNCH.target_names[BUNCH.target].astype(object))


def saved(model: Any, path: Path) -> str:
    "Save a model as a script would; give its hash."
    joblib.dump(model, path, compress=3)
    return sha256_bytes(path.read_bytes())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    "Do in this process what is done in another; for files that are ours."

    def run(words: list[str], cwd: Path, **rest: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            patch.setattr(legacy, "_limit", lambda: None)
            legacy._child()
        return subprocess.CompletedProcess(words, 0, b"", b"")

    monkeypatch.setattr(legacy.subprocess, "run", run)


QUICK = pytest.mark.usefixtures("quick")


class Hostile:
    "Makes a file when it is read."

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.place}",)


@pytest.mark.parametrize("trust", ["", "0" * 64])
def test_a_hostile_file_is_not_run(tmp_path: Path, trust: str) -> None:
    file, mark = tmp_path / "model.pkl", tmp_path / "it_ran"
    file.write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(ModelFileError, match="is not read") as caught:
        import_model(file, "evil", trust, "iris", "species", tmp_path)
    assert not mark.exists() and not (tmp_path / "models").exists()
    assert sha256_bytes(file.read_bytes()) not in str(caught.value), "the hash is for the author to give"
    assert glance(file.read_bytes()).names[0].endswith("system")


def test_what_a_trusted_file_says_is_still_checked(tmp_path: Path) -> None:
    file, mark = tmp_path / "model.pkl", tmp_path / "it_ran"
    file.write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(ModelFileError, match="not a scikit-learn model"):
        import_model(file, "evil", sha256_bytes(file.read_bytes()), "", "", tmp_path)
    assert mark.exists(), "trust means that it runs"
    assert not (tmp_path / "models").exists()


@QUICK
def test_an_old_logistic_regression(tmp_path: Path) -> None:
    facts = import_model(FIXTURES / "logistic-1.2.2.joblib", "old", SUMS["logistic-1.2.2.joblib"], "iris", "", tmp_path)
    assert facts["estimator"] == {
        "class": "sklearn.linear_model.LogisticRegression",
        "settings": {"C": 0.5, "max_iter": 500},
    }
    assert facts["scikit_learn"] == "1.2.2" and facts["n_features"] == 4 and facts["features"] is None
    assert facts["classes"] == ["setosa", "versicolor", "virginica"] and facts["answers"]["accuracy"] > 0.95
    assert any("multi_class" in note for note in facts["notes"])
    assert MARK in "\n".join(import_report(facts))
    (candidate,) = legacy_candidates(["old"], tmp_path)
    like = next(c for c in CANDIDATES if c.name == "logistic")
    assert candidate.complexity == like.complexity + 1 and candidate.row_limit == like.row_limit
    assert candidate.takes_weights and candidate.eligible and candidate.search_space() == {}
    fitted = fit_candidate(candidate, SCALED, BUNCH.data, LABELS, 0, "balanced")
    assert fitted.score(BUNCH.data, LABELS) > 0.95


def test_a_pipeline_of_columns(tmp_path: Path) -> None:
    facts = import_model(FIXTURES / "pipeline-1.2.2.pkl", "old", SUMS["pipeline-1.2.2.pkl"], "iris", "", tmp_path)
    assert facts["estimator"]["class"] == "sklearn.svm.SVC" and facts["answers"]["accuracy"] > 0.95
    assert any("columntransformer" in note for note in facts["notes"])
    model = legacy_candidates(["old"], tmp_path)[0].build(7)
    assert type(model).__name__ == "CalibratedClassifierCV" and model.estimator.random_state == 7


@pytest.mark.parametrize("file", ["forest-1.2.2.joblib", "search-1.2.2.joblib"])
def test_what_cannot_be_loaded_says_what_to_do(tmp_path: Path, file: str) -> None:
    with pytest.raises(ModelFileError, match=r"written by scikit-learn 1\.2\.2 and cannot be loaded") as caught:
        import_model(FIXTURES / file, "old", SUMS[file], "", "", tmp_path)
    assert remedy(file, "1.2.2") in str(caught.value) and "--with scikit-learn==1.2.2" in str(caught.value)


@QUICK
def test_an_unfitted_model_is_enough(tmp_path: Path) -> None:
    trust = saved(make_pipeline(StandardScaler(), SVC(C=3.0)), tmp_path / "m.joblib")
    facts = import_model(tmp_path / "m.joblib", "new", trust, "iris", "", tmp_path)
    assert facts["classes"] is None and "not fitted" in facts["answers"]["why_not"]
    (candidate,) = legacy_candidates(["new"], tmp_path)
    assert fit_candidate(candidate, SCALED, BUNCH.data, LABELS, 0, "none").score(BUNCH.data, LABELS) > 0.95


@QUICK
def test_a_search_gives_its_best_and_names_are_found_by_spelling(tmp_path: Path) -> None:
    search = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.01, 1.0]}, cv=3).fit(BUNCH.data, LABELS)
    trust = saved(search, tmp_path / "m.joblib")
    facts = import_model(tmp_path / "m.joblib", "best", trust, "iris", "species", tmp_path)
    assert "the best model of the GridSearchCV was taken" in facts["notes"]
    assert facts["features"][0] == "sepal length (cm)" and facts["answers"]["rows"] == 150
    assert facts["answers"]["notes"] == ["the columns were found by their names but for spelling and units"]


@QUICK
def test_scored_as_it_came_on_the_held_out_rows(tmp_path: Path) -> None:
    data = load_data(open_run(""))
    linear = make_pipeline(StandardScaler(), LinearSVC()).fit(BUNCH.data.to_numpy(), LABELS)
    trust = saved(linear, tmp_path / "l.joblib")
    import_model(FIXTURES / "logistic-1.2.2.joblib", "old", SUMS["logistic-1.2.2.joblib"], "iris", "", tmp_path)
    import_model(tmp_path / "l.joblib", "linear", trust, "iris", "", tmp_path)
    import_model(tmp_path / "l.joblib", "alone", trust, "", "", tmp_path)
    old, alone, line = score_as_it_came(["old", "alone", "linear"], tmp_path, data)
    assert old["mark"] == MARK and old["rows"] == len(data.test_rows) and old["metrics"]["accuracy"] > 0.9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = joblib.load(FIXTURES / "logistic-1.2.2.joblib").predict(data.test.to_numpy())
    assert np.isclose(old["metrics"]["accuracy"], np.mean(theirs == data.test_labels))
    assert alone["rows"] == 0 and "without a table" in alone["note"]
    assert "log_loss" in old["metrics"] and "log_loss" not in line["metrics"], "labels give no probabilities"
    json.dumps([old, alone, line], allow_nan=False)
    (tmp_path / "models" / "old.parquet").write_bytes(b"changed")
    assert "changed" in score_as_it_came(["old"], tmp_path, data)[0]["note"]


@QUICK
def test_a_class_that_the_table_does_not_have(tmp_path: Path) -> None:
    data = load_data(open_run(""))
    labels = LABELS.to_numpy().copy()
    labels[:5] = "other"
    trust = saved(LogisticRegression(max_iter=500).fit(BUNCH.data, labels), tmp_path / "m.joblib")
    facts = import_model(tmp_path / "m.joblib", "four", trust, "iris", "species", tmp_path)
    assert "it also knows 'other', which the table does not have" in facts["answers"]["notes"]
    assert facts["answers"]["rows"] == 150 and facts["answers"]["accuracy"] > 0.95
    kept = pd.read_parquet(tmp_path / "models" / "four.parquet")
    assert list(kept) == ["row", "p:setosa", "p:versicolor", "p:virginica"]
    assert np.allclose(kept.iloc[:, 1:].sum(axis=1), 1)
    (line,) = score_as_it_came(["four"], tmp_path, data)
    assert line["rows"] == len(data.test_rows) and line["metrics"]["log_loss"] < 0.5
    assert "it also knows 'other'" in line["note"]


@QUICK
def test_nothing_is_left_of_an_import_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = legacy.write_json

    def full(place: Path, facts: Any) -> None:
        if place.parent.name == "models":
            raise OSError("the disk is full")
        write(place, facts)

    monkeypatch.setattr(legacy, "write_json", full)
    with pytest.raises(OSError, match="full"):
        import_model(FIXTURES / "logistic-1.2.2.joblib", "old", SUMS["logistic-1.2.2.joblib"], "iris", "", tmp_path)
    assert not list((tmp_path / "models").iterdir())


PAIR = [("a", LogisticRegression(max_iter=500)), ("b", GaussianNB())]


@QUICK
@pytest.mark.parametrize(
    "model",
    [
        StackingClassifier(PAIR),
        StackingClassifier(PAIR, final_estimator=LinearSVC()),
        VotingClassifier(PAIR),
        make_pipeline(StandardScaler(), VotingClassifier([*PAIR, ("c", StackingClassifier(PAIR))])),
    ],
    ids=["stacking", "stacking on distances", "voting", "voting in a pipeline"],
)
def test_a_model_of_models_without_probabilities_before_the_fit(tmp_path: Path, model: Any) -> None:
    trust = saved(clone(model).fit(BUNCH.data, LABELS), tmp_path / "m.joblib")
    facts = import_model(tmp_path / "m.joblib", "many", trust, "iris", "species", tmp_path)
    assert facts["answers"]["accuracy"] > 0.95
    (candidate,) = legacy_candidates(["many"], tmp_path)
    assert ("probabilities are averaged" in candidate.describe()) == ("Voting" in str(model))
    fitted = fit_candidate(candidate, SCALED, BUNCH.data, LABELS, 0, "none")
    proba = probabilities(fitted, BUNCH.data, sorted(set(LABELS)))
    again = parse_model(dump_model(fitted))
    assert fitted.score(BUNCH.data, LABELS) > 0.9 and (again.predict_proba(BUNCH.data) == proba).all()


def test_the_last_step_of_stacking_is_that_of_scikit_learn() -> None:
    candidate = Imported({"name": "x", "file": "x.pkl", "estimator": to_plain(StackingClassifier(PAIR))})
    ours = fit_model(candidate, BUNCH.data, LABELS, 0, "none")
    theirs = StackingClassifier(PAIR).fit(BUNCH.data, LABELS)
    assert (ours.predict_proba(BUNCH.data) == theirs.predict_proba(BUNCH.data)).all()


@QUICK
def test_votes_of_members_without_probabilities_are_refused(tmp_path: Path) -> None:
    trust = saved(VotingClassifier([*PAIR, ("c", LinearSVC())]).fit(BUNCH.data, LABELS), tmp_path / "m.joblib")
    with pytest.raises(ModelFileError, match=r"counts votes.* members 'c' have none to average"):
        import_model(tmp_path / "m.joblib", "many", trust, "iris", "species", tmp_path)
    assert not (tmp_path / "models").exists()


@pytest.mark.filterwarnings("ignore")
def test_every_class_survives_the_way_there_and_a_model_file() -> None:
    X, y = BUNCH.data, LABELS.to_numpy()
    linear, members = LogisticRegression(), [("a", LogisticRegression()), ("b", LinearSVC())]
    needs: dict[str, dict[str, Any]] = {
        "Pipeline": {"steps": [("scale", StandardScaler()), ("model", linear)]},
        "StackingClassifier": {"estimators": members},
        "VotingClassifier": {"estimators": members},
        "OneVsRestClassifier": {"estimator": linear},
        "SelectFromModel": {"estimator": linear},
    }
    few = {"n_estimators", "max_iter"}
    for path in sorted(IMPORTABLE):
        kind = legacy._class_of(path)
        estimator = kind(**needs.get(kind.__name__, {}))
        known = estimator.get_params()
        estimator.set_params(
            **{k: 10 for k in few & known.keys() if kind.__name__ not in ("LinearSVC", "SVC", "NuSVC")}
        )
        if "n_components" in known and hasattr(estimator, "transform") and not hasattr(estimator, "predict"):
            estimator.set_params(n_components=2)
        assert str(from_plain(json.loads(json.dumps(to_plain(estimator))))) == str(estimator)
        if not hasattr(estimator, "predict"):
            estimator = make_pipeline(estimator, LogisticRegression())
        if kind.__name__ == "VotingClassifier":
            estimator.set_params(estimators=members[:1], voting="soft")
        candidate = Imported({"name": "x", "file": "x.pkl", "estimator": to_plain(estimator)})
        model = fit_model(candidate, X, y, 0, "balanced")
        again = parse_model(dump_model(model))
        assert (probabilities(again, X, sorted(set(y))) == probabilities(model, X, sorted(set(y)))).all(), path


def test_old_settings_are_renewed() -> None:
    old = LogisticRegression()
    old.__dict__ |= {"penalty": "none", "multi_class": "auto", "l1_ratio": None}
    renew(old)
    assert to_plain(old)["settings"] == {"C": {"number": "inf"}}
    from sklearn.ensemble import BaggingClassifier, ExtraTreesClassifier

    trees = ExtraTreesClassifier()
    trees.max_features = "auto"
    del trees.__dict__["monotonic_cst"]
    assert renew(trees) == ["ExtraTreesClassifier: max_features='auto' is now 'sqrt'"] and trees.monotonic_cst is None
    bag = BaggingClassifier()
    bag.__dict__ |= {"base_estimator": LinearSVC()}
    assert "now called estimator" in renew(bag)[0] and to_plain(bag)["settings"]["estimator"]["class"].endswith(
        "LinearSVC"
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_glance_at_every_protocol(protocol: int) -> None:
    data = pickle.dumps(SVC(), protocol=protocol)
    seen = glance(data)
    assert seen.version == __import__("sklearn").__version__ and seen.names[-1 if protocol > 2 else 0].endswith(
        ("SVC", "_reconstructor")
    )
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        assert unpack(pack(data)) == data
    buffer = io.BytesIO()
    joblib.dump(SVC(), buffer, compress=("zlib", 3))
    assert glance(buffer.getvalue()).version


def bad_files(folder: Path) -> dict[str, tuple[bytes, str]]:
    "Files that are refused, each with a piece of the reason."
    fine = (FIXTURES / "logistic-1.2.2.joblib").read_bytes()
    packed = (FIXTURES / "forest-1.2.2.joblib").read_bytes()
    regression = pickle.dumps(RandomForestRegressor(n_estimators=1).fit(BUNCH.data, BUNCH.target))
    numbers = pickle.dumps(LogisticRegression(max_iter=500).fit(BUNCH.data.to_numpy(), BUNCH.target))
    lost = pickle.dumps(SVC()).replace(b"sklearn.svm._classes", b"xgboostt.svm.classes")
    wrong = SVC(C=-1.0)
    return {
        "text": (b"not a model at all", "no pickle and no joblib file"),
        "empty": (b"", "no pickle and no joblib file"),
        "zip": (b"PK\x03\x04....", "ZIP archive"),
        "cut": (fine[:700], "damaged or cut short"),
        "cut packed": (packed[:300], "cut short"),
        "broken": (packed[:40] + b"\0\0\0\0" + packed[44:], "damaged"),
        "regression": (regression, "regression model"),
        "no model": (pickle.dumps({"a": 1}), "not a scikit-learn model"),
        "transformer": (pickle.dumps(StandardScaler()), "is no classifier"),
        "other classes": (numbers, "answers with '0', '1', '2'"),
        "lost package": (lost, "needs 'xgboostt'"),
        "wrong setting": (pickle.dumps(wrong), "does not take the model's settings"),
        "own class": (
            pickle.dumps(make_pipeline(StandardScaler(), _Own())),
            "holds a test_legacy._Own, which cannot be imported",
        ),
    }


class _Own(LogisticRegression):
    "A class that only this file knows."


@QUICK
@pytest.mark.parametrize("case", list(bad_files(Path())))
def test_bad_files(tmp_path: Path, case: str) -> None:
    data, message = bad_files(tmp_path)[case]
    (tmp_path / "m.pkl").write_bytes(data)
    with pytest.raises(ModelFileError, match=message) as caught:
        import_model(tmp_path / "m.pkl", "bad", sha256_bytes(data), "iris", "species", tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / "models" / "bad.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"name": "Old Model\n"}, "for instance 'old_model'"),
        ({"name": "../x"}, "lower-case letters"),
        ({"name": ""}, "a name is needed"),
        ({"name": "lda"}, "name 'lda' is that of a candidate"),
        ({"name": "stacking"}, "candidate or ensemble"),
        ({"path": Path("nowhere.pkl")}, "there is no file"),
        ({"path": FIXTURES}, "is a folder"),
        ({"trust": "yes"}, "64 hexadecimal digits"),
        ({"source": "", "target": "species"}, "name the table with --table"),
        ({"source": "irsi"}, "did you mean 'iris'"),
        ({"target": "specie"}, "did you mean 'species'"),
    ],
)
def test_bad_words(tmp_path: Path, words: dict[str, Any], message: str) -> None:
    usual = {"path": FIXTURES / "logistic-1.2.2.joblib", "name": "old", "trust": SUMS["logistic-1.2.2.joblib"]}
    usual |= {"source": "iris", "target": "species", "data_dir": tmp_path}
    with pytest.raises(InputError, match=message):
        import_model(**(usual | words))


@QUICK
def test_names_of_imported_models(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="none is imported yet"):
        legacy_candidates(["old"], tmp_path)
    trust = saved(SVC(), tmp_path / "m.joblib")
    import_model(tmp_path / "m.joblib", "old", trust, "", "", tmp_path)
    with pytest.raises(ParameterError, match="already"):
        import_model(tmp_path / "m.joblib", "old", trust, "", "", tmp_path)
    with pytest.raises(ParameterError, match="did you mean 'old'"):
        legacy_candidates(["odl"], tmp_path)
    place = tmp_path / "models" / "old.json"
    facts = json.loads(place.read_text())
    for estimator in (
        {"class": "os.system", "settings": {}},
        {"class": "sklearn.svm.SVC", "settings": {"D": 1}},
        {"what": 1},
        7,
    ):
        place.write_text(json.dumps(facts | {"estimator": estimator}))
        with pytest.raises(ModelFileError, match="import the model again"):
            legacy_candidates(["old"], tmp_path)


def test_types_and_module() -> None:
    assert set(legacy.MODEL_TYPES) <= ALLOWED_TYPES
    done = subprocess.run(
        [sys.executable, "-c", "import iris_nb.predictor, sys; print('iris_nb.legacy' in sys.modules)"],
        capture_output=True, text=True, check=True, env=clean_environment(),
    )  # fmt: skip
    assert done.stdout.strip() == "False"
