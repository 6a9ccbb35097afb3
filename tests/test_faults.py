"""Faults for real: processes killed at any moment, a network that misbehaves, runs that start together, edited records."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT, SMALL, Project, clean_environment
from faults import FaultProxy
from test_pipeline import closed_port, store, under_way, wait_for

from iris_nb.equality import compare_folders
from iris_nb.files import read_json, sha256_file, sha256_folder, write_json
from iris_nb.runs import seal_of, write_manifest
from iris_nb.tracking import mirrored_files


def whole(run_dir: Path) -> None:
    """Everything that a finished run says of its files is true, and nothing half-made lies about."""
    record = read_json(run_dir / "run.json")
    assert record["seal"] == seal_of(record)
    for stage in record["stages"]:
        for path, digest in stage["files"].items():
            assert sha256_file(run_dir / path) == digest, path
    assert [path.name for path in run_dir.rglob(".*") if path.name != ".lock"] == []


def break_training(project: Project) -> Path:
    """Give a project notebooks of its own, of which the last cell of training fails."""
    (project.home / "nbs").unlink()
    shutil.copytree(ROOT / "nbs", project.home / "nbs")
    path = project.home / "nbs" / "40_training.ipynb"
    notebook = json.loads(path.read_text())
    last = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][-1]
    last["source"] = ["raise RuntimeError('the oven is cold')"]
    path.write_text(json.dumps(notebook))
    return path


@pytest.mark.slow
def test_a_failed_run_is_looked_into_mended_and_gone_on_with(project: Project) -> None:
    path = break_training(project)
    failed = project.call("run", *SMALL)
    assert failed.returncode == 1 and "iris-nb resume" in failed.stderr and "iris-nb debug" in failed.stderr
    run_dir = Path(project.json("show")["run_dir"])
    assert read_json(run_dir / "run.json")["model"]["version"] is None

    notebook = Path(project.call("debug").stdout.strip())
    text = notebook.read_text()
    assert notebook == run_dir / "debug" / "training.ipynb" and "the oven is cold" in text
    assert "injected-parameters" in text and str(run_dir / "debug" / "inputs") in text
    cells = json.loads(text)["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
    assert (run_dir / "debug" / "inputs" / "models" / "models.json").is_file()

    again = project.call("resume")
    assert again.returncode == 1 and "the oven is cold" in again.stderr
    shutil.copy(ROOT / "nbs" / "40_training.ipynb", path)
    result = project.json("resume", "latest")
    assert result["run"] == run_dir.name and result["status"] == "done" and result["model"]["version"] == "1"
    record = read_json(run_dir / "run.json")
    assert [attempt["status"] for attempt in record["attempts"]] == ["failed", "failed"]
    assert record["stages"][2]["status"] == "done" and result["synced"]
    whole(run_dir)
    refused = project.call("resume")
    assert refused.returncode == 2 and "nothing to go on with" in refused.stderr
    refused = project.call("debug")
    assert refused.returncode == 2 and "no stage" in refused.stderr


@pytest.mark.slow
def test_the_debug_notebook_runs_and_leaves_the_record_alone(warm_project: Project) -> None:
    project = warm_project
    path = break_training(project)
    project.call("run", "--profile", "quick", "--untracked")
    shutil.copy(ROOT / "nbs" / "40_training.ipynb", path)
    run_dir = Path(project.json("show")["run_dir"])
    before = (run_dir / "run.json").read_bytes(), sha256_folder(run_dir / "training")
    notebook = Path(project.call("debug", "--no-lab").stdout.strip())
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", str(notebook), "--output", "tried"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=clean_environment(), cwd=project.home, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (run_dir / "debug" / "inputs" / "training" / "training.json").is_file()
    assert ((run_dir / "run.json").read_bytes(), sha256_folder(run_dir / "training")) == before


@pytest.mark.slow
def test_one_stage_on_the_files_of_a_former_run(warm_project: Project) -> None:
    project = warm_project
    first = project.json("run", "--profile", "quick")
    result = project.json("stage", "30_models", "--from", first["run"], "-p", "folds=3", *SMALL[2:])
    assert result["status"] == "partial" and result["run"] != first["run"] and result["model"]["version"] is None
    stages = {stage["name"]: stage["status"] for stage in result["stages"]}
    assert stages == {
        "data": "cached", "features": "cached", "models": "done",
        "training": "pending", "inference": "pending", "report": "pending",
    }  # fmt: skip
    models = read_json(Path(result["run_dir"]) / "models" / "models.json")
    assert models["folds"] == 3
    whole(Path(result["run_dir"]))
    page = (Path(result["run_dir"]) / "index.html").read_text()
    assert "ends with the stage models" in page
    for words, word in [
        (["models", "--from", first["run"], "-p", "data.seed=1"], "another stage"),
        (["models", "--from", first["run"], "-p", "flods=3"], "did you mean 'folds'"),
        (["modles", "--from", first["run"]], "did you mean 'models'"),
        (["report", "--from", result["run"]], "pending"),
        (["models", "--from", "nowhere"], "no run is called"),
    ]:
        done = project.call("stage", *words)
        assert done.returncode == 2 and word in done.stderr and "Traceback" not in done.stderr
    (Path(first["run_dir"]) / "features" / "features.json").write_text("{}")
    done = project.call("stage", "models", "--from", first["run"])
    assert done.returncode == 2 and "features/features.json" in done.stderr


def test_an_edited_manifest_is_refused(warm_project: Project) -> None:
    project = warm_project
    result = project.json("run", "--profile", "quick", "--untracked")
    path = Path(result["run_dir"]) / "run.json"
    record = read_json(path)
    record["parameters"]["data"]["seed"] = 1
    write_json(path, record)
    for words in (["stage", "models"], ["resume"], ["debug"]):
        done = project.call(*words)
        assert done.returncode == 2 and "was changed after the runner wrote it" in done.stderr, words
    write_manifest(Path(result["run_dir"]), record | {"format": 1})
    done = project.call("resume")
    assert done.returncode == 2 and "format 1" in done.stderr


def kill_and_resume(project: Project, seconds: float, begun: bool = False) -> str:
    """Kill a run so many seconds after its start, or after it has begun; the next commands mark it, and go on with it."""
    known, process = len(project.runs()), project.start("run", *SMALL)
    if begun:
        wait_for(lambda: len(project.runs()) > known, 120)
    time.sleep(seconds)
    process.kill()
    process.communicate(timeout=30)
    runs = project.json("runs")["runs"]
    if not runs:
        return "nothing was begun"
    newest = runs[0]
    assert newest["status"] in ("killed", "done"), newest
    if newest["status"] == "killed":
        newest = project.json("resume", newest["run"])
    if not newest["synced"]:
        assert project.call("sync").returncode == 0
        newest = project.json("show", newest["run"])
    assert newest["status"] == "done" and newest["synced"], newest
    whole(Path(newest["run_dir"]))
    assert 0.8 < newest["metrics"]["accuracy"] <= 1
    shutil.rmtree(project.home / "data" / "cache", ignore_errors=True)
    return "done"


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2.5, 5.0])
def test_a_run_killed_early_and_late(seconds: float, project: Project) -> None:
    assert kill_and_resume(project, seconds)


@pytest.mark.slow
def test_runs_killed_at_random_moments(project: Project) -> None:
    chance = random.Random(11)
    assert {kill_and_resume(project, chance.uniform(0.1, 3.0)) for _ in range(2)} <= {"nothing was begun", "done"}
    assert {kill_and_resume(project, chance.uniform(0.0, 7.0), begun=True) for _ in range(5)} == {"done"}
    leftovers = [path.name for path in (project.home / "data").rglob(".new-*")]
    assert project.json("run", "--profile", "quick")["status"] == "done", leftovers


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_from_its_journal(project: Project) -> None:
    words = ["--profile", "quick", "--untracked", "-p", "candidates=[svm]", "-p", "tune=chosen", "-p", "trials=40"]
    process = project.start("run", *words)

    def journals() -> dict[str, bytes]:
        found = (p for p in project.reports.glob("[!.]*/.tuning/*.journal") if p.stat().st_size)
        return {path.name: path.read_bytes() for path in found}

    wait_for(lambda: len(journals()) >= 2 or process.poll() is not None, 200)  # the main search, and one inside a fold
    process.kill()
    process.communicate(timeout=30)
    killed = project.json("runs")["runs"][0]
    run_dir = project.reports / killed["run"]
    assert killed["status"] == "killed"
    time.sleep(1)  # the kernel ends when it sees that its parent is gone
    before = journals()
    listed = json.dumps([read_json(run_dir / "run.json"), killed, project.json("show", killed["run"])])
    assert before and ".tuning" not in listed and ".journal" not in listed
    assert not [path for path in mirrored_files(run_dir) if ".tuning" in path.parts]

    seen: dict[str, bytes] = {}
    process = project.start("resume", killed["run"], "--json")
    while process.poll() is None:
        with suppress(OSError):
            seen |= journals()
        time.sleep(0.02)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err + out
    assert all(seen[name].startswith(lines) for name, lines in before.items()), "a journal was begun anew"
    whole(run_dir)
    assert not (run_dir / ".tuning").exists()

    whole_run = project.json("run", *words, "--fresh")
    assert compare_folders(run_dir, Path(whole_run["run_dir"])) == []


@pytest.mark.slow
def test_a_leak_is_not_for_resume(project: Project, tmp_path: Path) -> None:
    table = tmp_path / "leaking.csv"
    rows = (f"{n % 7}.{n},{'ab'[n % 2] * 3},{'ill' if n % 2 else 'well'}" for n in range(80))
    table.write_text("\n".join(["dose,code,outcome", *rows]) + "\n")
    run = ("run", table, "--target", "outcome", "--profile", "quick", "--untracked", "-p", "candidates=[majority,lda]")
    told = project.json(*run, code=1)["error"]
    assert "L003" in told and "drop=[code]" in told and "silence=[L003:code]" in told
    assert "make the run anew" in told and "iris-nb resume" not in told and "iris-nb debug" not in told
    assert project.json("runs")["runs"][0]["status"] == "failed"
    assert project.json(*run, "--drop", "code", code=3)["status"] == "done"


STOPPED = """
import os, signal, sys
from dataclasses import replace
from iris_nb import ending, pipeline
from iris_nb.settings import load_settings

