"""Measure the answer to a single row, side by side in one go, and add the ratios to results.json.

    python tests/benchmarks/single.py [--rounds 20] [--calls 200] [--smoke]

Two quick studies of Iris are made, one that may only choose the logistic regression and one that may only choose the
forest. Their models are asked for the label and the probabilities of one flower by `Predictor.one` on a dictionary,
checks included. The yardsticks are the same kind of model after a scaler, which is less than ours prepares: by
`mlflow.pyfunc` (MLflow's own, for scikit-learn) on a DataFrame of one row, and by scikit-learn on such a DataFrame and
on an array. The rounds alternate, so a busy moment hits all alike. Microseconds depend on the machine; the claims are
the ratios.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import Project  # noqa: E402

CASES = ("logistic", "forest")
WAYS = ("Predictor.one", "mlflow.pyfunc", "scikit-learn, frame", "scikit-learn, array")


def microseconds(call: Callable[[], Any], calls: int) -> list[float]:
    """How long single calls take."""
    found = []
    for _ in range(calls):
        begun = time.perf_counter_ns()
        call()
        found.append((time.perf_counter_ns() - begun) / 1000)
    return found


def pyfunc_of(pipeline: Any, folder: Path) -> Any:
    """The pipeline as MLflow saves and loads it by itself."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it warns of its own format, which is what is measured
    mlflow.sklearn.save_model(
        pipeline,
        folder,
        serialization_format="cloudpickle",
        pyfunc_predict_fn="predict_proba",
        pip_requirements=["scikit-learn"],
    )
    return mlflow.pyfunc.load_model(str(folder))


def calls_of(run_dir: Path, home: Path) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    """The calls to be measured, and what is to be said about the model."""
    import pandas as pd
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from iris_nb.predictor import Predictor

    predictor = Predictor.load(run_dir)
    table = pd.read_parquet(run_dir / "data" / "table.parquet")
    names = predictor.contract.feature_names
    row, frame = table[names].iloc[70].to_dict(), table[names].iloc[[70]].reset_index(drop=True)
    model, labels = predictor._model.pipeline["model"], table[predictor.contract.target]
    values, one = table[names].to_numpy(), table[names].iloc[[70]].to_numpy()
    named = make_pipeline(StandardScaler(), clone(model)).fit(table[names], labels)
    unnamed = make_pipeline(StandardScaler(), clone(model)).fit(values, labels)
    pyfunc = pyfunc_of(named, home / f"pyfunc-{run_dir.name}")
    calls = (
        lambda: predictor.one(row),
        lambda: pyfunc.predict(frame),
        lambda: named.predict_proba(frame),
        lambda: unnamed.predict_proba(one),
    )
    assert named.classes_[pyfunc.predict(frame)[0].argmax()] == predictor.one(row).label
    return dict(zip(WAYS, calls, strict=True)), {"way": predictor.how, "why": predictor.why}


def measure(project: Project, case: str, rounds: int, calls: int) -> dict[str, Any]:
    """One model."""
    result = project.json("run", "--profile", "quick", "--untracked", "-p", f"candidates=[{case}]")
    asked, about = calls_of(Path(result["run_dir"]), project.home)
    times: dict[str, list[float]] = {way: [] for way in asked}
    for call in asked.values():
        microseconds(call, 20)
    gc.disable()
    for _ in range(rounds):
        for way, call in asked.items():
            times[way] += microseconds(call, calls if way == WAYS[0] else max(calls // 10, 3))
    gc.enable()
    middle = {way: statistics.median(values) for way, values in times.items()}
    ratios = {f"{way} / {WAYS[0]}": round(middle[way] / middle[WAYS[0]], 1) for way in WAYS[1:]}
    return about | {"microseconds": {way: round(value, 1) for way, value in middle.items()}, "ratios": ratios}


def main() -> None:
    """Measure and add to results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--smoke", action="store_true", help="one short round; prints, and writes nothing")
    asked = parser.parse_args()
    if asked.smoke:
        asked.rounds, asked.calls = 1, 20
    warnings.simplefilter("ignore")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder) / "study")
        for case in CASES:
            found[case] = measure(project, case, asked.rounds, asked.calls)
            print(case, json.dumps(found[case]), flush=True)
    if not asked.smoke:
        path = HERE / "results.json"
        results = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(results | {"single": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
