"""Honest science, end to end: real runs of real tables, leaks that stop them, and each model as the chosen one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Project
from test_pipeline import refused

from iris_nb.candidates import CANDIDATES
from iris_nb.ensembles import ENSEMBLES
from iris_nb.equality import compare_runs
from iris_nb.files import read_json

SLOW = pytest.mark.slow
QUICK = ("--profile", "quick")


def facts(result: dict[str, Any], path: str) -> dict[str, Any]:
    "A JSON file of a run."
    found: dict[str, Any] = read_json(Path(result["run_dir"]) / path)
    return found


def frame(result: dict[str, Any], path: str) -> pd.DataFrame:
    "A table of a run."
    return pd.read_parquet(Path(result["run_dir"]) / path)


def served_as_trained(result: dict[str, Any]) -> None:
    "The registered model, in a process of its own, answers bit for bit as the notebook's did."
    assert facts(result, "inference/inference.json")["equal"] is True
    trained, served = (frame(result, f"{stage}/predictions.parquet") for stage in ("training", "inference"))
    shared = [name for name in trained.columns if name in served.columns]
    assert {"row", "predicted"} <= set(shared)
    pd.testing.assert_frame_equal(trained[shared], served[shared], check_exact=True)


# --- leaks -----------------------------------------------------------------------------------------------------------


def leaked(rows: int = 150) -> pd.DataFrame:
    "An honest feature, noise, and a column that only somebody who knows the outcome can have written."
    random = np.random.default_rng(5)
    outcome = random.choice(["healed", "ill"], rows)
    ill = (outcome == "ill").astype(float)
    return pd.DataFrame(
        {
            "temperature": 37 + ill + random.normal(0, 0.6, rows),
            "age": random.integers(20, 80, rows),
            "sick notes": 4 * ill + random.normal(0, 0.1, rows).round(3),
            "outcome": outcome,
        }
    )


@SLOW
def test_a_leaked_column_stops_the_run_unless_it_is_silenced(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "clinic.csv"
    leaked().to_csv(path, index=False)
    words = ("run", path, "--target", "outcome", *QUICK, "-p", "candidates=[lda, logistic]")
    error = project.json(*words, code=1)["error"]
    assert "L003" in error and "'sick notes'" in error and "silence=[L003:sick notes]" in error
    result = project.json("show", "latest")
    assert result["status"] == "failed"
    [found] = [f for f in facts(result, "data/leakage.json")["findings"] if f["severity"] == "error"]
    assert found["code"] == "L003" and found["columns"] == ["sick notes"]
    result = project.json(*words, "-p", "silence=['L003:sick notes']")
    assert result["status"] == "done" and result["metrics"]["accuracy"] > 0.95
    [found] = [f for f in facts(result, "data/leakage.json")["findings"] if f["code"] == "L003"]
    assert found["silenced"] is True
    result = project.json(*words, "-p", "drop=[sick notes]")
    assert result["metrics"]["accuracy"] < 0.95, "without the leak, the outcome is hard to tell"


# --- other tables ----------------------------------------------------------------------------------------------------


@SLOW
@pytest.mark.parametrize("table", ["wine", "breast_cancer", "digits"])
def test_bundled_tables(table: str, project: Project) -> None:
    done = project.call("run", table, *QUICK)
    assert done.returncode in (0, 3), done.stderr[-3000:]
    result = project.json("show", "latest")
    board = facts(result, "models/models.json")["leaderboard"]
    assert {line["name"] for line in board} == {candidate.name for candidate in CANDIDATES}
    assert all(line["status"] == "ok" or line["note"] for line in board), "each is fitted, or it says why not"
    assert sum(line["status"] == "ok" for line in board) >= 10
    assert facts(result, "data/leakage.json")["counts"]["error"] == 0
    assert result["metrics"]["accuracy"] > 0.9
    served_as_trained(result)


def hospital(patients: int = 60, visits: int = 4) -> pd.DataFrame:
    "Several visits of each patient, with gaps, categories and dates; patients differ more than their visits do."
    random = np.random.default_rng(11)
    rows = patients * visits
    patient = np.repeat(np.arange(patients), visits)
    risk = np.repeat(random.choice(["low", "mid", "high"], patients, p=[0.4, 0.35, 0.25]), visits)
    level = pd.Series(risk).map({"low": 0.0, "mid": 1.5, "high": 3.0}).to_numpy()
    weight = 70 + 6 * level + np.repeat(random.normal(0, 4, patients), visits) + random.normal(0, 0.5, rows)
    weight[::13] = np.nan
    visit = pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 700, rows), unit="D")
    table = pd.DataFrame(
        {
            "patient": [f"P{number:03d}" for number in patient],
            "weight": weight.round(1),
            "ward": random.choice(["north", "south", "east", None], rows),
            "visit": visit.strftime("%Y-%m-%d"),
            "smoker": np.where(random.random(rows) < 0.2 + 0.2 * level, "yes", "no"),
            "risk": risk,
        }
    )
    return table.sample(frac=1, random_state=0)


@SLOW
def test_a_messy_table_with_groups(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "hospital.csv"
    hospital().to_csv(path, index=False)
    result = project.json("run", path, "--target", "risk", *QUICK, "-p", "group=patient", "-p", "ensembles=[soft]")
    assert result["status"] == "done"
    patient = pd.read_csv(path)["patient"]
    split = frame(result, "data/split.parquet")
    patients = [set(patient[split.loc[split["part"] == part, "row"] - 1]) for part in ("train", "test")]
    assert patients[0] and patients[1] and not patients[0] & patients[1]
    folds = frame(result, "models/folds.parquet").assign(patient=lambda f: patient[f["row"] - 1].to_numpy())
    dealt = [name for name in folds.columns if name not in ("row", "patient")]
    assert (folds.groupby("patient")[dealt].nunique() == 1).all(axis=None)
    features = {name for column in facts(result, "features/features.json")["columns"] for name in column["from"]}
    assert "patient" not in features and {"weight", "visit", "ward"} <= features
    served_as_trained(result)


# --- bad input -------------------------------------------------------------------------------------------------------


def small(folder: Path) -> Path:
    "A table of three classes, the smallest of five rows, with groups, one of which has a class to itself."
    random = np.random.default_rng(2)
    kind = np.repeat(["a", "b", "c"], [20, 20, 5])
    path = folder / "small.csv"
    group = np.where(kind == "c", "g9", [f"g{number % 5}" for number in range(45)])
    pd.DataFrame({"x": random.normal(size=45), "y": random.normal(size=45), "group": group, "kind": kind}).to_csv(
        path, index=False
    )
    return path


BAD = {
    "candidate": (["candidates=[forst]"], "did you mean 'forest'"),
    "ensemble": (["ensembles=[stakking]"], "did you mean 'stacking'"),
    "imported": (["imported=[oldmodel]"], "oldmodel"),
    "baseline": (["candidates=[majority]"], "name at least one other"),
    "folds": (["folds=9"], "largest possible is 4"),
    "one fold": (["folds=1"], "at least 2"),
    "trials": (["tune=chosen", "trials=0"], "trials is 0"),
    "tune": (["tune=choosen"], "did you mean 'chosen'"),
    "group": (["group=groop"], "did you mean 'group'"),
    "group of a class": (["group=group"], "class 'c'"),
    "time": (["time=when"], "the columns are"),
    "silence": (["silence=[L999]"], "L999"),
    "rounds": (["control_rounds=2"], "allowed is 0 or 5 to 10000"),
    "points": (["curve_points=1"], "allowed is 0 or 2 to 12"),
    "seeds": (["seeds=1"], "allowed is 0 or 2 to 100"),
}


@pytest.mark.parametrize(
    "name",
    [name if name in ("candidate", "folds", "group of a class") else pytest.param(name, marks=SLOW) for name in BAD],
)
def test_bad_input_gets_one_sentence(name: str, project: Project, tmp_path: Path) -> None:
    given, word = BAD[name]
    words = [word for one in given for word in ("-p", one)]
    assert word in refused(project, "run", small(tmp_path), "--target", "kind", *QUICK, *words)


# --- the same bits ---------------------------------------------------------------------------------------------------


@SLOW
def test_two_standard_runs_are_equal(project: Project) -> None:
    words = ("run", "--profile", "standard", "--fresh", "--untracked")
    first = project.json(*words, IRIS_NB_THREADS="1")
    second = project.json(*words, IRIS_NB_THREADS="2")
    assert {stage["status"] for stage in second["stages"]} == {"done"}
    found = compare_runs(Path(first["run_dir"]), Path(second["run_dir"]))
    assert found.values > 1000 and not found.mismatches, [str(mismatch) for mismatch in found.mismatches[:10]]
    compared = {file.file for file in found.files}
    assert {"models/tuning.json", "models/control.json", "training/sureness.json"} <= compared
    assert first["metrics"] == second["metrics"] and first["intervals"] == second["intervals"]


# --- every model can be the chosen one -------------------------------------------------------------------------------

CHOICES = [candidate.name for candidate in CANDIDATES if candidate.eligible]


@pytest.fixture(scope="module")
def bench(make_project: Callable[[str], Project]) -> Project:
    "One project for all choices, so that the stages before the models are made once."
    return make_project("bench")


def chosen(project: Project, *fields: str, table: str | Path = "iris", target: str = "species") -> dict[str, Any]:
    "A quick run that must end; whether the gate passes is the model's affair."
    words = [word for field in fields for word in ("-p", field)]
    done = project.call("run", table, "--target", target, *QUICK, "--untracked", *words)
    assert done.returncode in (0, 3), done.stderr[-3000:]
    result = project.json("show", "latest")
    served_as_trained(result)
    return result


@SLOW
@pytest.mark.parametrize("name", CHOICES)
def test_every_candidate_can_be_served(name: str, bench: Project) -> None:
    result = chosen(bench, f"candidates=[{name}]")
    assert facts(result, "models/models.json")["chosen"] == name
    assert result["metrics"]["accuracy"] > 0.8


def two_worlds(rows: int = 1500) -> pd.DataFrame:
    "Half of the answer is a weighted sum that lda sees and a tree does not; the other half is the other way round."
    random = np.random.default_rng(1)
    many, band = random.normal(size=(rows, 10)), random.uniform(-1, 1, rows)
    odds = 4 * many.sum(1) / 10**0.5 + 3 * np.where(np.abs(band) < 0.5, 1, -1)
    answer = np.where(random.random(rows) < 1 / (1 + np.exp(-2 * odds)), "yes", "no")
    return pd.DataFrame(many, columns=list("efghijklmn")).assign(band=band, answer=answer)


@SLOW
@pytest.mark.parametrize("name", ENSEMBLES)
def test_every_ensemble_can_be_served(name: str, bench: Project, tmp_path: Path) -> None:
    path = tmp_path / "worlds.csv"
    two_worlds().to_csv(path, index=False)
    fields = ("candidates=[lda, tree]", f"ensembles=[{name}]", "repeats=3", "construct=none")
    result = chosen(bench, *fields, table=path, target="answer")
    models = facts(result, "models/models.json")
    means = {line["name"]: line["mean"] for line in models["leaderboard"]}
    assert models["chosen"] == name and models["statistics"]["tie_group"] == [name]
    assert means[name] > max(means["lda"], means["tree"]) + 0.02


def chessboard(rows: int = 400) -> pd.DataFrame:
    "The squares of a chessboard, on which a support vector machine of default width sees nothing."
    random = np.random.default_rng(1)
    place = random.uniform(0, 8, size=(rows, 2))
    colour = np.where(np.floor(place).astype(int).sum(1) % 2 == 0, "black", "white")
    return pd.DataFrame(place, columns=["file", "rank"]).assign(colour=colour)


@SLOW
def test_a_tuned_choice_can_be_served(bench: Project, tmp_path: Path) -> None:
    path = tmp_path / "chess.csv"
    chessboard().to_csv(path, index=False)
    fields = ("candidates=[svm]", "tune=chosen", "trials=16", "construct=none")
    result = chosen(bench, *fields, table=path, target="colour")
    models, tuning = facts(result, "models/models.json"), facts(result, "models/tuning.json")
    assert models["chosen"] == "svm" and models["settings"] == tuning["settings"]["svm"] != {}
    assert tuning["candidates"]["svm"]["used"] is True
    assert result["metrics"]["accuracy"] > 0.6