settings, when = load_settings(), sys.argv[1]
stops = [signal.SIGINT]
stop = lambda *anything: stops and os.kill(os.getpid(), stops.pop())
if when == "pages":
    ending.render_stage_pages = stop
if when == "report":
    ending.render_report_and_card = stop
plan = pipeline.make_plan(settings, pipeline.Request("iris", {}, "quick", tracked=False))
if when == "code":
    code = plan.codes["data"]
    old = {name: replace(module, sha256="0") if name == "tables" else module for name, module in code.modules.items()}
    plan = replace(plan, codes=plan.codes | {"data": replace(code, modules=old)})
try:
    pipeline.run_study(settings, plan, pipeline.Silent())
except Exception as error:
    print(error)
"""


def played(project: Project, when: str) -> tuple[str, dict[str, Any]]:
    """What a run says that meets something under way, and its manifest."""
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, when],
        capture_output=True, text=True, cwd=project.home, env=clean_environment(), check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.stdout, read_json(project.runs()[-1] / "run.json")


@pytest.mark.slow
def test_a_stop_while_the_end_is_written_loses_nothing(warm_project: Project) -> None:
    said, record = played(warm_project, "pages")
    assert "was stopped by SIGINT and is marked as killed; go on with: iris-nb resume" in said
    assert record["status"] == "killed" and record["error"] == "stopped by SIGINT"
    assert warm_project.json("resume", record["id"])["status"] == "done"


@pytest.mark.slow
def test_a_stop_after_a_run_is_done_takes_nothing_back(warm_project: Project) -> None:
    said, record = played(warm_project, "report")
    assert said.startswith(f"the run {record['id']} is done; its pages") and "stopped by SIGINT" in said
    assert said.strip().endswith(f"complete them with: iris-nb open {record['id']}") and record["status"] == "done"


@pytest.mark.slow
def test_a_result_of_unknown_code_is_not_kept(project: Project) -> None:
    said, record = played(project, "code")
    assert "the library was changed while it ran ('tables.py')" in said and record["status"] == "failed"
    assert not list((project.home / "data" / "cache").glob("data/*"))
    assert project.json("resume", record["id"])["status"] == "done"


@pytest.mark.slow
def test_kernels_that_do_not_start_are_a_sentence(project: Project) -> None:
    process = project.start("run", *SMALL, "--untracked", "--fresh", "--json")
    killed = wait_for(lambda: kill_kernel(process.pid), 60)
    out, err = process.communicate(timeout=120)
    assert killed and process.returncode == 1 and "Traceback" not in err, err
    assert "process" in json.loads(out)["error"] and project.json("show")["status"] == "failed"


def kill_kernel(parent: int) -> bool:
    "Kill the first kernel of a run as soon as there is one."
    for child in psutil.Process(parent).children(recursive=True):
        with suppress(psutil.Error):
            if "iris_nb.kernel" in " ".join(child.cmdline()):
                child.kill()
                return True
    return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real MLflow server on a port of this machine."""
    folder, port = tmp_path_factory.mktemp("server"), closed_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    environment = clean_environment(MLFLOW_DISABLE_TELEMETRY="true")
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            wait_for(lambda: _answers(port), 120)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)):
            return False
        probe.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        try:
            return b"200 OK" in probe.recv(200)
        except OSError:
            return False


