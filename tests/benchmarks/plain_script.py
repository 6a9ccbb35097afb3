"""The yardstick: the same calls as the pipeline's Run sections, in one plain process, with the same files and the same mirror.

It has no kernel, no notebook output to store and no page to make of one; everything else is what `iris-nb run` does.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

gc.disable()  # the same lever as the runner's: no collection while importing

from common import finish  # noqa: E402

from iris_nb.kernel import pinned_environment  # noqa: E402

os.environ.update(pinned_environment(2) | {"MPLBACKEND": "agg"})

from iris_nb.folders import STAGES  # noqa: E402
from iris_nb.pipeline import Request, load_stages, plan_values  # noqa: E402
from iris_nb.seam import run_cells  # noqa: E402


def main(home: Path, run_dir: Path, uri: str) -> None:
    """Make one quick study of Iris in a folder."""
    run_dir.mkdir(parents=True)
    notebooks, declared = load_stages(home)
    values = plan_values(home, declared, Request(profile="quick")).values
    for name in STAGES:
        code = [cell["source"] for cell in run_cells(notebooks[name]) if cell["cell_type"] == "code"]
        names: dict[str, object] = {}
        exec(code[0], names)
        names |= values[name] | {"run_dir": str(run_dir), "display": lambda *shown: None}  # pages are not made here
        for source in code[1:]:
            exec(source, names)
        if name == "data":
            gc.freeze()
            gc.enable()
    finish(run_dir, values, uri)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
