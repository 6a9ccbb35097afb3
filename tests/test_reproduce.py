"""A run is evidence: it is made again and proved equal, and whatever is not equal, or not there, is noticed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, clean_environment
from test_faults import kill_kernel
from test_pipeline import wait_for

from iris_nb.candidates import CANDIDATES
from iris_nb.errors import InputError
from iris_nb.files import read_json, sha256_bytes, sha256_file
from iris_nb.kernel import pinned_environment
from iris_nb.reproduce import (
    Terms,
    child_environment,
    constraints_of,
    find_python,
    locate_table,
    reproduce_bundle,
    reproduce_run,
)
from iris_nb.runs import ATTESTED, read_evidence, records_in, write_manifest
from iris_nb.sources import read_module

COPIED = ("nbs", "iris_nb", "data/raw", "data/contracts", "settings.ini", "setup.py", "pyproject.toml", "README.md")
FAST = ("--profile", "quick", "--untracked", "-p", "candidates=[lda]", "--json")


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    return subprocess.run(
        ["git", *identity, "-C", str(folder), *words], check=True, capture_output=True, text=True
    ).stdout


class Repository:
    """A git repository of the project, with a temporary folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.home, self.temporary = folder / "project", folder / "tmp"
        self.at_work: list[Future[Any]] = []
        self.temporary.mkdir(parents=True)
        for name in (*COPIED, "requirements.lock", ".gitignore"):
            source, target = ROOT / name, self.home / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
            else:
                shutil.copyfile(source, target)
        git(self.home, "init", "-q")
        git(self.home, "add", "-A")
        git(self.home, "commit", "-qm", "The project")

    def start(self, *words: str | Path, path: Path | None = None, folder: Path | None = None) -> subprocess.Popen[str]:
        """Start the command; `path` is put before everything that Python would import; `folder` is where to stand."""
        paths = os.pathsep.join(str(p) for p in (path, self.home) if p)
        start = "from iris_nb.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", start, *map(str, words)], cwd=folder or self.home, text=True,
            env=clean_environment(PYTHONPATH=paths, TMPDIR=str(self.temporary)),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def call(
        self, *words: str | Path, code: int = 0, path: Path | None = None, folder: Path | None = None
    ) -> dict[str, Any]:
        """Run the command with --json."""
        process = self.start(*words, *(() if "--json" in words else ("--json",)), path=path, folder=folder)
        out, err = process.communicate(timeout=600)
        assert process.returncode == code, err[-3000:] + out[-3000:]
        assert "Traceback" not in err
        result: dict[str, Any] = json.loads(out)
        return result

    def assert_clean(self) -> None:
        """No change, no worktree, no temporary folder, once nothing is at work here."""
        wait(self.at_work)
        assert git(self.home, "status", "--porcelain") == ""
        assert git(self.home, "worktree", "list").count("\n") == 1
        assert not list((self.home / ".git").glob("worktrees/*"))
        assert [path.name for path in self.temporary.iterdir() if path.name.startswith("iris-nb")] == []

    def refuse(self, *words: str | Path) -> str:
        """The sentence with which a reproduction is refused."""
        return str(self.call("reproduce", *words, code=2)["error"])

    def copy(self, run: Path, name: str) -> Path:
        """A copy of a run under an id of its own, sealed as if the runner had written it."""
        target = run.with_name(f"{run.name[:-4]}{name}")
        shutil.copytree(run, target, ignore=shutil.ignore_patterns("attestations", ".lock"))
        write_manifest(target, read_json(run / "run.json") | {"id": target.name})
        return target


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("repository"))


def edit_function(home: Path, notebook: str, old: str, new: str) -> None:
    """Change an exported function, in the notebook and in its module, as nbdev_export would leave it."""
    path = home / "nbs" / notebook
    module = home / "iris_nb" / f"{path.stem[3:]}.py"
    for file, pair in ((path, (json.dumps(old)[1:-1], json.dumps(new)[1:-1])), (module, (old, new))):
        text = file.read_text(encoding="utf-8")
        assert pair[0] in text
        file.write_text(text.replace(*pair), encoding="utf-8")