def bad_network(project: Project, port: int, fault: str, trigger: bytes, seed: int) -> None:
    """A run behind a faulty network is done within a minute of its stages, says what is not copied, and is completed later."""
    proxy = FaultProxy(port, fault, trigger)
    environment = {"IRIS_NB_TRACKING_URI": proxy.uri, "IRIS_NB_TRACKING_TIMEOUT": "6"}
    process = project.start("run", *SMALL, "-p", f"seed={seed}", "--json", **environment)
    run_dir = wait_for(under_way(project, "report"), 120)
    begun = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 60 and process.returncode == 0, err
    result = json.loads(out)
    assert result["status"] == "done" and result["synced"] is False and "iris-nb sync" in result["model"]["note"]
    assert "Traceback" not in err and "not synced" in (run_dir / "index.html").read_text()
    whole(run_dir)
    proxy.heal()
    done = project.call("sync", **environment)
    assert done.returncode == 0 and done.stdout.split() == ["synced", result["run"]], done.stderr
    shown = project.json("show", **environment)
    assert shown["synced"] and shown["model"]["version"] and shown["model"]["alias"] == "staging"
    from iris_nb.tracking import connect

    client = connect(proxy.uri, 20).client
    runs = client.search_runs(
        [client.get_experiment_by_name("iris").experiment_id], f"tags.`iris_nb.run` = '{run_dir.name}'"
    )
    assert [run.info.status for run in runs] == ["FINISHED"]
    versions = client.search_model_versions(f"name = 'iris' and run_id = '{runs[0].info.run_id}'")
    assert [str(version.version) for version in versions] == [shown["model"]["version"]]
    assert [bytes(line) for line in proxy.seen]
    proxy.close()


