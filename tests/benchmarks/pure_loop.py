"""The yardstick of a study's statistics: its fits, answers and scores, one after the other, with nothing around them.

    python tests/benchmarks/pure_loop.py HOME RUN_DIR PROFILE ROUNDS

The stages from data to training are executed once in this process, on one thread; every call of `fit_model`,
`probabilities` and `score_all` is noted with its arguments. Then the calls are made again, and only that is timed.
Features are prepared already, as in a loop that somebody would write by hand.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from iris_nb.kernel import pinned_environment

os.environ.update(pinned_environment(1) | {"MPLBACKEND": "agg"})

from iris_nb.candidates import fit_model, probabilities
from iris_nb.metrics import score_all
from iris_nb.pipeline import Request, load_stages, plan_values
from iris_nb.seam import run_cells

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


@contextmanager
def noted(functions: tuple[Callable[..., Any], ...]) -> Iterator[list[Call]]:
    """Note the outermost calls of some functions, wherever in the library they are used."""
    calls: list[Call] = []
    inside = [0]

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def note(*values: Any, **named: Any) -> Any:
            if not inside[0]:
                calls.append((function, values, named))
            inside[0] += 1
            try:
                return function(*values, **named)
            finally:
                inside[0] -= 1

        return note

    with ExitStack() as stack:
        for function in functions:
            note = noting(function)
            for module in [m for name, m in sys.modules.items() if name.startswith("iris_nb.")]:
                if getattr(module, function.__name__, None) is function:
                    stack.enter_context(patch.object(module, function.__name__, note))
        yield calls


def execute(home: Path, run_dir: Path, profile: str) -> None:
    """The Run sections from data to training."""
    notebooks, declared = load_stages(home)
    values = plan_values(home, declared, Request(profile=profile)).values
    for stage in ("data", "features", "models", "training"):
        code = [cell["source"] for cell in run_cells(notebooks[stage]) if cell["cell_type"] == "code"]
        names: dict[str, object] = {"display": lambda *shown: None}
        exec(code[0], names)
        names |= values[stage] | {"run_dir": str(run_dir)}
        for source in code[1:]:
            exec(source, names)


def again(calls: list[Call]) -> float:
    """Seconds of making the calls again."""
    begun = time.perf_counter()
    for function, values, named in calls:
        with suppress(Exception):  # a trial may fail; it did so in the study, too
            function(*values, **named)
    return time.perf_counter() - begun


def main(home: Path, run_dir: Path, profile: str, rounds: int) -> None:
    """Note the calls of a study, time them, print what was found."""
    import iris_nb.models
    import iris_nb.training  # noqa: F401  # so that their names can be replaced

    run_dir.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with noted((fit_model, probabilities, score_all)) as calls:
            execute(home, run_dir, profile)
        seconds = statistics.median(again(calls) for _ in range(rounds))
    fits = sum(function is fit_model for function, _, _ in calls)
    print(json.dumps({"seconds": round(seconds, 2), "fits": fits, "scores": len(calls) - fits}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