@pytest.fixture(scope="module")
def run(repository: Repository) -> Path:
    """A run on a table whose rows may not be shown, made from a tree with uncommitted changes."""
    random = np.random.default_rng(5)
    kind = np.repeat(["low", "high"], 45)
    table = pd.DataFrame(
        {
            "dose": (kind == "high") * 2.5 + random.normal(0, 1, 90).round(3),
            "ward": random.choice(["A", "B", None], 90),
            "risk": kind,
        }
    )
    path = repository.home.parent / "patients.csv"
    table.to_csv(path, index=False)
    edit_function(repository.home, "32_metrics.ipynb", "Right, actual and predicted", "Right, true and predicted")
    contract = repository.home / "data" / "contracts" / "unrelated.json"
    contract.write_text("{}\n")
    try:
        result = repository.call("run", path, "--target", "risk", *FAST)
    finally:
        git(repository.home, "checkout", "-q", "--", ".")
        contract.unlink()
    record = read_json(Path(result["run_dir"]) / "run.json")
    assert record["git"]["dirty"] and b"unrelated.json" in (Path(result["run_dir"]) / "source.patch").read_bytes()
    return Path(result["run_dir"])


class Reproductions:
    """Reproductions of copies of one run, each with one thing changed, two at a time."""

    def __init__(self, repository: Repository, run: Path, folder: Path) -> None:
        self.repository, self.run, self.folder = repository, run, folder
        self.pool = ThreadPoolExecutor(2)
        self.futures: dict[str, Future[dict[str, Any]]] = {}

    def __call__(self, name: str) -> dict[str, Any]:
        """What came of one; the others of its group are begun with it."""
        group = next(group for group in (CHANGES, MORE_CHANGES) if name in group)
        self.futures |= {n: self.pool.submit(getattr(self, n)) for n in group if n not in self.futures}
        self.repository.at_work[:] = self.futures.values()
        return self.futures[name].result()

    def reproduce(self, run: Path, *words: str | Path, code: int, path: Path | None = None) -> dict[str, Any]:
        return self.repository.call("reproduce", run.name, "--same-env", *words, code=code, path=path)

    def nothing(self) -> dict[str, Any]:
        return self.reproduce(self.run, code=0)

    def data(self) -> dict[str, Any]:
        lines = (self.repository.home.parent / "patients.csv").read_text().splitlines()
        lines[17] = re.sub(r"^[-\d.]+", "777.25", lines[17])
        (self.folder / "corrected.csv").write_text("\n".join(lines) + "\n")
        return self.reproduce(self.run, "--data", self.folder / "corrected.csv", code=1)

    def seed(self) -> dict[str, Any]:
        copy = self.repository.copy(self.run, "seed")
        record = read_json(copy / "run.json")
        for part in record["parameters"].values():
            part.update({"seed": 7} if "seed" in part else {})
        write_manifest(copy, record)
        return self.reproduce(copy, code=1)

    def predictions(self) -> dict[str, Any]:
        copy = self.repository.copy(self.run, "edit")
        path = copy / "training" / "predictions.parquet"
        predictions = pd.read_parquet(path)
        predictions.loc[3, "p:low"] += 0.25
        predictions.to_parquet(path, index=False)
        return self.reproduce(copy, code=1) | {"row": int(predictions.loc[3, "row"])}

    def function(self) -> dict[str, Any]:
        home = self.folder / "clone"
        git(self.folder, "clone", "-q", str(self.repository.home), str(home))
        edit_function(home, "32_metrics.ipynb", "np.clip(", "1.001 * np.clip(")
        git(home, "commit", "-qam", "Change a function")
        git(home, "push", "-q", "origin", "HEAD:refs/heads/changed")
        return self.reproduce(self.run, "--at", "changed", code=1)

    def version(self) -> dict[str, Any]:
        return self.reproduce(self.run, code=0, path=other_scikit_learn(self.folder / "harmless"))

    def behaviour(self) -> dict[str, Any]:
        change = (
            "\n\n_fit = LinearDiscriminantAnalysis.fit\n\n\ndef _other(self, X, y):\n    _fit(self, X, y)\n"
            "    self.coef_ = self.coef_ * 1.001\n    return self\n\n\nLinearDiscriminantAnalysis.fit = _other\n"
        )
        return self.reproduce(self.run, code=1, path=other_scikit_learn(self.folder / "harmful", change))


CHANGES = ("nothing", "data", "predictions")
MORE_CHANGES = ("function", "behaviour", "seed", "version")
SLOW = pytest.mark.slow


