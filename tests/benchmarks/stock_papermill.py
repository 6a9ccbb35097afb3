"""The other yardstick: stock papermill over the six whole notebooks, one after the other, each with a kernel of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import papermill


def main(home: Path, run_dir: Path) -> None:
    """Execute lessons and runs of every stage into one run folder."""
    run_dir.mkdir(parents=True)
    for path in sorted((home / "nbs").glob("[1-6]0_*.ipynb")):
        stage = path.stem.partition("_")[2]
        (run_dir / stage).mkdir()
        output = run_dir / stage / f"{stage}.ipynb"
        papermill.execute_notebook(
            str(path), str(output), parameters={"run_dir": str(run_dir)}, progress_bar=False, cwd=str(home / "nbs")
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
