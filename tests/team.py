"""Stores for tests of the registry: small models in them, and real servers on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import clean_environment
from sklearn.datasets import load_iris
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from iris_nb.contract import infer_contract
from iris_nb.files import sha256_folder, write_json
from iris_nb.modelfile import save_model
from iris_nb.runs import blank_record, blank_stage, write_manifest
from iris_nb.settings import Settings
from iris_nb.tracking import Store, open_mirror, tracking_uri


def settings_of(home: Path, uri: str = "", key: str = "", who: str = "anna") -> Settings:
    """The settings of a project that is only a folder."""
    return Settings(home=home, tracking_uri=uri, signing_key=key, who=who)


def connect_to(settings: Settings) -> Store:
    """A store, made if it is not there."""
    from iris_nb.tracking import connect

    return connect(tracking_uri(settings), 20, settings.signing_key.get_secret_value())


def make_run(home: Path, run: str, smoothing: float, table: str = "iris", passed: bool = True) -> dict[str, Any]:
    """The folder of a run with a small model in it; its manifest."""
    frame = load_iris(as_frame=True).frame
    contract = infer_contract(frame, table, "target")
    pipeline = make_pipeline(StandardScaler(), GaussianNB(var_smoothing=smoothing))
    pipeline.fit(contract.conform(frame), contract.labels(frame["target"]).to_numpy(dtype=str))
    run_dir = home / "reports" / run
    about = {"title": "Gaussian naive Bayes", "metric": "accuracy", "classes": list(contract.classes)}
    save_model(run_dir / "training" / "model", pipeline, about, contract)
    scores = {"accuracy": {"value": 0.95, "low": 0.9, "high": 1.0}, "log_loss": {"value": 0.1}}
    write_json(run_dir / "training" / "training.json", {"metrics": scores, "gate": {"passed": passed}})
    files = {f"training/{path}": digest for path, digest in sha256_folder(run_dir / "training").items()}
    stages = [blank_stage("training", status="done", files=files)]
    record = {"id": run, "table": table, "status": "done", "stages": stages, "model": {"version": None}, "mlflow": {}}
    record = blank_record(**record, name=f"name-{run[-4:]}")
    write_manifest(run_dir, record)
    return record


def register(store: Store, home: Path, run: str, smoothing: float, **more: Any) -> str:
    """Make a run's folder, register its model, and forget the folder; the version."""
    record = make_run(home, run, smoothing, **more)
    version: str = open_mirror(store, home / "reports" / run, record)["model"]["version"]
    shutil.rmtree(home / "reports" / run)
    return version


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def postgres_bin() -> Path | None:
    """Where the programs of PostgreSQL are."""
    known = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which("initdb")
    return next((p for p in [*known, *([Path(found).parent] if found else [])] if (p / "initdb").exists()), None)


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own on loopback; the address of an empty database."""
    programs = postgres_bin()
    if programs is None:
        pytest.skip("no PostgreSQL on this machine (apt-get install postgresql)")
    folder, port = Path(tempfile.mkdtemp(prefix="iris-nb-pg-")), free_port()
    other: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        other = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres", "postgres")
    data, quiet = folder / "data", {"stdout": subprocess.DEVNULL, "cwd": folder, **other}
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "mlflow", "--auth=trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, **quiet)
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-c", "fsync=off"]
    server = subprocess.Popen(
        [str(programs / "postgres"), "-D", str(data), *options], stderr=subprocess.DEVNULL, **quiet
    )
    try:
        address = f"127.0.0.1:{port}/postgres"
        wait_for(lambda: _answers(f"postgresql://mlflow@{address}"), server, 60)
        yield f"postgresql+psycopg://mlflow@{address}"
    finally:
        server.send_signal(signal.SIGINT)  # its "fast" end, which does not wait for those who are connected
        server.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(address: str) -> bool:
    import psycopg

    try:
        psycopg.connect(address, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def mlflow_server(backend: str, folder: Path) -> Iterator[str]:
    """An MLflow server on loopback with that database; its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend, "--workers", "2"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("wb") as log:
        environment = clean_environment(MLFLOW_DISABLE_TELEMETRY="true")
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True)
        try:
            wait_for(lambda: _healthy(port), server, 180)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # the workers are in the group that was made for this server
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _healthy(port: int) -> bool:
    from urllib.request import urlopen

    try:
        return bool(urlopen(f"http://127.0.0.1:{port}/health", timeout=2).read() == b"OK")
    except OSError:
        return False


def wait_for(ready: Any, process: subprocess.Popen[Any], seconds: float) -> None:
    """Wait until something is so, or the process that should make it so has ended."""
    until = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert time.monotonic() < until, f"{process.args} was not ready within {seconds} seconds"
        time.sleep(0.2)
