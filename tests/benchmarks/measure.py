"""Measure the pipeline against its yardsticks, side by side in one go, and write the ratios to results.json.

    python tests/benchmarks/measure.py [--rounds 5] [--million | --honest]

Seconds depend on the machine and are recorded for orientation; the claims are the ratios.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
COMMAND = Path(sys.executable).with_name("iris-nb")
sys.path.insert(0, str(ROOT / "tests"))

from conftest import Project, clean_environment  # noqa: E402


def seconds_of(command: list[str], cwd: Path) -> float:
    """Wall-clock seconds of a command that must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=clean_environment(), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stderr[-3000:]}")
    return seconds


def study(rounds: int) -> dict[str, Any]:
    """`iris-nb run` against the plain script and against stock papermill."""
    times: dict[str, list[float]] = {"iris-nb run": [], "plain script": [], "stock papermill": []}
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder) / "study")
        uri = f"sqlite:///{project.home / 'data' / 'mlflow' / 'mlflow.db'}"
        seconds_of([str(COMMAND), "run", "--profile", "quick"], project.home)  # makes the store, warms the disk
        whole = [str(COMMAND), "run", "--profile", "quick", "--fresh"]
        for number in range(rounds):
            plain = [
                sys.executable,
                str(HERE / "plain_script.py"),
                str(project.home),
                str(project.home / f"plain-{number}"),
                uri,
            ]
            stock = [
                sys.executable,
                str(HERE / "stock_papermill.py"),
                str(ROOT),
                str(project.home / f"stock-{number}"),
                uri,
            ]
            times["iris-nb run"].append(seconds_of(whole, project.home))
            times["plain script"].append(seconds_of(plain, project.home))
            if number < max(1, rounds // 2):
                times["stock papermill"].append(seconds_of(stock, project.home))
    return {name: round(statistics.median(values), 2) for name, values in times.items()}


def second_run(profile: str, rounds: int) -> dict[str, Any]:
    """A study that was never run here before, and the very same command once more."""
    times: dict[str, list[float]] = {"first": [], "second": []}
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder) / "study")
        seconds_of([str(COMMAND), "run", "--profile", "quick"], project.home)  # makes the store, warms the disk
        for number in range(rounds):
            command = [str(COMMAND), "run", "--profile", profile, "-p", f"seed={number + 1}"]
            for which in times:
                times[which].append(seconds_of(command, project.home))
    return {name: round(statistics.median(values), 2) for name, values in times.items()}


def help_page(rounds: int) -> dict[str, Any]:
    """`iris-nb --help` against importing typer."""
    times: dict[str, list[float]] = {"iris-nb --help": [], "import typer": []}
    for _ in range(rounds * 3):
        times["iris-nb --help"].append(seconds_of([str(COMMAND), "--help"], ROOT))
        times["import typer"].append(seconds_of([sys.executable, "-c", "import typer"], ROOT))
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


def honest(profile: str, rounds: int) -> dict[str, Any]:
    """A whole study against the pure loop of its fits, answers and scores (see pure_loop.py)."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder) / "study")
        seconds_of([str(COMMAND), "run", "--profile", "quick"], project.home)  # makes the store, warms the disk
        for _ in range(rounds):
            times.append(seconds_of([str(COMMAND), "run", "--profile", profile, "--fresh"], project.home))
        words = [str(HERE / "pure_loop.py"), str(project.home), str(project.home / "pure"), profile, str(rounds)]
        done = subprocess.run(
            [sys.executable, *words], cwd=HERE, env=clean_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"pure_loop.py failed:\n{done.stderr[-3000:]}")
    pure = json.loads(done.stdout.splitlines()[-1])
    seconds = statistics.median(times)
    return {
        "iris-nb run": round(seconds, 2),
        "pure loop": pure["seconds"],
        "fits": pure["fits"],
        "run / pure loop": round(seconds / pure["seconds"], 2),
    }


def tree_memory(pid: int) -> int:
    """Bytes of resident memory of a process and all that it started."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for thread in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def million_rows(path: Path, rows: int = 1_000_000, columns: int = 20) -> None:
    """A generated table: twenty numbers in four overlapping classes."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(1)
    classes = random.integers(0, 4, rows)
    centres = random.normal(0, 0.8, (4, columns))
    values = centres[classes] + random.normal(0, 1, (rows, columns))
    frame = pd.DataFrame(values.round(4), columns=[f"x{n}" for n in range(columns)])
    frame["label"] = np.array(["north", "east", "south", "west"])[classes]
    frame.to_csv(path, index=False)


def large() -> dict[str, Any]:
    """Seconds and peak memory of a quick run on a million rows, all processes together."""
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder) / "study")
        path = Path(folder) / "million.csv"
        million_rows(path)
        start, peak = time.perf_counter(), 0
        process = project.start("run", path, "--profile", "quick", "--json")
        box: list[tuple[str, str]] = []
        reader = threading.Thread(target=lambda: box.append(process.communicate()))
        reader.start()
        while reader.is_alive():
            peak = max(peak, tree_memory(process.pid))
            time.sleep(0.1)
        if process.returncode:
            raise SystemExit(box[0][1])
        seconds = time.perf_counter() - start
        stages = {stage["name"]: stage["seconds"] for stage in json.loads(box[0][0])["stages"]}
        return {
            "rows": 1_000_000,
            "columns": 20,
            "seconds": round(seconds, 1),
            "peak_gib": round(peak / 2**30, 2),
            "stages": stages,
        }


def main() -> None:
    """Measure and write results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--honest", action="store_true", help="only a study against the pure loop of its fits")
    parser.add_argument("--million", action="store_true", help="also the table of a million rows (minutes)")
    asked = parser.parse_args()
    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    compileall.compile_dir(
        str(ROOT / "iris_nb"), quiet=1
    )  # as the first import does, unless told not to write bytecode
    pure = {"quick": honest("quick", asked.rounds), "standard": honest("standard", 1)}
    if asked.honest:
        path.write_text(json.dumps(results | {"honest": pure}, indent=2) + "\n")
        print(json.dumps(pure, indent=2))
        return
    run, page = study(asked.rounds), help_page(asked.rounds)
    again = {"quick": second_run("quick", asked.rounds), "thorough": second_run("thorough", max(1, asked.rounds // 2))}
    results |= {
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "system": platform.system()},
        "study": run,
        "help": page,
        "again": again,
        "honest": pure,
        "ratios": {
            "run / plain script": round(run["iris-nb run"] / run["plain script"], 2),
            "run / stock papermill": round(run["iris-nb run"] / run["stock papermill"], 2),
            "help / import typer": round(page["iris-nb --help"] / page["import typer"], 2),
            "second run / first, quick": round(again["quick"]["second"] / again["quick"]["first"], 2),
            "second run / first, thorough": round(again["thorough"]["second"] / again["thorough"]["first"], 2),
        },
    }
    if asked.million:
        results["large"] = large()
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