def other_scikit_learn(folder: Path, change: str = "") -> Path:
    """A scikit-learn of another version, perhaps with a function that behaves differently."""
    import sklearn

    real, fake = Path(sklearn.__file__).parent, folder / "sklearn"
    fake.mkdir(parents=True)
    for path in real.iterdir():
        (fake / path.name).symlink_to(path)
    for name, old, new in (
        ("__init__.py", f'__version__ = "{sklearn.__version__}"', '__version__ = "1.9.99"'),
        ("discriminant_analysis.py", "", change),
    ):
        text = (real / name).read_text()
        assert old in text
        (fake / name).unlink()
        (fake / name).write_text(text.replace(old, new) if old else text + new)
    about = distribution("scikit-learn")
    info = folder / "scikit_learn-1.9.99.dist-info"
    info.mkdir()
    text = about.read_text("METADATA") or ""
    (info / "METADATA").write_text(text.replace(f"\nVersion: {about.version}\n", "\nVersion: 1.9.99\n", 1))
    return folder


@pytest.fixture(scope="module")
def made(
    repository: Repository, run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], dict[str, Any]]]:
    """What came of each reproduction."""
    reproductions = Reproductions(repository, run, tmp_path_factory.mktemp("changes"))
    yield reproductions
    reproductions.pool.shutdown(cancel_futures=True)


# --- proved and caught -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_identical_although_the_tree_was_dirty(
    repository: Repository, run: Path, made: Callable[[str], dict[str, Any]]
) -> None:
    found = made("nothing")
    assert found["verdict"] == "IDENTICAL" and found["different"] == 0 and found["values"] > 500
    assert found["exit_code"] == 0 and found["environment"] == "this one" and found["environment_differences"] == []
    assert found["code"]["as_recorded"] and found["code"]["commit"] == git(repository.home, "rev-parse", "HEAD").strip()
    assert found["code"]["patch_sha256"] == sha256_file(run / "source.patch")
    assert [stage["stage"] for stage in found["stages"]][:2] == ["data", "features"]
    hashes = found["files"]["training/predictions.parquet"]
    assert hashes["recorded"] == hashes["left"] == hashes["right"] == sha256_file(run / "training/predictions.parquet")
    assert found["files"]["training/model/model.skops"]["left"] == found["files"]["training/model/model.skops"]["right"]
    assert Path(found["attestation"]).parent == run / "attestations"
    assert "IDENTICAL" in [one["verdict"] for one in records_in(run / ATTESTED)]
    read_evidence(run)  # the seal of the manifest still fits


@pytest.mark.slow
def test_what_the_machine_ended_is_no_verdict(repository: Repository, run: Path) -> None:
    copy = repository.copy(run, "e0d1")
    process = repository.start("reproduce", copy.name, "--same-env", "--json")
    assert wait_for(lambda: kill_kernel(process.pid), 120)
    out, err = process.communicate(timeout=120)
    told = json.loads(out)["error"]
    assert process.returncode == 2 and "says nothing about the run" in told and "Traceback" not in err, told
    assert records_in(copy / ATTESTED) == []
    shutil.rmtree(copy)


def test_one_changed_data_value(made: Callable[[str], dict[str, Any]]) -> None:
    found = made("data")
    assert found["verdict"] == "DIFFERENT"
    assert "in the stage 'data', data/table.parquet, row 17, column dose" in found["reason"]
    assert found["rows"] == "1 row was changed: row 17" and found["rows"] in found["reason"]
    rows = [m for m in found["mismatches"] if m["file"].endswith(".parquet") and m["file"] != "models/scores.parquet"]
    assert rows and "777.25" not in json.dumps(rows), "rows of this table may not be shown"


@pytest.mark.slow
def test_a_changed_seed(made: Callable[[str], dict[str, Any]]) -> None:
    found = made("seed")
    assert found["verdict"] == "DIFFERENT" and found["rows"] == ""
    assert "first in the stage 'data', data/split.parquet, row " in found["reason"]


@pytest.mark.slow
def test_an_edited_prediction_file(made: Callable[[str], dict[str, Any]]) -> None:
    found = made("predictions")
    assert found["verdict"] == "DIFFERENT" and found["different"] == 1
    assert f"training/predictions.parquet, row {found['row']}, column p:low" in found["reason"]
    assert found["changed_files"] == ["training/predictions.parquet"]
    assert found["mismatches"][1]["gap"] == pytest.approx(0.25)
    hashes = found["files"]["training/predictions.parquet"]
    assert hashes["recorded"] == hashes["right"] != hashes["left"]


