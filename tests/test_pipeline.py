"""The main job end to end: the command, the stages, the record, the store, and everything that can go wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, SMALL, Project, clean_environment

from iris_nb.files import read_json, sha256_file
from iris_nb.folders import STAGES


@pytest.fixture(scope="module")
def iris(studied: tuple[Project, dict[str, Any]]) -> tuple[Project, dict[str, Any]]:
    """A project with one quick run of Iris."""
    return studied


def test_json_has_every_field(iris: tuple[Project, dict[str, Any]]) -> None:
    _, result = iris
    assert result["status"] == "done" and result["error"] is None
    assert [stage["name"] for stage in result["stages"]] == list(STAGES)
    assert all(stage["status"] == "done" and stage["seconds"] > 0 for stage in result["stages"])
    assert {"accuracy", "balanced_accuracy", "macro_f1", "log_loss"} <= result["metrics"].keys()
    assert result["rows"] == {"train": 120, "test": 30}
    assert 0.8 <= result["metrics"]["accuracy"] <= 1
    low, high = result["intervals"]["accuracy"]
    assert low <= result["metrics"]["accuracy"] <= high
    assert result["model"] | {"note": ""} == {
        "name": "iris", "version": "1", "uri": "models:/iris/1", "alias": "staging", "note": "",
    }  # fmt: skip
    assert Path(result["report"]).is_file() and Path(result["run_dir"]).is_dir() and result["seconds"] > 0


def test_the_record_fits_the_files(iris: tuple[Project, dict[str, Any]]) -> None:
    _, result = iris
    run_dir = Path(result["run_dir"])
    record = read_json(run_dir / "run.json")
    for stage in record["stages"]:
        assert f"{stage['name']}/{stage['name']}.ipynb" in stage["files"]
        for path, digest in stage["files"].items():
            assert sha256_file(run_dir / path) == digest, path
        assert (run_dir / f"{stage['name']}.html").is_file()
    assert record["data"]["sha256_raw"] == sha256_file(ROOT / "data" / "raw" / "iris.csv")
    assert record["environment"]["PYTHONHASHSEED"] == "0"
    assert record["packages"]["scikit-learn"]
    hidden = [path.name for path in run_dir.rglob(".*") if path.name != ".lock"]
    assert hidden == []


def test_inference_is_a_process_of_its_own(iris: tuple[Project, dict[str, Any]]) -> None:
    _, result = iris
    record = read_json(Path(result["run_dir"]) / "run.json")
    process = {stage["name"]: stage["process"] for stage in record["stages"]}
    assert process["inference"] != process["training"] == process["data"]
    assert read_json(Path(result["run_dir"]) / "inference" / "inference.json")["equal"] is True


def test_executed_notebooks_are_the_run_sections(iris: tuple[Project, dict[str, Any]]) -> None:
    import nbformat

    _, result = iris
    for stage in STAGES:
        notebook = nbformat.read(Path(result["run_dir"]) / stage / f"{stage}.ipynb", as_version=4)
        assert notebook.cells[0].source.startswith(f"# {stage}")
        assert len(notebook.cells) <= 20
        tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
        assert tags.count("parameters") == tags.count("injected-parameters") == 1


def store(project: Project) -> Any:
    from iris_nb.tracking import connect

    return connect(f"sqlite:///{project.home / 'data' / 'mlflow' / 'mlflow.db'}", 20)


def test_mlflow_mirrors_the_run(iris: tuple[Project, dict[str, Any]]) -> None:
    project, result = iris
    mlflow = store(project)
    experiment = mlflow.client.get_experiment_by_name("iris")
    runs = mlflow.client.search_runs([experiment.experiment_id])
    parent = next(run for run in runs if run.data.tags.get("iris_nb.run") == result["run"])
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.data.tags["mlflow.runName"] for run in children) == sorted(STAGES)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert parent.data.metrics["accuracy"] == result["metrics"]["accuracy"]
    assert parent.data.params["data.source"] == "iris"
    files = {entry.path for entry in mlflow.client.list_artifacts(parent.info.run_id)}
    assert {"index.html", "run.json", "models", "models.html"} <= files
    assert mlflow.client.get_model_version_by_alias("iris", "staging").version == 1


def test_mlflow_loads_the_registered_model(iris: tuple[Project, dict[str, Any]]) -> None:
    project, result = iris
    mlflow = store(project).mlflow
    mlflow.set_tracking_uri(f"sqlite:///{project.home / 'data' / 'mlflow' / 'mlflow.db'}")
    mlflow.set_registry_uri(f"sqlite:///{project.home / 'data' / 'mlflow' / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model("models:/iris@staging")
    run_dir = Path(result["run_dir"])
    table, split = (pd.read_parquet(run_dir / "data" / name) for name in ("table.parquet", "split.parquet"))
    answers = pd.read_parquet(run_dir / "training" / "predictions.parquet")
    held_out = table[(split["part"] == "test").to_numpy()].drop(columns="species")
    assert list(model.predict(held_out)["label"]) == list(answers["predicted"])


def test_commands_that_look(iris: tuple[Project, dict[str, Any]]) -> None:
    project, result = iris
    assert project.json("runs")["runs"][-1]["run"] == result["run"]
    for asked in (result["run"], result["run"][:17], "first"):
        assert project.json("show", asked)["metrics"] == result["metrics"]
    shown = project.call("show", "first")
    assert "Linear" in shown.stdout or "best model" in shown.stdout
    contract = project.json("contract", "show", "first")
    assert contract["target"] == "species"
    listed = project.json("params")["parameters"]
    assert {row["stage"] for row in listed} >= {"data", "models", "training"}
    assert all(row["help"] for row in listed)
    sources = {row["name"]: row["source"] for row in project.json("settings", IRIS_NB_THREADS="1")["settings"]}
    assert sources["threads"] == "environment (IRIS_NB_THREADS)" and sources["reports_dir"] == "default"


def test_unknown_run_says_what_there_is(iris: tuple[Project, dict[str, Any]]) -> None:
    project, _ = iris
    done = project.call("show", "frist")
    assert done.returncode == 2 and "did you mean 'first'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_in_use_is_not_deleted(iris: tuple[Project, dict[str, Any]]) -> None:
    project, result = iris
    done = project.call("delete", "first")
    assert done.returncode == 2 and "staging" in done.stderr
    assert Path(result["run_dir"]).is_dir()


def test_same_seed_gives_the_same_bits(iris: tuple[Project, dict[str, Any]], studied_afresh: dict[str, Any]) -> None:
    first, second = iris[1], studied_afresh
    assert {stage["status"] for stage in second["stages"]} == {"done"}, "executed, not taken from the cache"
    assert second["metrics"] == first["metrics"] and second["intervals"] == first["intervals"]
    for name in ("training/predictions.parquet", "inference/predictions.parquet", "data/split.parquet"):
        one, two = (pd.read_parquet(Path(result["run_dir"]) / name) for result in (first, second))
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    boards = [
        read_json(Path(result["run_dir"]) / "models" / "models.json")["leaderboard"] for result in (first, second)
    ]
    timeless = [[{k: v for k, v in row.items() if not k.startswith("seconds")} for row in board] for board in boards]
    assert timeless[0] == timeless[1]


def messy_table(rows: int = 240) -> pd.DataFrame:
    """Missing values, categories, booleans, dates, an id, a constant, free text, infinities, awkward names."""
    random = np.random.default_rng(3)
    kind = random.choice(["low", "mid", "high"], rows, p=[0.5, 0.3, 0.2])
    level = pd.Series(kind).map({"low": 0.0, "mid": 1.5, "high": 3.0}).to_numpy()
    weight = level + random.normal(0, 0.7, rows)
    weight[::17] = np.nan
    weight[5] = np.inf
    return pd.DataFrame(
        {
            "patient id": [f"P{n:05d}" for n in random.permutation(rows)],
            "Gewicht (kg)": weight,
            'say "aah"': random.choice(["yes", "no"], rows),
            "città": random.choice(["Roma", "Milano", "Bari", None], rows),
            "smoker": random.choice([True, False], rows),
            "visit": pd.date_range("2024-01-01", periods=rows, freq="D").strftime("%Y-%m-%d"),
            "clinic": "A",
            "nothing": [None] * rows,
            "note": [f"patient number {n} came in and said something about item {n * 7}" for n in range(rows)],
            "risk": kind,
        }
    )


def test_a_messy_table(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "Messy Table.csv"
    messy_table().to_csv(path, index=False, sep=";", decimal=",")
    result = project.json("run", path, "--target", "risk", "--profile", "quick")
    assert result["status"] == "done" and result["model"]["name"] == "messy_table"
    facts = read_json(Path(result["run_dir"]) / "data" / "data.json")
    assert {entry["column"] for entry in facts["left_out"]} == {"patient id", "clinic", "nothing", "note"}
    assert facts["show_rows"] is False
    assert result["metrics"]["balanced_accuracy"] > 0.5


@pytest.mark.slow
def test_many_classes_and_json_lines(project: Project, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    letters = [chr(97 + n) for n in range(24)]
    centres = random.normal(0, 4, (24, 5))
    rows = [
        {"letter": letter, **{f"stroke {i}": float(v) for i, v in enumerate(centres[n] + random.normal(0, 0.6, 5))}}
        for n, letter in enumerate(letters)
        for _ in range(12)
    ]
    path = tmp_path / "letters.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    result = project.json("run", path, "--target", "letter", "--profile", "quick", "--metric", "accuracy")
    assert result["metric"] == "accuracy" and result["metrics"]["accuracy"] > 0.8


def flowers(rows: int = 30) -> pd.DataFrame:
    return pd.DataFrame(
        {"a": np.arange(rows) * 0.37 % 5, "b": np.arange(rows) * 0.73 % 3, "species": ["x", "y", "z"] * (rows // 3)}
    )


def refused(project: Project, *words: str | Path, **environment: str) -> str:
    """The sentence with which a call is refused; nothing may be left behind."""
    done = project.call(*words, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert project.runs() == []
    database = project.home / "data" / "mlflow" / "mlflow.db"
    if database.exists():
        import sqlite3

        with sqlite3.connect(database) as connection:
            assert connection.execute("select count(*) from registered_models").fetchone() == (0,)
    sentences = [line for line in done.stderr.splitlines() if line.startswith("iris-nb: ")]
    assert len(sentences) == 1, done.stderr
    return sentences[0]


BAD_TABLES: dict[str, tuple[bytes | None, tuple[str, ...], str]] = {
    "missing.csv": (None, (), "missing.csv"),
    "empty.csv": (b"", (), "empty"),
    "header.csv": (b"a,b,species\n", (), "row"),
    "one.csv": (b"a,b,species\n1,2,x\n", (), "row"),
    "oneclass.csv": (b"a,species\n" + b"".join(b"%d,x\n" % n for n in range(20)), (), "one class"),
    "single.csv": (b"a,species\n" + b"".join(b"%d,%s\n" % (n % 7, b"x" if n else b"y") for n in range(20)), (), "'y'"),
    "notarget.csv": (flowers().rename(columns={"species": "spezies"}).to_csv(index=False).encode(), ("--target", "species"), "did you mean 'spezies'"),
    "guess.csv": (flowers().rename(columns={"species": "kind"}).to_csv(index=False).encode(), (), "--target"),
    "nolabels.csv": (b"a,species\n" + b"".join(b"%d,\n" % n for n in range(20)), (), "missing"),
    "regression.csv": (b"a,y\n" + b"".join(b"%d,%f\n" % (n % 7, n * 1.618) for n in range(60)), ("--target", "y"), "regression"),
    "twice.csv": (b"a,a,species\n1,2,x\n3,4,y\n", (), "'a'"),
    "ragged.csv": (b"a,b,species\n1,2,x\n1,2\n3,4,y\n", (), "line 3"),
    "bytes.csv": (b"a,b,species\n1,2,caf\xe9\n3,4,y\n", (), "--encoding"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["missing.csv", "notarget.csv", "bytes.csv"])
def test_bad_tables_are_refused(name: str, project: Project, tmp_path: Path) -> None:
    content, options, word = BAD_TABLES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert word in refused(project, "run", tmp_path / name, *options)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BAD_TABLES))
def test_every_bad_table_is_refused(name: str, project: Project, tmp_path: Path) -> None:
    test_bad_tables_are_refused(name, project, tmp_path)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["run", "-p", "sed=7"], "did you mean 'seed'"),
        (["run", "-p", "seed=seven"], "whole number"),
        (["run", "-p", "test_size=0.99"], "0.05 to 0.5"),
        (["run", "-p", "x; import os=1"], "no stage has a parameter"),
        (["run", "-p", "seed=__import__('os').abort()"], "whole number"),
        (["run", "-p", "seed"], "no '='"),
        (["run", "--profile", "fast"], "quick"),
        (["run", "--metric", "acuracy"], "did you mean 'accuracy'"),
        (["run", "--target", "species", "-p", "target=other"], "twice"),
        (["run", "-f", "nowhere.yaml"], "nowhere.yaml"),
        (["run", "--name", "latest"], "latest"),
        (["run", "."], "folder"),
        (["run", "irsi"], "iris"),
        (["delete", ""], "empty"),
        (["show", " "], "empty"),
        (["run", "-p", "seed=" + "[" * 5000], "whole number"),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_words_are_refused(words: list[str], word: str, project: Project) -> None:
    assert word in refused(project, *words)


def test_bad_settings_are_refused(project: Project) -> None:
    assert "did you mean 'IRIS_NB_REPORTS_DIR'" in refused(project, "run", IRIS_NB_REPORT_DIR="x")
    assert "foo://x" in refused(project, "run", IRIS_NB_TRACKING_URI="foo://x")
    assert "IRIS_NB_THREADS" in refused(project, "run", IRIS_NB_THREADS="0")


def test_a_pipe_is_refused(project: Project, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    assert "pipe" in refused(project, "run", tmp_path / "pipe.csv", "--target", "y")


def test_json_of_a_refusal_is_one_object(project: Project) -> None:
    result = project.json("run", "-p", "sed=7", code=2)
    assert result["status"] == "refused" and "seed" in result["error"]


def test_outside_a_project(tmp_path: Path) -> None:
    from conftest import COMMAND

    done = subprocess.run(
        [str(COMMAND), "runs"], cwd=tmp_path, capture_output=True, text=True, env=clean_environment(), check=False
    )
    assert done.returncode == 2 and "not inside an iris_nb project" in done.stderr


def test_a_library_out_of_step_is_refused(project: Project) -> None:
    (project.home / "nbs").unlink()
    shutil.copytree(ROOT / "nbs", project.home / "nbs")
    path = project.home / "nbs" / "00_errors.ipynb"
    path.write_text(path.read_text().replace("cutoff=0.6", "cutoff=0.7"))
    assert "nbdev_export" in refused(project, "run")


def test_a_corrupt_store_is_refused(project: Project) -> None:
    database = project.home / "data" / "mlflow" / "mlflow.db"
    database.parent.mkdir()
    database.write_bytes(b"x" * 4096)
    done = project.call("run")
    assert done.returncode == 2 and "mlflow.db" in done.stderr and "sync" in done.stderr
    assert project.runs() == []


def test_code_in_a_text_parameter_stays_text(project: Project, tmp_path: Path) -> None:
    hostile = "x'); __import__('os').system('touch boom') #"
    path = tmp_path / "flowers.csv"
    flowers().to_csv(path, index=False)
    assert "x" in refused(project, "run", path, "-p", f"positive={hostile}")
    assert not list(project.home.rglob("boom")) and not list(tmp_path.rglob("boom"))


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def under_way(project: Project, stage: str) -> Callable[[], Any]:
    def look() -> Path | None:
        for run_dir in project.runs():
            path = run_dir / "run.json"
            if not run_dir.name.startswith(".") and path.exists():
                stages = {entry["name"]: entry["status"] for entry in read_json(path)["stages"]}
                if stages[stage] != "pending":
                    return run_dir
        return None

    return look


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stopped_run_says_so_within_seconds(number: signal.Signals, project: Project) -> None:
    process = project.start("run")
    run_dir = wait_for(under_way(project, "models"))
    start = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - start < 5
    assert process.returncode == 128 + number and "Traceback" not in err
    record = read_json(run_dir / "run.json")
    assert record["status"] == "killed" and signal.Signals(number).name in record["error"]
    kernels = [stage["process"] for stage in record["stages"] if stage.get("process")]
    assert kernels
    wait_for(lambda: not any(alive(pid) for pid in kernels), 10)


def test_a_dead_run_is_marked_by_the_next_command(project: Project) -> None:
    process = project.start("run")
    run_dir = wait_for(under_way(project, "models"))
    process.kill()
    process.communicate(timeout=30)
    assert read_json(run_dir / "run.json")["status"] == "running"
    assert project.json("runs")["runs"][0]["status"] == "killed"
    record = read_json(run_dir / "run.json")
    assert record["status"] == "killed" and "killed" in {stage["status"] for stage in record["stages"]}
    kernels = [stage["process"] for stage in record["stages"] if stage.get("process")]
    wait_for(lambda: not any(alive(pid) for pid in kernels), 20)


@pytest.mark.slow
def test_two_first_runs_at_the_same_moment(project: Project) -> None:
    both = [project.start("run", *SMALL, "--json") for _ in range(2)]
    results = []
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        results.append(json.loads(out))
    assert {result["model"]["version"] for result in results} <= {"1", "2"}, (
        "the same model twice is one version, or two if both looked first"
    )
    assert all(result["synced"] for result in results)
    assert results[0]["metrics"] == results[1]["metrics"]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_a_server_that_is_down_loses_nothing(warm_project: Project) -> None:
    project = warm_project
    away = f"http://127.0.0.1:{closed_port()}"
    result = project.json("run", "--profile", "quick", IRIS_NB_TRACKING_URI=away)
    assert result["status"] == "done" and result["model"]["version"] is None and result["synced"] is False
    assert "iris-nb sync" in result["model"]["note"]
    assert "not synced" in Path(result["report"]).read_text()
    refusal = project.call("sync", IRIS_NB_TRACKING_URI=away)
    assert refusal.returncode == 2 and "Traceback" not in refusal.stderr
    assert project.call("sync").stdout.split() == ["synced", result["run"]]
    shown = project.json("show", "latest")
    assert shown["model"]["version"] == "1" and shown["model"]["alias"] == "staging" and shown["synced"] is True
    again = project.call("sync")
    assert again.returncode == 0 and again.stdout == ""


def test_a_failed_stage_keeps_what_was_done(project: Project) -> None:
    notebooks = project.home / "nbs"
    notebooks.unlink()
    shutil.copytree(ROOT / "nbs", notebooks)
    path = notebooks / "40_training.ipynb"
    notebook = json.loads(path.read_text())
    last = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][-1]
    last["source"] = ["raise RuntimeError('the oven is <b>cold</b>')"]
    path.write_text(json.dumps(notebook))
    result = project.json("run", *SMALL, code=1)
    assert result["status"] == "failed" and "training" in result["error"] and "the oven is" in result["error"]
    shown = project.json("show", "latest")
    status = {stage["name"]: stage["status"] for stage in shown["stages"]}
    assert status["models"] == "done" and status["training"] == "failed" and status["inference"] == "pending"
    run_dir = Path(shown["run_dir"])
    assert "the oven is &lt;b&gt;cold&lt;/b&gt;" in (run_dir / "index.html").read_text()
    assert (run_dir / "training.html").is_file() and (run_dir / "models" / "models.json").is_file()
    client = store(project).client
    experiment = client.get_experiment_by_name("iris")
    assert "FAILED" in {run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert client.search_registered_models() == []


@pytest.mark.slow
def test_a_model_that_fails_its_gate_is_not_staged(project: Project, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noise = pd.DataFrame(random.normal(size=(60, 3)), columns=list("abc")).assign(label=random.choice(["x", "y"], 60))
    noise.to_csv(tmp_path / "noise.csv", index=False)
    result = project.json("run", tmp_path / "noise.csv", *SMALL, code=3)
    assert result["gate"]["passed"] is False and result["gate"]["reasons"]
    assert result["model"]["version"] == "1" and result["model"]["alias"] is None
    assert project.call("delete", "latest").returncode == 0 and project.runs() == []


@pytest.mark.slow
def test_contract_accept_makes_a_reviewed_contract(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "garden.csv"
    flowers().to_csv(path, index=False)
    project.call("run", path, *SMALL)
    accepted = project.call("contract", "accept", "latest")
    assert accepted.returncode == 0 and "data/contracts/garden.json" in accepted.stdout
    again = project.call("run", path, *SMALL, "--json")
    facts = read_json(Path(json.loads(again.stdout)["run_dir"]) / "data" / "data.json")
    assert facts["contract"] == "reviewed"


@pytest.mark.slow
def test_stock_papermill_runs_a_stage(tmp_path: Path) -> None:
    output = tmp_path / "out.ipynb"
    papermill = Path(sys.executable).with_name("papermill")
    command = [
        str(papermill),
        "--no-progress-bar",
        str(ROOT / "nbs" / "30_models.ipynb"),
        str(output),
        "-p",
        "seed",
        "7",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "seed = 7" in output.read_text()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_says_failed(project: Project) -> None:
    project.reports.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(project.reports)], check=True)
    try:
        done = project.call("run", "--profile", "quick")
        assert done.returncode == 1 and "No space left" in done.stderr and "Traceback" not in done.stderr
        result = project.json("show", "latest")
        assert result["status"] == "failed" and "free some space" in result["error"]
        assert result["stages"][0]["status"] == "done"
    finally:
        subprocess.run(["umount", str(project.reports)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["wine", "breast_cancer", "digits"])
def test_bundled_tables(table: str, project: Project) -> None:
    result = project.json("run", table, "--profile", "quick")
    assert result["status"] == "done" and result["metrics"]["accuracy"] > 0.9
