"""The search for settings: the same trials whatever happens, honest records, one sentence for what cannot be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from iris_nb.candidates import CANDIDATES, Candidate, OneOf, Whole, candidate_named
from iris_nb.comparison import Question
from iris_nb.errors import ParameterError, StageError
from iris_nb.tuning import Budget, plot_history, plot_importance, plot_parallel, tune

BUNCH = load_iris(as_frame=True)
X, Y = BUNCH.data.iloc[::2], pd.Series(BUNCH.target_names[BUNCH.target].astype(object)).iloc[::2]
SCALED = StandardScaler().set_output(transform="pandas")
TUNABLE = [candidate for candidate in CANDIDATES if candidate.search_space()]


def ask(metric: str = "log_loss", seed: int = 0) -> Question:
    return Question(tuple(sorted(set(Y))), "", metric, 0, 1, seed, "none", 0)


class Quick(Candidate):
    """Neighbours, quickly fitted."""

    name, title, complexity = "quick", "Quick", 5

    def build(self, seed: int) -> Any:
        return KNeighborsClassifier(5)

    def describe(self) -> str:
        return "Asks its neighbours."

    def search_space(self) -> Any:
        return {"n_neighbors": Whole(1, 30), "weights": OneOf(("uniform", "distance")), "p": Whole(1, 4)}


def search(
    trials: int = 10, candidate: Candidate | None = None, metric: str = "log_loss", **more: Any
) -> dict[str, Any]:
    seed = more.pop("seed", 0)
    budget = Budget(trials, more.pop("seconds", 0), more.pop("replay", {}))
    return tune(candidate or Quick(), SCALED, X, Y, None, ask(metric, seed), budget, **more)


@pytest.fixture(scope="module")
def ten() -> dict[str, Any]:
    return search(10)


def test_same_seed_same_trials_on_any_number_of_cores(ten: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRIS_NB_THREADS", "3")
    monkeypatch.setattr("iris_nb.workers._LONG_ENOUGH", 0.0)
    monkeypatch.setattr("iris_nb.workers._START", 0.0)
    assert search(10) == ten
    assert [line["settings"] for line in search(10, seed=1)["trials"]] != [line["settings"] for line in ten["trials"]]


@pytest.mark.parametrize("first", [4, 6, 8])
def test_a_search_that_goes_on_is_one_that_never_stopped(ten: dict[str, Any], tmp_path: Path, first: int) -> None:
    journal = tmp_path / "a.journal"
    search(first, journal=journal)
    assert search(10, journal=journal) == ten
    assert search(10, journal=journal) == ten  # now all of it from the journal


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
import test_tuning

class Quick(test_tuning.Quick):
    fits = 0
    def build(self, seed):
        Quick.fits += 1
        if Quick.fits == 40:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().build(seed)

test_tuning.search(10, Quick(), journal=Path(sys.argv[3]))
"""


def test_a_killed_search_goes_on_from_its_journal(ten: dict[str, Any], tmp_path: Path) -> None:
    journal = tmp_path / "killed.journal"
    command = [sys.executable, "-c", KILLED, str(ROOT), str(ROOT / "tests"), str(journal)]
    done = subprocess.run(
        command, env=os.environ | {"IRIS_NB_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert journal.stat().st_size > 0
    assert search(10, journal=journal) == ten


def test_the_journal_of_another_search_is_not_used(ten: dict[str, Any], tmp_path: Path) -> None:
    journal = tmp_path / "a.journal"
    search(8, journal=journal, seed=1)
    assert search(10, journal=journal) == ten
    journal.write_text("not a journal\n")
    assert search(10, journal=journal) == ten


def test_longer_search_begins_like_the_shorter(ten: dict[str, Any]) -> None:
    assert search(6)["trials"] == ten["trials"][:6]


def test_time_stops_and_replay_does_not_look_at_the_clock(ten: dict[str, Any]) -> None:
    stopped = search(10, seconds=1e-9)
    assert stopped["stopped_by"] == "time" and stopped["trials_done"] == 4
    again = search(10, seconds=1e-9, replay={"quick": 4})
    assert again["trials"] == stopped["trials"] == ten["trials"][:4]
    assert again["stopped_by"] == "trials"


def test_facts_are_json_and_true(ten: dict[str, Any]) -> None:
    assert json.loads(json.dumps(ten, allow_nan=False)) == ten
    complete = [line for line in ten["trials"] if line["state"] == "complete"]
    assert ten["best"]["score"] == min(line["score"] for line in complete)
    assert all(np.isclose(line["score"], np.mean(line["scores"])) for line in complete)
    assert all(len(line["scores"]) < ten["folds"] for line in ten["trials"] if line["state"] == "pruned")
    assert sum(ten["states"].values()) == ten["trials_done"] == 10


def test_of_equal_trials_the_default_wins() -> None:
    class Same(Quick):
        def search_space(self) -> Any:
            return {"leaf_size": Whole(10, 50)}

    assert search(6, Same())["best"] == {"number": 0, "settings": {}, "score": search(6, Same())["default_score"]}


def test_greater_is_better_too() -> None:
    found = search(8, metric="accuracy")
    assert found["best"]["score"] == max(line["score"] for line in found["trials"] if line["state"] == "complete")


@pytest.mark.parametrize("candidate", TUNABLE, ids=lambda candidate: candidate.name)
def test_every_space_can_be_searched(candidate: Candidate) -> None:
    found = search(2, candidate)
    assert found["states"]["failed"] == 0, [line["note"] for line in found["trials"]]
    assert found["trials"][0]["settings"] == {} and found["trials"][1]["settings"]
    for draw in (plot_history, plot_importance, plot_parallel):
        draw(found)


def test_failed_trials_are_recorded_and_all_failed_is_a_sentence() -> None:
    class Odd(Quick):
        most = 15

        def prepare(self, model: Any, y: Any, weights: Any) -> dict[str, Any]:
            if model.n_neighbors > self.most:
                raise ValueError("too many neighbours")
            return {}

    found = search(8, Odd())
    failed = [line for line in found["trials"] if line["state"] == "failed"]
    assert failed and all(line["note"] == "ValueError: too many neighbours" for line in failed)
    Odd.most = 0
    with pytest.raises(StageError, match="no trial of quick could be fitted"):
        search(4, Odd())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"trials": 1}, "trials is 1"),
        ({"trials": 9, "seconds": -1}, "tune_seconds"),
        ({"trials": 9, "seconds": float("nan")}, "tune_seconds"),
        ({"trials": 9, "replay": {"svm": 0}}, "'svm'"),
    ],
)
def test_budgets_of_nothing(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says) as caught:
        Budget(**wrong)
    assert "\n" not in str(caught.value)


def test_nothing_to_tune() -> None:
    with pytest.raises(ParameterError, match="no settings to tune"):
        search(4, candidate_named("majority"))
