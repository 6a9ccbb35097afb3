"""Measure cross-validation in a search: a pure loop, ours in one process, ours on two; write the ratios to results.json.

    python tests/benchmarks/tuning.py [--rounds 3] [--trials 24]

All three make the same fits: the settings of a search are found first, and the pure loop fits and scores them on the
same prepared folds, with nothing around it. Pruning is off, so that all do the same amount of work. The rounds
alternate, so a busy moment hits all alike. Seconds depend on the machine; the claims are the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.datasets import load_breast_cancer, load_digits, load_iris  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from iris_nb import tuning  # noqa: E402
from iris_nb.candidates import candidate_named, fit_model, one_thread, probabilities  # noqa: E402
from iris_nb.comparison import Question, deal_folds  # noqa: E402
from iris_nb.metrics import score_all  # noqa: E402
from iris_nb.workers import close_workers  # noqa: E402

CASES = {  # the model, the table, the most trials, so that no case takes a minute
    "svm, iris": ("svm", load_iris, 24),
    "svm, breast_cancer": ("svm", load_breast_cancer, 24),
    "svm, digits": ("svm", load_digits, 8),
    "forest, breast_cancer": ("forest", load_breast_cancer, 8),
}


def table(load: Any) -> tuple[pd.DataFrame, pd.Series, Question]:
    """Features, labels as text, and the terms."""
    bunch = load(as_frame=True)
    labels = pd.Series(np.asarray(bunch.target_names).astype(str)[bunch.target].astype(object))
    return bunch.data, labels, Question(tuple(sorted(set(labels))), "", "log_loss", 5, 1, 0, "none", 0)


def pure_loop(name: str, folds: list[Any], asked: Question, trials: list[dict[str, Any]]) -> float:
    """Seconds of fitting and scoring alone."""
    candidate = candidate_named(name)
    begun = time.perf_counter()
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore")
        for trial in trials:
            for Z, labels, tested, actual in folds:
                model = fit_model(candidate.with_settings(trial["settings"]), Z, labels, asked.seed, "none")
                score_all(actual, probabilities(model, tested, asked.classes), asked.classes, "")
    return time.perf_counter() - begun


def ours(name: str, shared: Any, trials: int, threads: int) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of a search, and its trials."""
    study = tuning._new_study()
    study.pruner = __import__("optuna").pruners.NopPruner()
    with patch.dict(os.environ, IRIS_NB_THREADS=str(threads)):
        begun = time.perf_counter()
        tuning._search(study, None, shared, 0, trials, 0.0)
        seconds = time.perf_counter() - begun
    return seconds, [tuning._trial(trial) for trial in study.get_trials()]


def measure(name: str, load: Any, rounds: int, trials: int) -> dict[str, Any]:
    """One model on one table."""
    X, y, asked = table(load)
    dealt = deal_folds(y, None, 5, 1, 0)[0]
    scaled = StandardScaler().set_output(transform="pandas")
    candidate = candidate_named(name)
    folds = tuning._inner_folds(candidate, scaled, X, y, dealt, None, 0)
    shared = tuning._Shared(candidate, folds, asked)
    settings = ours(name, shared, trials, 1)[1]
    cold, again = ours(name, shared, trials, 2)
    assert [line["scores"] for line in settings] == [line["scores"] for line in again], "cores changed a number"
    times: dict[str, list[float]] = {"pure loop": [], "one process": [], "two processes": []}
    for _ in range(rounds):
        times["pure loop"].append(pure_loop(name, folds, asked, settings))
        times["one process"].append(ours(name, shared, trials, 1)[0])
        times["two processes"].append(ours(name, shared, trials, 2)[0])
    close_workers()
    middle = {which: statistics.median(values) for which, values in times.items()}
    return {
        "milliseconds of a fit": round(1000 * middle["pure loop"] / (5 * trials), 1),
        "trials per second": {which: round(trials / seconds, 2) for which, seconds in middle.items()},
        "overhead over the pure loop": round(middle["one process"] / middle["pure loop"] - 1, 3),
        "two processes / one": round(middle["one process"] / middle["two processes"], 2),
        "two processes / one, with their start": round(middle["one process"] / cold, 2),
    }


def main() -> None:
    """Measure and add to results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--only", default="", help="cases whose name holds this text; prints, and writes nothing")
    asked = parser.parse_args()
    found = {}
    for case, (name, load, most) in CASES.items():
        if asked.only in case:
            found[case] = measure(name, load, asked.rounds, min(asked.trials, most))
            print(case, json.dumps(found[case]), flush=True)
    if not asked.only:
        path = HERE / "results.json"
        results = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(results | {"tuning": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