@SLOW
def test_a_changed_function(made: Callable[[str], dict[str, Any]]) -> None:
    found = made("function")
    assert found["verdict"] == "DIFFERENT" and found["reason"].startswith("with the code at changed, first in")
    assert "log_loss" in found["reason"] and found["code"]["as_recorded"] is False


@pytest.mark.slow
def test_another_library_version_that_changes_nothing(made: Callable[[str], dict[str, Any]]) -> None:
    found = made("version")
    assert found["verdict"] == "WITHIN TOLERANCE" and found["different"] == 0
    assert "largest difference 0" in found["reason"] and "scikit-learn" in found["reason"]
    assert [d["name"] for d in found["environment_differences"]] == ["scikit-learn"]


@pytest.mark.slow
@SLOW
def test_another_library_version_that_changes_numbers(made: Callable[[str], dict[str, Any]]) -> None:
    found = made("behaviour")
    assert found["verdict"] == "DIFFERENT" and "first in the stage 'models', models/scores.parquet" in found["reason"]
    assert "the environment differs: scikit-learn" in found["reason"] and "1.9.99" in found["reason"]
    assert "training/model/model.skops" in {m["file"] for m in found["mismatches"]}


@SLOW
@pytest.mark.parametrize("names", [CHANGES, MORE_CHANGES], ids=["first", "more"])
def test_nothing_is_left_behind(
    names: tuple[str, ...], repository: Repository, run: Path, made: Callable[[str], dict[str, Any]]
) -> None:
    for name in names:
        made(name)
    repository.assert_clean()
    records = [read_json(path) for path in repository.home.glob("reports/*/run.json")]
    assert all(record["origin"] is None for record in records), "a new run is not among the runs"
    for path in repository.home.glob("reports/*"):
        if path != run and path.is_dir():
            shutil.rmtree(path)


# --- refused ---------------------------------------------------------------------------------------------------------


def test_the_command_refuses_in_one_sentence(repository: Repository, run: Path) -> None:
    assert "no run is called" in repository.refuse("nosuchrun")
    assert "--trust is for a bundle" in repository.refuse(run.name, "--trust", "0" * 64)
    for at in ("--help", "nosuchbranch", "HEAD^^^^^^"):
        with pytest.raises(InputError, match="no such commit in this repository"):
            reproduce_run(run, repository.home, Terms(at=at), print)
    with pytest.raises(InputError, match="there is no file"):
        reproduce_bundle(repository.home / "nosuch.zip", "0" * 64, Terms(), print)
    with pytest.raises(InputError, match="give the path of the table patients"):
        reproduce_run(run, repository.home, Terms(same_env=True, data=Path("nosuch.csv")), print)


def test_an_edited_manifest_is_refused(repository: Repository, run: Path) -> None:
    copy = repository.copy(run, "hand")
    path = copy / "run.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7'))
    with pytest.raises(InputError, match="its seal does not fit"):
        reproduce_run(copy, repository.home, Terms(same_env=True), print)
    shutil.rmtree(copy)
    with pytest.raises(InputError, match="0 to 1"):
        reproduce_run(run, repository.home, Terms(tolerance=-1), print)


def broken(change: Callable[[Path, dict[str, Any]], None]) -> Callable[[Repository, Path], str]:
    """The sentence about a copy of a run that something was done to, under a fitting seal."""

    def sentence(repository: Repository, run: Path) -> str:
        copy = repository.copy(run, "fake")
        record = read_json(copy / "run.json")
        change(copy, record)
        write_manifest(copy, record)
        try:
            reproduce_run(copy, repository.home, Terms(same_env=True), lambda line: None)
        except InputError as error:
            return str(error)
        finally:
            shutil.rmtree(copy)
            repository.assert_clean()
        raise AssertionError("it was not refused")

    return sentence


def patch(path: Path, record: dict[str, Any], old: bytes, new: bytes, seal: bool) -> None:
    file = path / "source.patch"
    file.write_bytes(file.read_bytes().replace(old, new))
    if seal:
        record["git"]["patch_sha256"] = sha256_file(file)


