"""Measure `iris-nb predict` against reading and writing alone and against MLflow's pyfunc; add the ratios to results.json.

    python tests/benchmarks/predict.py [--rows 10000000] [--rounds 3] [--jobs 1 2] [--only forest]

Generated Iris rows, Parquet to Parquet; label and probabilities alone are written, by every case the same columns. The
yardstick reads the four measurements and writes the answers to the first rows again and again. Each case is a process of
its own, so that its peak memory is its own; imports and the loading of the model are not counted. Fewer rows than ten
million print and write nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
FULL = 10_000_000
BATCH = 65_536


def make_rows(path: Path, rows: int) -> None:
    """Flowers drawn from the hundred and fifty, each measurement moved a little, within the range that was seen."""
    import pyarrow as pa
    from pyarrow import parquet
    from sklearn.datasets import load_iris

    flowers, random = load_iris().data, np.random.default_rng(0)
    low, high = flowers.min(axis=0), flowers.max(axis=0)
    schema = pa.schema([(name, pa.float64()) for name in NAMES])
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 1_000_000):
            count = min(1_000_000, rows - start)
            some = flowers[random.integers(0, len(flowers), count)] + random.normal(0, 0.1, (count, 4))
            some = np.clip(some, low, high).round(2)
            writer.write_table(pa.table(list(some.T.copy()), schema=schema))


def make_model(folder: Path, kind: str) -> None:
    """A model folder as a study leaves it, and the same pipeline for MLflow."""
    import mlflow
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    from iris_nb.conformal import conformal_of
    from iris_nb.contract import infer_contract
    from iris_nb.domain import domain_of
    from iris_nb.evaluation import Answers
    from iris_nb.features import FeatureOptions, build_features
    from iris_nb.modelfile import save_model
    from iris_nb.onnxfile import export_onnx

    bunch = load_iris(as_frame=True)
    frame = bunch.data.set_axis(NAMES, axis=1)
    frame["species"] = bunch.target_names[bunch.target]
    contract = infer_contract(frame, "iris", "species")
    X, y = contract.conform(frame), contract.labels(frame["species"]).to_numpy(dtype=str)
    estimator = LogisticRegression(max_iter=1000) if kind == "logistic" else RandomForestClassifier(200, random_state=0)
    prepare = build_features(contract, FeatureOptions("none", "standard", 20, 0.0))
    pipeline = Pipeline([("features", prepare), ("model", estimator)]).fit(X, y)
    answers = Answers(y.astype(object), pipeline.predict_proba(X), contract.classes)
    extras = {
        "conformal": conformal_of(answers, 0.9, "lac", "marginal").to_dict(),
        "domain": domain_of(prepare.transform(X), contract.labels(frame["species"]), 1000, 0).to_dict(),
    }
    exported = export_onnx(pipeline, contract, X)
    extras["parity"] = exported.parity
    save_model(folder / kind, pipeline, {"classes": list(contract.classes)}, contract, extras, exported.data)
    mlflow.sklearn.save_model(
        pipeline, folder / f"{kind}-mlflow", pyfunc_predict_fn="predict_proba", pip_requirements=[],
        serialization_format="cloudpickle",
    )  # fmt: skip


def read_and_write(source: Path, target: Path, model: Path) -> float:
    """The yardstick: read the four columns, write a label and three probabilities a row."""
    import pyarrow as pa
    from pyarrow import parquet

    from iris_nb.predictor import Predictor

    predictor = Predictor.load(model)
    first = next(parquet.ParquetFile(source).iter_batches(BATCH))
    proba = predictor.answer({name: first.column(name).to_numpy() for name in NAMES})
    codes, names = pa.array(proba.argmax(axis=1).astype(np.int32)), pa.array(predictor.classes)
    answers = [pa.DictionaryArray.from_arrays(codes, names), *(pa.array(column.copy()) for column in proba.T)]
    block = pa.RecordBatch.from_arrays(answers, names=["label", *(f"p:{name}" for name in predictor.classes)])
    start = time.perf_counter()
    with parquet.ParquetWriter(target, block.schema, use_dictionary=["label"]) as writer:  # as ours, which is faster
        for batch in parquet.ParquetFile(source).iter_batches(BATCH):
            writer.write_batch(block.slice(0, batch.num_rows))
    return time.perf_counter() - start


def ours(source: Path, target: Path, model: Path, name: str, jobs: int) -> float:
    """`iris-nb predict` without the command line."""
    from iris_nb.batch import BatchOptions, predict_file
    from iris_nb.predictor import Predictor

    predictor = Predictor.load(model, compiled=model.parent / "compiled" if name == "compiled" else None)
    start = time.perf_counter()
    predict_file(predictor, source, target, BatchOptions(sure="domain" in name, keep=False, jobs=jobs))
    return time.perf_counter() - start


def pyfunc(source: Path, target: Path, model: Path) -> float:
    """MLflow's pyfunc, chunked through pandas."""
    import mlflow
    import pandas as pd
    import pyarrow as pa
    from pyarrow import parquet

    loaded = mlflow.pyfunc.load_model(str(model))
    classes = np.array(["setosa", "versicolor", "virginica"])
    start = time.perf_counter()
    writer = None
    for batch in parquet.ParquetFile(source).iter_batches(BATCH):
        frame = batch.to_pandas()
        proba = np.asarray(loaded.predict(frame))
        answers = pd.DataFrame({"label": classes[proba.argmax(axis=1)]})
        for place, name in enumerate(classes):
            answers[f"p:{name}"] = proba[:, place]
        table = pa.Table.from_pandas(answers, preserve_index=False)
        writer = writer or parquet.ParquetWriter(target, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()
    return time.perf_counter() - start


def peak_mb() -> int:
    """The most memory that this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def case(name: str, kind: str, folder: Path, jobs: int) -> dict[str, Any]:
    """One case in this process."""
    source, target = folder / "rows.parquet", folder / "out.parquet"
    if name == "read and write":
        seconds = read_and_write(source, target, folder / kind)
    elif name == "pyfunc":
        seconds = pyfunc(source, target, folder / f"{kind}-mlflow")
    else:
        seconds = ours(source, target, folder / kind, name, jobs)
    return {"seconds": seconds, "peak_mb": peak_mb()}


def child(words: list[str], folder: Path) -> dict[str, Any]:
    """One case in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--folder", str(folder), "--case", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{words} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(kind: str, folder: Path, rounds: int, jobs: list[int]) -> dict[str, Any]:
    """All cases of a model, taken in turns."""
    cases = {"read and write": ["read and write", kind, "1"], "pyfunc": ["pyfunc", kind, "1"]}
    for count in jobs:
        cases[f"predict, jobs {count}"] = ["predict", kind, str(count)]
        if kind == "forest":
            cases[f"compiled, jobs {count}"] = ["compiled", kind, str(count)]
    cases["predict with sets and domain"] = ["with sets and domain", kind, "1"]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, words in cases.items():
            runs[name].append(child(words, folder))
            print(kind, name, runs[name][-1], file=sys.stderr, flush=True)
    seconds = {name: statistics.median(run["seconds"] for run in found) for name, found in runs.items()}
    best = min(seconds[f"predict, jobs {count}"] for count in jobs)
    compiled = [seconds[name] for name in seconds if name.startswith("compiled")]
    quickest = {"pyfunc / compiled": round(seconds["pyfunc"] / min(compiled), 2)} if compiled else {}
    return {
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "peak_mb": {name: max(run["peak_mb"] for run in found) for name, found in runs.items()},
        "predict / read and write": round(best / seconds["read and write"], 2),
        "pyfunc / predict": round(seconds["pyfunc"] / best, 2),
        "sets and domain add": round(
            seconds["predict with sets and domain"] / seconds[f"predict, jobs {jobs[0]}"] - 1, 2
        ),
    } | quickest


def main() -> None:
    """Measure and add to results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=FULL)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", default="", help="logistic or forest; prints, and writes nothing")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        name, kind, jobs = asked.case
        print(json.dumps(case(name, kind, asked.folder, int(jobs))))
        return
    found: dict[str, Any] = {"rows": asked.rows}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_rows(folder / "rows.parquet", asked.rows)
        for kind in ("logistic", "forest"):
            if asked.only in kind:
                make_model(folder, kind)
                found[kind] = measure(kind, folder, asked.rounds, asked.jobs)
    print(json.dumps(found, indent=2))
    if asked.rows == FULL and not asked.only:
        path = HERE / "results.json"
        results = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(results | {"predict": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
