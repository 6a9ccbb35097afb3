"""The cache of stage results, seen from the command line: what is taken, what is done again, why, and never anything wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SMALL, Project
from hypothesis import given
from hypothesis import strategies as st
from test_pipeline import under_way, wait_for

from iris_nb.cache import PARTS, StageKey, changes, imported_inputs
from iris_nb.files import read_json
from iris_nb.folders import STAGES
from iris_nb.sources import plain_source


def own_sources(project: Project) -> None:
    """Give a project notebooks and a library of its own, to be changed."""
    for name in ("nbs", "iris_nb"):
        (project.home / name).unlink()
        shutil.copytree(ROOT / name, project.home / name, ignore=shutil.ignore_patterns("__pycache__"))


def statuses(result: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["status"] for stage in result["stages"]}


def reasons(result: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["reason"] or "" for stage in result["stages"]}


SLOW = pytest.mark.slow
ALL_CACHED = dict.fromkeys(STAGES[:-1], "cached") | {"report": "done"}


def test_the_second_run_takes_every_stage(studied_twice: tuple[Project, dict[str, Any], dict[str, Any]]) -> None:
    _, first, second = studied_twice
    assert set(statuses(first).values()) == {"done"} and reasons(first)["models"] == ""
    assert statuses(second) == ALL_CACHED
    assert {stage["cached_from"] for stage in second["stages"]} == {first["run"]}
    assert second["metrics"] == first["metrics"] and second["gate"] == first["gate"]
    assert second["model"]["version"] == first["model"]["version"] == "1" and second["model"]["alias"] == "staging"
    one, two = (read_json(Path(result["run_dir"]) / "run.json") for result in (first, second))
    assert [stage["files"] for stage in one["stages"]] == [stage["files"] for stage in two["stages"]]
    page = (Path(second["run_dir"]) / "models.html").read_text()
    assert first["run"] in page and "cached" in page


def test_a_run_folder_shares_no_file_with_the_cache(
    studied_twice: tuple[Project, dict[str, Any], dict[str, Any]],
) -> None:
    _, first, second = studied_twice
    for result in (first, second):
        path = Path(result["run_dir"]) / "training" / "predictions.parquet"
        assert path.stat().st_nlink == 1


def test_explain_says_it_before(studied: tuple[Project, dict[str, Any]], warm_project: Project) -> None:
    project, first = warm_project, studied[1]
    before = project.runs()
    rows = project.json("explain", "--profile", "quick")["stages"]
    assert [row["status"] for row in rows] == ["cached"] * 6 and first["run"] in rows[0]["reason"]
    rows = {row["stage"]: row for row in project.json("explain", "--profile", "quick", "-p", "folds=3")["stages"]}
    assert rows["features"]["status"] == "cached"
    assert rows["models"]["reason"] == "because the parameter folds is 3, and was 0"
    assert rows["training"]["status"] == "maybe" and "models" in rows["training"]["reason"]
    assert [row["stage"] for row in project.json("explain", "models")["stages"]] == ["models"]
    assert project.call("explain", "modles").stderr.count("did you mean 'models'") == 1
    assert project.runs() == before


def test_a_parameter_does_again_what_follows_it(warm_project: Project) -> None:
    result = warm_project.json("run", "--profile", "quick", "-p", "bins=7", "--untracked")
    assert statuses(result) == ALL_CACHED | {"training": "done", "inference": "done"}
    assert reasons(result)["training"] == "re-run because the parameter bins is 7, and was 10"
    assert "'training' left other files" in reasons(result)["inference"]


def test_fresh_does_everything(studied: tuple[Project, dict[str, Any]], studied_afresh: dict[str, Any]) -> None:
    assert set(statuses(studied_afresh).values()) == {"done"} and studied_afresh["metrics"] == studied[1]["metrics"]
    assert studied_afresh["model"]["version"] is None


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@SLOW
@pytest.mark.parametrize("damage", ["file", "missing", "description"])
def test_a_damaged_result_is_made_again(
    damage: str, studied: tuple[Project, dict[str, Any]], warm_project: Project
) -> None:
    project = warm_project
    for entry in (project.home / "data" / "cache" / "models").iterdir():
        path = entry / "models" / "models.json" if damage != "description" else entry / "entry.json"
        path.unlink() if damage == "missing" else flip(path) if damage == "file" else path.write_text("{")
    done = project.call("run", "--profile", "quick", "--json", "--untracked")
    result = json.loads(done.stdout)
    assert done.returncode == 0 and statuses(result)["models"] == "done" and statuses(result)["features"] == "cached"
    assert "damaged, done anew" in done.stderr and "models" in done.stderr
    assert result["metrics"] == studied[1]["metrics"]
    again = project.json("run", "--profile", "quick", "--untracked")
    assert statuses(again)["models"] == "cached"


def edit(project: Project, notebook: str, module: str, old: str, new: str, prose: bool = False) -> None:
    """Change a notebook and its module as nbdev_export would."""
    path = project.home / "nbs" / notebook
    content = json.loads(path.read_text())
    cells = [c for c in content["cells"] if (c["cell_type"] == "markdown") == prose and old in "".join(c["source"])]
    assert cells
    for cell in cells:
        cell["source"] = "".join(cell["source"]).replace(old, new)
    path.write_text(json.dumps(content))
    source = project.home / "iris_nb" / f"{module}.py"
    source.write_text(source.read_text().replace(old, new))


def test_prose_changes_nothing_and_code_only_what_needs_it(warm_project: Project) -> None:
    project = warm_project
    own_sources(project)
    edit(project, "40_training.ipynb", "training", "judged once", "judged a single time", prose=True)
    library = {"PYTHONPATH": str(project.home)}
    result = project.json("run", "--profile", "quick", "--untracked", **library)
    assert statuses(result) == ALL_CACHED

    edit(project, "41_evaluation.ipynb", "evaluation", "def evaluate(", "CHANGED = True\n\n\ndef evaluate(")
    result = project.json("run", "--profile", "quick", "--untracked", **library)
    assert statuses(result) == ALL_CACHED | {"training": "done", "inference": "done"}
    assert reasons(result)["training"] == "re-run because the module 'evaluation' changed"


def changed_table(project: Project, path: Path, *words: str | Path) -> dict[str, Any]:
    """A study of a table, of the table with one changed value, and of the first one again. What came of the first."""
    command = ("run", *words, "--profile", "quick", "--untracked")
    first = project.json(*command)
    text = path.read_text()
    path.write_text(re.sub(r"^5\.1", "5.0", text, count=1, flags=re.M))
    second = project.json(*command)
    assert reasons(second)["data"] == "re-run because the table changed"
    assert set(statuses(second).values()) == {"done"}
    facts = [read_json(Path(result["run_dir"]) / "run.json")["data"] for result in (first, second)]
    assert facts[0]["sha256_raw"] != facts[1]["sha256_raw"]
    path.write_text(text)
    third = project.json(*command)
    assert statuses(third) == ALL_CACHED and third["metrics"] == first["metrics"]
    return first


@pytest.mark.slow
def test_a_changed_table_is_noticed(warm_project: Project) -> None:
    first = changed_table(warm_project, warm_project.home / "data" / "raw" / "iris.csv")
    assert statuses(first) == ALL_CACHED


@pytest.mark.slow
def test_a_changed_table_of_one_s_own_is_noticed(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "iris_copy.csv"
    shutil.copy(ROOT / "data" / "raw" / "iris.csv", path)
    first = changed_table(project, path, path, "--target", "species")
    assert set(statuses(first).values()) == {"done"}


def test_the_answers_of_an_imported_model_count(tmp_path: Path) -> None:
    folder, asked = tmp_path / "data" / "models", {"imported": ["old"]}
    folder.mkdir(parents=True)
    (folder / "old.json").write_text("{}")
    without = imported_inputs(tmp_path, asked)
    assert without["data/models/old.json"] and without["data/models/old.parquet"] == ""
    (folder / "old.parquet").write_bytes(b"answers")
    found = imported_inputs(tmp_path, asked)
    assert found["data/models/old.json"] == without["data/models/old.json"] and found["data/models/old.parquet"]
    assert imported_inputs(tmp_path, {}) == {}


def test_listing_and_pruning(warm_project: Project) -> None:
    project = warm_project
    listed = project.json("cache")
    assert {entry["stage"] for entry in listed["entries"]} == set(STAGES) and listed["bytes"] > 0
    refused = project.call("cache", "prune")
    assert refused.returncode == 2 and "--older-than" in refused.stderr
    assert project.call("cache", "prune", "--older-than", "soon").returncode == 2
    assert "removed 0 results" in project.call("cache", "prune", "--older-than", "1d").stdout
    assert project.call("cache", "prune", "--all").returncode == 0
    assert project.json("cache")["entries"] == []


@pytest.mark.slow
def test_no_cache_when_none_is_wanted(project: Project) -> None:
    result = project.json("run", *SMALL, "--untracked", IRIS_NB_CACHE_GB="0")
    assert result["status"] == "done" and not (project.home / "data" / "cache").exists()


@pytest.mark.slow
def test_a_full_cache_disk_does_not_fail_the_run(project: Project) -> None:
    place = project.home / "data" / "cache"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        done = project.call("run", "--profile", "quick", "--json", "--untracked")
        assert done.returncode == 0 and "not kept" in done.stderr
        assert project.json("run", "--profile", "quick", "--untracked")["metrics"] == json.loads(done.stdout)["metrics"]
    finally:
        subprocess.run(["umount", str(place)], check=True)


names = st.text(st.characters(codec="utf-8"), max_size=12)
tables = st.dictionaries(names, names, max_size=4)


@given(st.fixed_dictionaries(dict.fromkeys(PARTS, tables)), st.sampled_from(list(PARTS)), names, names)
def test_any_difference_changes_the_key(parts: dict[str, dict[str, str]], part: str, name: str, value: str) -> None:
    key = StageKey("models", **parts)
    other = StageKey("models", **parts | {part: parts[part] | {name: value}})
    same = parts[part].get(name) == value
    assert (key.digest == other.digest) is same
    if part != "inputs":
        assert (changes(other, key) == []) is same


def test_the_plain_source_of_every_module_is_its_code() -> None:
    for path in sorted((ROOT / "iris_nb").glob("[!_]*.py")):
        source = path.read_text()
        plain = plain_source(source)
        assert "\n# AUTOGENERATED" not in f"\n{plain}" and "__all__ = [" not in plain and "\n# %% ../nbs" not in plain
        compile(plain, path.name, "exec")
        definitions = re.findall(r"^(?:def|class) \w+", source, re.M)
        assert re.findall(r"^(?:def|class) \w+", plain, re.M) == definitions


def test_the_package_itself_and_hidden_imports_count(tmp_path: Path) -> None:
    from iris_nb.sources import imports_of, needed_modules

    folder = tmp_path / "iris_nb"
    folder.mkdir()
    (folder / "__init__.py").write_text("A = 1\n")
    (folder / "first.py").write_text("def f():\n    from iris_nb import (second,)\n")
    (folder / "second.py").write_text("import os, iris_nb.third; from . import fourth\n")
    for name in ("third", "fourth", "fifth"):
        (folder / f"{name}.py").write_text("")
    before = needed_modules(folder, ["first"])
    assert list(before) == ["__init__", "first", "fourth", "second", "third"]
    assert imports_of((folder / "second.py").read_text()) == ({"third", "fourth"}, {"os"})
    (folder / "__init__.py").write_text("A = 2\n")
    assert needed_modules(folder, ["first"])["__init__"] != before["__init__"]


@pytest.mark.slow
def test_a_table_that_changes_during_the_run_and_back_is_not_kept(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "flowers.csv"
    shutil.copy(ROOT / "data" / "raw" / "iris.csv", path)
    honest = path.read_text()
    lines = honest.splitlines()
    other = "\n".join(
        [
            lines[0],
            *(f"{a.rsplit(',', 1)[0]},{b.rsplit(',', 1)[1]}" for a, b in zip(lines[1:], lines[:0:-1], strict=True)),
        ]
    )
    words = ("run", path, "--target", "species", "--profile", "quick", "--untracked")
    process = project.start(*words, "--json")
    run_dir = wait_for(under_way(project, "data"))
    path.write_text(other)
    wait_for(lambda: (run_dir / "data" / "table.parquet").exists())
    path.write_text(honest)
    process.communicate(timeout=300)
    again, fresh = project.json(*words), project.json(*words, "--fresh")
    assert again["metrics"] == fresh["metrics"]


@pytest.mark.parametrize("harm", ["folder", "loop", "files", "seal"])
def test_a_forged_or_broken_entry_is_made_again(harm: str, tmp_path: Path) -> None:
    from iris_nb.cache import ENTRY, find, keep, take
    from iris_nb.files import sha256_file, write_json

    tables: dict[str, dict[str, str]] = {"code": {}, "parameters": {}, "inputs": {}, "packages": {}}
    key = StageKey("models", **tables)
    run_dir = tmp_path / "20261122T203015-iris-5f0a"
    path = run_dir / "models" / "models.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    folder = keep(tmp_path / "cache", key, run_dir, {"models/models.json": sha256_file(path)}, 1.0, "iris")
    assert folder is not None
    kept, description = folder / "models" / "models.json", read_json(folder / ENTRY)
    if harm in ("folder", "loop"):
        kept.unlink()
        kept.mkdir() if harm == "folder" else kept.symlink_to(kept)
    elif harm == "files":
        write_json(folder / ENTRY, description | {"files": {}})
    else:
        write_json(folder / ENTRY, description | {"run": "20261122T203015-iris-ffff"})
    entry = find(tmp_path / "cache", key)
    assert entry is None or not take(entry, tmp_path / "other")
    assert find(tmp_path / "cache", key) is None and not folder.exists()