BROKEN: dict[str, tuple[Callable[[Path, dict[str, Any]], Any], str]] = {
    "commit": (lambda path, record: record["git"].update(commit="ab" * 20), "commit abababababab"),
    "no commit at all": (lambda path, record: record["git"].update(commit="--help"), "is not in this repository"),
    "missing file": (lambda path, record: (path / "models" / "models.json").unlink(), "'models/models.json' is missing"),
    "patch gone": (lambda path, record: (path / "source.patch").unlink(), "has lost its source.patch"),
    "patch never kept": (lambda path, record: record["git"].update(patch=None), "could not be kept"),
    "patch edited": (lambda p, r: patch(p, r, b"Right, true", b"Right, false", seal=False), "is not the recorded one"),
    "patch sealed": (lambda p, r: patch(p, r, b"Right, true", b"Right, false", seal=True), "iris_nb/metrics.py"),
    "patch nonsense": (lambda p, r: patch(p, r, b"iris_nb/metrics.py", b"iris_nb/nothing.py", seal=True), "does not apply"),
    "code": (lambda path, record: record["code"].update(tables="0" * 64), "another hash of iris_nb/tables.py"),
    "notebook": (lambda path, record: record["notebooks"].update(models="0" * 64), "Run section of 'models'"),
    "one stage": (lambda p, r: r["stages"][-1].update(status="pending"), "was made of some stages only"),
    "lock": (lambda path, record: record.update(lock_sha256="0" * 64), "is not the lock of run"),
    "failed": (lambda path, record: record.update(status="failed", error="it broke"), "iris-nb resume"),
    "killed": (lambda path, record: record.update(status="killed", error="it died"), "did not finish (killed"),
    "format": (lambda path, record: record.update(format=1), "make the run again"),
    "table": (lambda p, r: r["parameters"]["data"].update(source="/no/such/table.csv"), "there is no /no/such/table.csv"),
    "contracts": (
        lambda path, record: record["parameters"]["data"].update(contracts_dir="/no/such/folder"), "contracts of run",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_as_recorded_is_refused(name: str, repository: Repository, run: Path) -> None:
    change, expected = BROKEN[name]
    sentence = broken(change)(repository, run)
    assert expected in sentence and "\n" not in sentence


def test_a_lock_that_was_never_committed_is_gone(tmp_path: Path, repository: Repository, run: Path) -> None:
    other = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository.home), str(other))
    git(other, "rm", "-q", "requirements.lock")
    git(other, "commit", "-qm", "Remove the lock")

    copy = repository.copy(run, "lock")
    record = read_json(copy / "run.json")
    record["git"].update(commit=git(other, "rev-parse", "HEAD").strip(), dirty=False)
    record["code"]["metrics"] = read_module(other / "iris_nb" / "metrics.py").sha256
    write_manifest(copy, record)
    with pytest.raises(InputError, match=r"the lock of run .* is gone"):
        reproduce_run(copy, other, Terms(same_env=True), print)
    shutil.rmtree(copy)


def test_outside_git_the_working_tree_must_be_the_code(repository: Repository, run: Path) -> None:
    sentence = broken(lambda path, record: record.update(git=None))(repository, run)
    assert "the working tree is not the code of run" in sentence and "iris_nb/metrics.py" in sentence


# --- nothing is left behind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=SLOW), pytest.param(signal.SIGKILL, marks=SLOW)]
)
def test_stopped_in_the_middle(number: signal.Signals, repository: Repository, run: Path) -> None:
    process = repository.start("reproduce", run.name, "--same-env")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("executing"):
            break
    time.sleep(1.5)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        left = [path for path in repository.temporary.iterdir() if path.name.startswith("iris-nb-reproduce")]
        assert len(left) == 1 and process.returncode == -number
        deadline = time.monotonic() + 60
        while children(left[0]) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert "no such commit" in repository.refuse(run.name, "--at", "nonsense"), "the next one cleans up"
    else:
        assert process.returncode == 128 + number, err
        assert "nothing was left behind" in err and "Traceback" not in err
    repository.assert_clean()


