"""What the tests share: the project, its notebooks, and projects of their own to run studies in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# How long an example may take is a matter of the machine and of what else it does; the suite has its own limit.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

ROOT = Path(__file__).resolve().parent.parent
COMMAND = Path(sys.executable).with_name("iris-nb")
# A whole study of two candidates, for tests that need a run and not what it finds: half the time of a quick one.
SMALL = ("--profile", "quick", "-p", "candidates=[lda, logistic]")


def notebook_paths() -> list[Path]:
    """Every notebook of the project."""
    return sorted((ROOT / "nbs").glob("*.ipynb"))


def read(path: Path) -> dict[str, Any]:
    """A notebook as plain data, each source one text."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook


def clean_environment(**changes: str) -> dict[str, str]:
    """This process's environment without settings that a developer may have."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("IRIS_NB_", "MLFLOW_"))}
    return kept | changes


class Project:
    """A project folder of its own: the real notebooks and library, an empty store and no runs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        for name in ("nbs", "iris_nb", "settings.ini", "requirements.lock"):
            (home / name).symlink_to(ROOT / name)
        (home / "data").mkdir()
        for name in ("raw", "contracts"):
            shutil.copytree(ROOT / "data" / name, home / "data" / name)

    @property
    def reports(self) -> Path:
        """Where its runs are."""
        return self.home / "reports"

    def runs(self) -> list[Path]:
        """The folders in reports, hidden ones too."""
        return sorted(self.reports.iterdir()) if self.reports.exists() else []

    def start(self, *words: str | Path, **environment: str) -> subprocess.Popen[str]:
        """Start the command in this project."""
        return subprocess.Popen(
            [str(COMMAND), *map(str, words)],
            cwd=self.home,
            env=clean_environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str | Path, timeout: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command in this project and wait for it."""
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def json(self, *words: str | Path, code: int = 0, **environment: str) -> dict[str, Any]:
        """Run the command with --json; its standard output must be one object."""
        done = self.call(*words, "--json", **environment)
        assert done.returncode == code, done.stderr[-3000:] + done.stdout[-3000:]
        result: dict[str, Any] = json.loads(done.stdout)
        return result


@pytest.fixture(autouse=True)
def no_store_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow puts the address of the store that it last used into the environment, where settings would find it."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh project."""
    return Project(tmp_path / "study")


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Project]:
    """Fresh projects that live as long as the session."""
    return lambda name: Project(tmp_path_factory.mktemp(name) / "study")


@pytest.fixture(scope="session")
def studied(make_project: Callable[[str], Project]) -> tuple[Project, dict[str, Any]]:
    """A project with one quick run of Iris, all executed. Tests only look at it."""
    project = make_project("iris")
    return project, project.json("run", "--profile", "quick", "--name", "first")


@pytest.fixture(scope="session")
def warm_cache(studied: tuple[Project, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the stages of that run, as it left them."""
    return shutil.copytree(studied[0].home / "data" / "cache", tmp_path_factory.mktemp("warm") / "cache")


@pytest.fixture(scope="session")
def studied_twice(
    studied: tuple[Project, dict[str, Any]], warm_cache: Path
) -> tuple[Project, dict[str, Any], dict[str, Any]]:
    """The same project after the same command once more, which takes its stages from the cache."""
    return *studied, studied[0].json("run", "--profile", "quick")


@pytest.fixture(scope="session")
def studied_afresh(studied_twice: tuple[Project, dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    """The same study in the same project a third time, all executed again, on one thread."""
    return studied_twice[0].json("run", "--profile", "quick", "--fresh", "--untracked", IRIS_NB_THREADS="1")


@pytest.fixture
def warm_project(project: Project, warm_cache: Path) -> Project:
    """A fresh project, but for the cache: a quick run of Iris executes its report and takes the other stages.

    For tests that need a finished run, whatever it did. What a run does, and how it fails, is for `project`.
    """
    shutil.copytree(warm_cache, project.home / "data" / "cache")
    return project


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real browser, one for all tests: Playwright's loop can run only once in a process."""
    if not Path(CHROMIUM).exists():
        pytest.skip("no Chromium on this machine; the pages were not opened in a browser (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        opened = player.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()
