"""Settings: which source wins, what is said of it, and what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from iris_nb.settings import load_settings, setting_sources

OURS, MLFLOW = "IRIS_NB_TRACKING_URI", "MLFLOW_TRACKING_URI"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, and no variable of a developer."""
    (tmp_path / "nbs").mkdir()
    (tmp_path / "settings.ini").write_text("lib_name = iris_nb\n")
    for name in (OURS, MLFLOW, "IRIS_NB_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("environment", "dotenv", "value", "source"),
    [
        ({}, {}, "", "default"),
        ({MLFLOW: "http://e"}, {OURS: "http://d"}, "http://d", f".env ({OURS})"),
        ({OURS: "", MLFLOW: "http://e"}, {}, "http://e", f"environment ({MLFLOW})"),
        ({OURS: ""}, {OURS: "http://d"}, "http://d", f".env ({OURS})"),
        ({OURS: "http://a", MLFLOW: "http://e"}, {OURS: "http://d"}, "http://a", f"environment ({OURS})"),
        ({}, {OURS: "", MLFLOW: "http://d"}, "http://d", f".env ({MLFLOW})"),
        ({MLFLOW: "http://e"}, {MLFLOW: "http://d"}, "http://e", f"environment ({MLFLOW})"),
        ({OURS: "", MLFLOW: ""}, {}, "", "default"),
    ],
)
def test_the_source_that_is_named_is_the_one_that_counts(
    environment: dict[str, str],
    dotenv: dict[str, str],
    value: str,
    source: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, given in environment.items():
        monkeypatch.setenv(name, given)
    (home / ".env").write_text("".join(f"{name}={given}\n" for name, given in dotenv.items()))
    settings = load_settings(home)
    row = next(row for row in setting_sources(settings) if row["name"] == "tracking_uri")
    assert (settings.tracking_uri, row["value"], row["source"]) == (value, value, source)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://ada:hunter2@db/mlflow",
        "postgresql+psycopg://ada:p@hunter2@db/mlflow",
        "postgresql://db/mlflow?user=ada&password=hunter2&sslmode=require",
        "https://ada:hunter2@tracking.example.org",
    ],
)
def test_no_password_is_shown(uri: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OURS, uri)
    settings = load_settings(home)
    assert settings.tracking_uri == uri and "hunter2" not in str(setting_sources(settings))