def children(folder: Path) -> list[str]:
    """Processes that still work for a reproduction whose head is dead."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder) in path.read_text():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


# --- parts -----------------------------------------------------------------------------------------------------------


def test_the_lock_bends_to_what_the_run_had() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    text, others = constraints_of(lock, {"numpy": "1.0", "not-in-the-lock": "3"})
    assert "\nnumpy==1.0\n" in text and "not-in-the-lock" not in text
    assert len(others) == 1 and others[0].startswith("numpy 1.0 (the lock says ")
    same, none = constraints_of(lock, {})
    assert none == [] and same.count("==") >= lock.count("\n") - 10


def test_another_python_is_looked_for_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "python3.99"
    fake.write_text("#!/bin/sh\necho 3.99\n")
    fake.chmod(0o755)
    with pytest.raises(InputError, match=r"no python3\.99 on the path; install it, or .* --same-env"):
        find_python("3.99.1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert find_python("3.99.1") == str(fake)
    fake.write_text("#!/bin/sh\necho 3.98\n")
    with pytest.raises(InputError, match=r"no python3\.99"):
        find_python("3.99.1")


def test_the_child_hears_of_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IRIS_NB_TRACKING_URI", "MLFLOW_TRACKING_URI", "PYTHONHASHSEED", "PYTHONPATH"):
        monkeypatch.setenv(name, "http://nowhere")
    for same_env in (True, False):
        found = child_environment(Path("/tree"), Path("/reports"), 3, Path("/tmp"), same_env)
        assert {n for n in found if n.startswith(("IRIS_NB_", "MLFLOW_"))} == {
            "IRIS_NB_HOME", "IRIS_NB_REPORTS_DIR", "IRIS_NB_THREADS",
        }  # fmt: skip
        assert found["PYTHONPATH"].split(os.pathsep)[0] == "/tree"
        assert ("nowhere" in found["PYTHONPATH"]) == same_env


def test_a_table_in_the_project_is_taken_from_the_commit(tmp_path: Path) -> None:
    home, tree = tmp_path / "home", tmp_path / "tree"
    for folder, text in ((home, "new"), (tree, "old")):
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "t.csv").write_text(text)
    source = str(home / "data" / "t.csv")
    record: dict[str, Any] = {"id": "x", "parameters": {"data": {"source": source}}}
    record["data"] = {"sha256_raw": sha256_bytes(b"old")}
    assert locate_table(record, tree, home, None) == (str(tree / "data" / "t.csv"), True)
    record["data"] = {"sha256_raw": sha256_bytes(b"other")}
    assert locate_table(record, tree, home, None) == (source, False)
    assert locate_table(record | {"parameters": {"data": {"source": "iris"}}}, tree, home, None) == ("iris", True)


def test_a_bundle_is_not_opened_without_its_hash(tmp_path: Path) -> None:
    (tmp_path / "study.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="is to run the code in it"):
        reproduce_bundle(tmp_path / "study.zip", "", Terms(), lambda line: None)
    with pytest.raises(InputError, match="--at is for runs of this project"):
        reproduce_bundle(tmp_path / "study.zip", "0" * 64, Terms(at="here"), lambda line: None)


# --- every candidate -------------------------------------------------------------------------------------------------

FIT_ALL = """
import json, sys, tempfile
from pathlib import Path
import numpy as np, pandas as pd
from iris_nb.candidates import CANDIDATES, fit_candidate, probabilities
from iris_nb.contract import infer_contract
from iris_nb.features import FeatureOptions, build_features
from iris_nb.files import sha256_bytes
from iris_nb.modelfile import content_digest, save_model

random = np.random.default_rng(1)
y = pd.Series(random.choice(["x", "y", "z"], 90))
X = pd.DataFrame({"a": random.normal(size=90) + (y == "y"), "b": random.normal(size=90) - (y == "z"),
                  "kind": random.choice(["p", "q", "r"], 90), "n": random.integers(0, 9, 90)})