FAULTY: list[tuple[str, bytes]] = [
    ("500", b"registered-models/create"),
    ("stall", b"runs/log-batch"),
    ("stall", b""),
    ("refuse", b""),
    ("500", b""),
    ("reset", b"runs/create"),
    ("500", b"model-versions/create"),
    ("stall", b"registered-models/alias"),
    ("reset", b"mlflow-artifacts"),
    ("slow", b""),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "trigger"), FAULTY[:1], ids=str)
def test_a_network_that_misbehaves(fault: str, trigger: bytes, warm_project: Project, server: int) -> None:
    bad_network(warm_project, server, fault, trigger, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "trigger"), FAULTY[1:], ids=str)
def test_every_way_to_misbehave(fault: str, trigger: bytes, project: Project, server: int) -> None:
    bad_network(project, server, fault, trigger, 1001 + FAULTY.index((fault, trigger)))


def together(project: Project, words: list[list[str]]) -> list[dict[str, Any]]:
    """Start runs at the same moment; each must end well."""
    processes = [project.start("run", *SMALL, "--json", *some) for some in words]
    results = []
    for process in processes:
        out, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
        results.append(json.loads(out))
    for result in results:
        assert result["synced"] and result["model"]["version"]
        whole(Path(result["run_dir"]))
    return results


@pytest.mark.slow
def test_four_runs_at_once_ten_times(make_project: Callable[[str], Project]) -> None:
    project = make_project("together")
    everything = []
    for number in range(10):
        seed = f"seed={number // 2}"
        results = together(
            project, [["-p", seed], ["-p", seed], ["-p", seed, "--fresh"], ["-p", f"seed={100 + number}"]]
        )
        assert results[0]["metrics"] == results[1]["metrics"] == results[2]["metrics"]
        everything += results
    assert len({result["run"] for result in everything}) == 40
    mlflow = store(project)
    experiment = mlflow.client.get_experiment_by_name("iris").experiment_id
    parents = mlflow.client.search_runs([experiment], "tags.`iris_nb.table` = 'iris'", max_results=1000)
    assert sorted(run.data.tags["iris_nb.run"] for run in parents) == sorted(result["run"] for result in everything)
    assert {run.info.status for run in parents} == {"FINISHED"}
    versions = {
        str(v.version): v.tags["iris_nb.manifest_sha256"] for v in mlflow.client.search_model_versions("name = 'iris'")
    }
    for result in everything:
        manifest = sha256_file(Path(result["run_dir"]) / "training" / "model" / "manifest.json")
        assert versions[result["model"]["version"]] == manifest


@pytest.mark.slow
def test_clean_shows_first_and_keeps_what_is_in_use(warm_project: Project) -> None:
    project = warm_project
    staged = project.json("run", "--profile", "quick")
    untracked = project.json("run", "--profile", "quick", "--untracked")
    torn = project.reports / ".new-20200101T000000-iris-0000"
    torn.mkdir()
    os.utime(torn, (0, 0))
    for result in (staged, untracked):
        path = Path(result["run_dir"])
        write_manifest(path, read_json(path / "run.json") | {"created": "2020-01-01T00:00:00+00:00"})
    shown = project.json("clean", "--older-than", "30d")
    plans = {item["name"]: item["plan"] for item in shown["items"]}
    assert plans[staged["run"]] == "stays: its model is staging" and shown["removed"] == []
    assert plans[untracked["run"]] == plans[torn.name] == "would be removed"
    assert Path(untracked["run_dir"]).exists()
    assert sorted(project.json("clean", "--older-than", "30d", "--yes")["removed"]) == sorted(
        [untracked["run"], torn.name]
    )
    assert [path.name for path in project.runs()] == [staged["run"]]
    assert project.call("clean", "--older-than", "soon").returncode == 2
