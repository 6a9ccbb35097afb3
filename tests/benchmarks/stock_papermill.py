"""The other yardstick: stock papermill over the six whole notebooks, one after the other, each with a kernel of its own.

What papermill does not do, and a study needs, is done as in the plain script: the manifest, the mirror, the report.
"""

from __future__ import annotations

import sys
from pathlib import Path

import papermill
from common import finish


def main(home: Path, run_dir: Path, uri: str) -> None:
    """Execute lessons and runs of every stage into one run folder."""
    run_dir.mkdir(parents=True)
    for path in sorted((home / "nbs").glob("[1-6]0_*.ipynb")):
        stage = path.stem.partition("_")[2]
        (run_dir / stage).mkdir()
        papermill.execute_notebook(
            str(path),
            str(run_dir / stage / f"{stage}.ipynb"),
            parameters={"run_dir": str(run_dir)},
            progress_bar=False,
            cwd=str(home / "nbs"),
        )
    finish(run_dir, {}, uri)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