X.loc[::11, "a"] = np.nan
contract = infer_contract(X.assign(label=y), "t", "label", [], [], {})
features = build_features(contract, FeatureOptions("auto", "standard", 20, 0.01))
X, found = contract.conform(X), {}
for candidate in CANDIDATES:
    model = fit_candidate(candidate, features, X, y, 3, "none")
    answers = probabilities(model, X, contract.classes)
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder) / "model", model, {"classes": list(contract.classes)}, contract)
        found[candidate.name] = [sha256_bytes(answers.tobytes()), content_digest(Path(folder) / "model")]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[str]]]:
    """Every candidate fitted in three fresh processes; the last has other hashes and more threads."""
    script = tmp_path_factory.mktemp("fits") / "fit_all.py"
    script.write_text(FIT_ALL)
    changes: list[dict[str, str]] = [{}, {}, {"PYTHONHASHSEED": "4242", "OMP_NUM_THREADS": "2"}]
    processes = []
    for change in changes:
        pinned = {k: v for k, v in pinned_environment(2).items() if k != "IRIS_NB_THREADS"}
        environment = clean_environment(**(pinned | change))
        processes.append(subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE))
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    return [json.loads(output) for output in outputs]


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
def test_a_fit_is_the_same_in_every_process(candidate: Any, fits: list[dict[str, list[str]]]) -> None:
    first, second, other = (fit[candidate.name] for fit in fits)
    assert first == second, "two fresh processes with the pinned environment"
    assert first == other, "another hash seed and number of threads"


# --- minutes ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_environment_is_built_from_the_lock(repository: Repository) -> None:
    result = repository.call("run", *FAST)
    found = repository.call("reproduce", result["run"])
    assert found["verdict"] in ("IDENTICAL", "WITHIN TOLERANCE") and found["different"] == 0
    assert found["environment"] == "built from the lock" and "dirty" not in found["code"]
    for other in found["environment_differences"]:
        assert other["left"] != other["right"]


