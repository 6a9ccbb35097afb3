"""What both yardsticks share with `iris-nb run`: a manifest, the mirror in MLflow with a registered model, the report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def finish(run_dir: Path, values: dict[str, Any], uri: str) -> None:
    """Write the manifest, register the model, move the alias, render the report, copy the files."""
    from iris_nb.document import render_report
    from iris_nb.folders import STAGES
    from iris_nb.runs import FORMAT, write_manifest
    from iris_nb.tracking import close_mirror, connect, move_staging, open_mirror

    record: dict[str, Any] = {
        "format": FORMAT,
        "id": run_dir.name,
        "table": "iris",
        "status": "running",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "parameters": values,
        "stages": [{"name": name, "status": "done", "seconds": 0.0, "files": {}, "error": None} for name in STAGES],
        "error": None,
        "mlflow": {},
        "model": {"name": "iris", "version": None, "uri": None, "alias": None, "note": ""},
    }
    store = connect(uri, 20)
    record |= open_mirror(store, run_dir, record)
    record |= {"model": move_staging(store, record), "status": "done"}
    write_manifest(run_dir, record)
    render_report(run_dir)
    close_mirror(store, run_dir, record)
