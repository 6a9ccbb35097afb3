"""Helpers: the same results wherever they are computed, errors that come back, and no process that stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from iris_nb.errors import SettingsError, StageError
from iris_nb.workers import Crew, close_workers, core_count, map_folds

WHERE = pytest.mark.parametrize("where", ["here", "processes"])


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two helpers, on any machine."""
    monkeypatch.setenv("IRIS_NB_THREADS", "3")


def total(shared: np.ndarray, place: int) -> float:
    return float(shared[place:].sum())


def alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@WHERE
def test_results_are_in_order(where: Any) -> None:
    data = np.arange(200_000.0)
    assert map_folds(total, data, range(40), where) == [total(data, place) for place in range(40)]


@WHERE
def test_earliest_error_is_raised_with_its_message(where: Any) -> None:
    def fail(shared: None, item: int) -> int:
        time.sleep(0.02 if item == 2 else 0)
        if item >= 2:
            raise KeyError(f"item {item}")
        return item

    with pytest.raises(KeyError, match="item 2"):
        map_folds(fail, None, range(9), where)
    assert map_folds(total, np.ones(3), [0, 1], where) == [3.0, 2.0]  # what comes after an error works


def test_an_error_that_cannot_be_sent_is_told_in_words() -> None:
    class StubbornError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def fail(shared: int, item: int) -> None:
        if os.getpid() != shared:
            raise StubbornError(item, 2)
        time.sleep(0.3)

    with pytest.raises(StageError, match=r"StubbornError: \d and 2"):
        map_folds(fail, os.getpid(), range(8), "processes")


def test_a_helper_that_dies_is_reported() -> None:
    def die(shared: int, item: int) -> None:
        if os.getpid() != shared:
            os._exit(9)
        time.sleep(0.5)

    with pytest.raises(StageError, match="memory was used up"):
        map_folds(die, os.getpid(), range(8), "processes")


def test_helpers_keep_to_one_thread() -> None:
    def threads(shared: int, item: int) -> tuple[bool, str, int]:
        from threadpoolctl import threadpool_info

        time.sleep(0.1)
        most = max((pool["num_threads"] for pool in threadpool_info()), default=1)
        return os.getpid() == shared, os.environ.get("OMP_NUM_THREADS", ""), most

    seen = map_folds(threads, os.getpid(), range(30), "processes")
    helpers = [(variable, most) for own, variable, most in seen if not own]
    assert helpers and set(helpers) == {("1", 1)}


def test_data_is_sent_once_to_each_helper() -> None:
    class Counted:
        packed = 0

        def __reduce__(self) -> Any:
            Counted.packed += 1
            return (int, (7,))

    def look(shared: Any, item: int) -> int:
        time.sleep(0.02)
        return item

    with Crew(look, Counted(), 30, "processes") as crew:
        for _ in range(3):
            crew.map(range(10))
    assert Counted.packed <= 2


@WHERE
def test_skipping_and_progress(where: Any) -> None:
    seen: dict[int, int] = {}
    with Crew(lambda shared, item: item * 2, None, 0, where) as crew:
        found = crew.map(range(10), skip=lambda place: place % 2 == 1, done=seen.__setitem__)
    assert found == [0, None, 4, None, 8, None, 12, None, 16, None]
    assert seen == {0: 0, 2: 4, 4: 8, 6: 12, 8: 16}


def test_one_thread_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    close_workers()
    monkeypatch.setenv("IRIS_NB_THREADS", "1")
    assert set(map_folds(lambda shared, item: os.getpid(), None, range(5), "processes")) == {os.getpid()}


@pytest.mark.parametrize("wrong", ["0", "two", "-1", "1.5"])
def test_nonsense_for_the_number_of_threads(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("IRIS_NB_THREADS", wrong)
    with pytest.raises(SettingsError, match="whole number from 1"):
        core_count()


SCRIPT = """
import os, signal, sys, time
from iris_nb.workers import map_folds

def slow(shared, item):
    own, note = shared
    if os.getpid() != own:
        print(os.getpid(), file=open(note, "a"), flush=True)
    time.sleep(0.2 if os.getpid() == own else 30)

signal.signal(signal.SIGINT, signal.default_int_handler)  # one that was started in the background ignores it
map_folds(slow, (os.getpid(), sys.argv[1]), range(99), "processes")
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_helpers_end_with_their_parent(tmp_path: Path, number: int) -> None:
    """The script has no `if __name__ == "__main__"`: nothing may run it again."""
    (tmp_path / "script.py").write_text(SCRIPT)
    note = tmp_path / "pids"
    command = [sys.executable, str(tmp_path / "script.py"), str(note)]
    environment = os.environ | {"IRIS_NB_THREADS": "2", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 20
    while not (note.exists() and note.read_text().strip()):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    helpers = [int(line) for line in note.read_text().split()]
    assert all(alive(pid) for pid in helpers)
    process.send_signal(number)
    process.wait(10)
    until = time.monotonic() + 5
    while any(alive(pid) for pid in helpers):
        assert time.monotonic() < until, "a helper outlived its parent"
        time.sleep(0.05)