@pytest.mark.slow
def test_no_package_index_is_one_sentence(repository: Repository, monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    sentence = repository.refuse(run.name)
    assert "cannot be installed" in sentence and "--same-env" in sentence


@pytest.mark.slow
def test_a_bundled_table_and_every_candidate(repository: Repository) -> None:
    result = repository.call("run", "wine", "--profile", "quick", "--untracked")
    found = repository.call("reproduce", result["run"], "--same-env", "--keep")
    assert found["verdict"] == "IDENTICAL"
    repository.assert_clean()
    kept = Path(found["kept"])
    assert kept.parent == repository.home / "reports"
    record = read_evidence(kept)
    assert record["origin"] == {"kind": "reproduction", "id": result["run"]} and record["tracked"] is False
    shutil.rmtree(kept)


@pytest.mark.slow
def test_an_older_commit_and_a_function_that_fails(repository: Repository, run: Path) -> None:
    found = repository.call("reproduce", run.name, "--same-env", "--at", "HEAD")
    assert found["verdict"] == "IDENTICAL" and found["reason"].startswith("with the code at HEAD")
    edit_function(repository.home, "32_metrics.ipynb", "np.clip(", "np.no_such_function(")
    try:
        found = repository.call("reproduce", run.name, "--same-env", "--at", "here", code=1)
    finally:
        git(repository.home, "checkout", "-q", "--", ".")
    assert found["verdict"] == "DIFFERENT" and "failed when it was executed again" in found["reason"]
    assert "no_such_function" in found["reason"]


@pytest.mark.slow
def test_a_table_that_can_no_longer_be_studied(repository: Repository, run: Path, tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("dose,ward\n1,A\n")
    found = repository.call("reproduce", run.name, "--same-env", "--data", tmp_path / "patients.csv", code=1)
    assert found["verdict"] == "DIFFERENT" and "the data can no longer be studied" in found["reason"]
    assert "risk" in found["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("with_data", [True, False], ids=["with data", "without data"])
def test_a_bundle_in_an_empty_folder(with_data: bool, repository: Repository, run: Path, tmp_path: Path) -> None:
    from iris_nb.packing import export_bundle

    bundle, empty = tmp_path / "study.zip", tmp_path / "empty"
    empty.mkdir()
    trust = export_bundle(repository.home, run, bundle, with_data, [], False).sha256
    refused = repository.call("reproduce", bundle, "--trust", "0" * 64, code=2, folder=empty)
    assert "0000" in refused["error"] and list(empty.iterdir()) == []
    words: list[str | Path] = ["reproduce", bundle, "--same-env", "--trust", trust]
    if not with_data:
        assert "give its table patients.csv with --data" in repository.call(*words, code=2, folder=empty)["error"]
        renamed = shutil.copy(repository.home.parent / "patients.csv", tmp_path / "renamed.csv")
        words += ["--data", renamed]
    found = repository.call(*words, folder=empty)
    assert found["verdict"] == "IDENTICAL" and found["bundle"] == {"name": "study.zip", "sha256": trust}
    assert Path(found["attestation"]).parent == tmp_path / "study.attestations"
    assert list(empty.iterdir()) == [] and {path.name for path in tmp_path.iterdir()} - {"renamed.csv"} == {
        "study.zip", "empty", "study.attestations",
    }  # fmt: skip
    repository.assert_clean()
    if not with_data:
        text = Path(words[-1]).read_text().splitlines()
        Path(words[-1]).write_text("\n".join([*text[:-1], "777.25,A,high"]) + "\n")
        found = repository.call(*words, code=1, folder=empty)
        assert found["verdict"] == "DIFFERENT" and "data/table.parquet, SHA-256" in found["reason"]


@pytest.mark.slow
def test_a_search_that_the_clock_ended_is_replayed(repository: Repository) -> None:
    words = ("--profile", "quick", "--untracked", "-p", "candidates=[svm]", "-p", "tune=chosen", "-p", "trials=400")
    result = repository.call("run", *words, "-p", "tune_seconds=1")
    run_dir = Path(result["run_dir"])
    left = read_json(run_dir / "models" / "tuning.json")
    assert left["candidates"]["svm"]["search"]["stopped_by"] == "time" and 4 <= left["trials_done"]["svm"] < 400

    found = repository.call("reproduce", result["run"], "--same-env", "--keep")
    assert found["verdict"] == "IDENTICAL" and found["mismatches"] == []
    kept = Path(found["kept"])
    again = read_json(kept / "models" / "tuning.json")
    assert (
        again["trials_done"] == left["trials_done"] and again["candidates"]["svm"]["search"]["stopped_by"] == "trials"
    )
    before, after = (read_json(folder / "run.json")["parameters"]["models"] for folder in (run_dir, kept))
    assert after == before | {"tune_replay": left["trials_done"]} and before["tune_replay"] == {}
    apart = repository.call("diff", result["run"], kept.name)["parameters"]["differences"]
    assert apart == []

    for damage in (None, "{}", '{"trials_done": {"svm": 0}}'):
        copy = repository.copy(run_dir, f"d{len(damage or ''):03d}")
        (copy / "models" / "tuning.json").unlink() if damage is None else (copy / "models" / "tuning.json").write_text(
            damage
        )
        assert "tuning.json" in repository.refuse(copy.name, "--same-env")
        shutil.rmtree(copy)
    shutil.rmtree(kept)


@pytest.mark.slow
def test_an_imported_model_goes_wherever_its_run_goes(repository: Repository, tmp_path: Path) -> None:
    legacy = ROOT / "tests" / "data" / "legacy"
    hashes = dict(reversed(line.split()) for line in (legacy / "SHA256SUMS").read_text().splitlines())
    models = repository.home / "data" / "models"
    try:
        for file, name in (("pipeline-1.2.2.pkl", "old_svm"), ("logistic-1.2.2.joblib", "other")):
            words = ("--name", name, "--trust", hashes[file], "--table", "iris", "--target", "species")
            repository.call("import-model", legacy / file, *words)
        assert (models / "old_svm.parquet").is_file(), "what it answered is kept beside it"
        result = repository.call("run", *FAST, "-p", "imported=[old_svm]")
        run_dir = Path(result["run_dir"])
        patch = (run_dir / "source.patch").read_bytes()
        assert b"data/models/old_svm.json" in patch and b".parquet" not in patch
        one = repository.call("stage", "models", "--from", result["run"], "-p", "imported=[other]")
        assert one["status"] == "partial"

        bundle = tmp_path / "study.zip"
        exported = repository.call("export", result["run"], bundle)
        names = ZipFile(bundle).namelist()
        assert [name for name in names if "data/models" in name] == ["source/data/models/old_svm.json"]
    finally:
        shutil.rmtree(models)
    repository.assert_clean()
    for words in ((result["run"],), (bundle, "--trust", exported["sha256"])):
        found = repository.call("reproduce", *words, "--same-env")
        assert found["verdict"] == "IDENTICAL", found["reason"]


@pytest.mark.slow
def test_outside_git(repository: Repository, tmp_path: Path) -> None:
    other = Repository(tmp_path)
    shutil.rmtree(other.home / ".git")
    result = other.call("run", *FAST)
    assert read_json(Path(result["run_dir"]) / "run.json")["git"] is None
    found = other.call("reproduce", "latest", "--same-env")
    assert found["verdict"] == "IDENTICAL" and found["code"]["from"] == "working tree"
