"""Every notebook is a test: it is executed top to bottom as nbdev does it, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment, notebook_paths

PROGRAM = """
import sys
from pathlib import Path
from nbdev.test import test_nb
passed, seconds = test_nb(Path(sys.argv[1]), skip_flags=["notest"], basepath=sys.argv[2])
sys.exit(0 if passed else 1)
"""


def execute(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), str(ROOT)],
        cwd=ROOT / "nbs",
        env=clean_environment(MPLBACKEND="agg"),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def results() -> dict[str, Future[subprocess.CompletedProcess[str]]]:
    """All notebooks, two at a time."""
    pool = ThreadPoolExecutor(2)
    return {path.stem: pool.submit(execute, path) for path in notebook_paths()}


@pytest.mark.parametrize("stem", [path.stem for path in notebook_paths()])
def test_notebook_runs(stem: str, results: dict[str, Future[subprocess.CompletedProcess[str]]]) -> None:
    done = results[stem].result()
    assert done.returncode == 0, done.stderr[-6000:]
