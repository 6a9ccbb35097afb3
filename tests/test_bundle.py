"""Bundles: what is in them, that they are the same every time, what they leave out, and what a stranger's file may not do."""

from __future__ import annotations

import io
import json
import posixpath
import re
import stat
import struct
import subprocess
from collections.abc import Callable
from configparser import ConfigParser
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import unquote
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT, Project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iris_nb import bundle, packing
from iris_nb.bundle import METADATA, Unpacked, safe_members, unpack_bundle, unsafe
from iris_nb.crate import PREVIEW, PROFILES, README
from iris_nb.errors import InputError
from iris_nb.files import read_json, sha256_bytes, sha256_file, sha256_folder, table_name, write_json, write_text
from iris_nb.folders import STAGES
from iris_nb.packing import (
    belongs,
    distinctive_values,
    export_bundle,
    export_lines,
    holds_values,
    leave_out,
    safe_table_name,
)
from iris_nb.runs import blank_record, blank_stage, write_manifest
from iris_nb.sources import plain_source
from iris_nb.tracking import mirrored_files

# ---- a small project and its run, made by hand ----


def make_home(folder: Path) -> Path:
    """A project of six empty stages and one module."""
    write_text(folder / "settings.ini", "lib_name = iris_nb\n")
    write_text(folder / "LICENSE", "MIT\n")
    write_text(folder / "iris_nb" / "steps.py", "def step():\n    return 1\n")
    for position, stage in enumerate((*STAGES, "pipeline"), start=1):
        source = 'run_dir: str = ""  # folder of the run\nseed: int = 0  # of every random choice'
        cells = [
            {"cell_type": "markdown", "id": "a", "metadata": {}, "source": f"# {stage}\n\n> What {stage} does.\n\n## Run"},
            {"cell_type": "code", "id": "b", "metadata": {"tags": ["parameters"]}, "source": source,
             "outputs": [{"output_type": "stream", "name": "stdout", "text": "out"}], "execution_count": None},
        ]  # fmt: skip
        cells[0]["source"] = f"# {stage}\n\n> What {stage} does."
        cells.insert(1, {"cell_type": "markdown", "id": "c", "metadata": {}, "source": "## Run"})
        notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        write_json(folder / "nbs" / f"{position}0_{stage}.ipynb", notebook)
    write_text(
        folder / "patients.csv", "name,weight,outcome\nAda Distinct,61.734512,ill\nBob Singular,70.918233,well\n"
    )
    return folder


def make_run(home: Path, **changes: Any) -> Path:
    """A finished run of it."""
    run_dir = home / "reports" / "20261122T203015-patients-5f0a"
    data = {"table": "patients", "show_rows": False, "contract": "inferred", "notes": []}
    write_json(run_dir / "data" / "data.json", data)
    write_json(run_dir / "training" / "training.json", {"chosen": "knn", "title": "k nearest neighbours"})
    write_json(run_dir / "report" / "mistakes.json", {"rows": [{"row": 1, "actual": "ill"}]})
    pd.read_csv(home / "patients.csv").to_parquet(run_dir / "data" / "table.parquet")
    write_text(run_dir / "index.html", "<p>the report</p>")
    files = {stage: {f"{stage}/{n}": h for n, h in sha256_folder(run_dir / stage).items()} for stage in STAGES}
    steps = plain_source((home / "iris_nb" / "steps.py").read_text())
    record = blank_record(
        id=run_dir.name, table="patients", source=str(home / "patients.csv"), status="done",
        created="2026-11-22T20:30:15+00:00", finished="2026-11-22T20:30:24+00:00",
        library_version="0.1.0", python="3.12.1", parameters={"data": {"run_dir": "", "seed": 7}},
        code={"steps": sha256_bytes(steps.encode())}, data={"sha256_raw": sha256_file(home / "patients.csv")},
        stages=[blank_stage(s, status="done", files=files[s]) for s in STAGES],
    )  # fmt: skip
    write_manifest(run_dir, record | changes)
    return run_dir


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path / "home")


@pytest.fixture
def run_dir(home: Path) -> Path:
    return make_run(home)


def git(home: Path, *words: str) -> str:
    named = ["-c", "user.name=t", "-c", "user.email=t@t"]
    return subprocess.run(["git", *named, *words], cwd=home, check=True, capture_output=True, text=True).stdout


def contents(path: Path) -> dict[str, bytes]:
    with ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def graph_of(path: Path) -> dict[str, Any]:
    return {entity["@id"]: entity for entity in json.loads(contents(path)[METADATA])["@graph"]}


def refused(call: Callable[[], Any], *said: str) -> None:
    """The call is refused, in one sentence."""
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    for part in said:
        assert part in str(caught.value)


# ---- what is in a bundle ----


def test_bundle_holds_source_run_and_table(home: Path, run_dir: Path, tmp_path: Path) -> None:
    done = export_bundle(home, run_dir, tmp_path / "b.zip", True)
    found = contents(done.path)
    assert found["table/patients.csv"] == (home / "patients.csv").read_bytes()
    assert found["source/iris_nb/steps.py"] == (home / "iris_nb" / "steps.py").read_bytes()
    assert f"run/{run_dir.name}/run.json" in found and {METADATA, PREVIEW, README, "source/LICENSE"} <= set(found)
    assert done.sha256 == sha256_file(done.path) and done.bytes == done.path.stat().st_size and done.files == len(found)
    assert done.reproduce == f"iris-nb reproduce b.zip --trust {done.sha256}"


def test_metadata_have_the_hash_of_every_file(home: Path, run_dir: Path, tmp_path: Path) -> None:
    path = export_bundle(home, run_dir, tmp_path / "b.zip", True).path
    graph, found = graph_of(path), contents(path)
    for name, data in found.items():
        if name != METADATA:
            assert graph[name]["sha256"] == sha256_bytes(data) and graph[name]["contentSize"] == str(len(data))


def test_metadata_follow_the_profiles(home: Path, run_dir: Path, tmp_path: Path) -> None:
    graph = graph_of(
        export_bundle(home, run_dir, tmp_path / "b.zip", True, ["Ada Lovelace 0000-0002-1825-0097", "Bo"]).path
    )
    root, main = graph["./"], graph["source/nbs/70_pipeline.ipynb"]
    assert {ref["@id"] for ref in root["conformsTo"]} == set(PROFILES) <= set(graph)
    assert root["mainEntity"] == {"@id": main["@id"]} and root["datePublished"] == "2026-11-22T20:30:24+00:00"
    assert set(main["@type"]) == {"File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"}
    assert root["author"] == [{"@id": "https://orcid.org/0000-0002-1825-0097"}, {"@id": "#author-2"}]
    for place, stage in enumerate(STAGES, start=1):
        tool = f"source/nbs/{place}0_{stage}.ipynb"
        action, step = graph[f"#run-{stage}"], graph[f"#step-{stage}"]
        assert {"@id": tool} in main["hasPart"] and {"@id": step["@id"]} in main["step"]
        assert action["instrument"] == step["workExample"] == {"@id": tool} and step["position"] == str(place)
        assert action["actionStatus"].endswith("/CompletedActionStatus") and action["startTime"] <= action["endTime"]
        assert graph[f"#control-{stage}"]["object"] == {"@id": action["@id"]}
        assert graph[tool]["description"] == f"What {stage} does."
    assert graph["#value-data.seed"]["exampleOfWork"] == {"@id": "#parameter-data.seed"}
    assert graph["#parameter-data.seed"]["description"] == "of every random choice"
    assert {"@id": "table/patients.csv"} in graph["#run"]["object"]


def test_every_reference_leads_somewhere(home: Path, run_dir: Path, tmp_path: Path) -> None:
    graph = graph_of(export_bundle(home, run_dir, tmp_path / "b.zip", True, ["Ada"]).path)

    def refs(value: Any) -> set[str]:
        if isinstance(value, dict):
            return {value["@id"]} if set(value) == {"@id"} else {r for v in value.values() for r in refs(v)}
        return {r for v in value for r in refs(v)} if isinstance(value, list) else set()

    outside = {"https://w3id.org/ro/crate/1.1", "https://jupyter.org/"}
    assert {r for entity in graph.values() for r in refs({**entity, "": 0})} - set(graph) <= outside


def test_rocrate_library_reads_it_back(home: Path, run_dir: Path, tmp_path: Path) -> None:
    from rocrate.rocrate import ROCrate

    crate = ROCrate(export_bundle(home, run_dir, tmp_path / "b.zip", True).path)
    assert crate.mainEntity["name"] == "iris_nb pipeline" and crate.mainEntity["step"][0]["name"] == "data"
    assert crate.get("#run-data")["instrument"].id == "source/nbs/10_data.ipynb"
    assert len(crate.data_entities) == len(contents(tmp_path / "b.zip")) - 2


def test_same_run_gives_same_bytes(home: Path, run_dir: Path, tmp_path: Path) -> None:
    first = export_bundle(home, run_dir, tmp_path / "a.zip", False)
    (run_dir / "data" / "table.parquet").touch()
    assert export_bundle(home, run_dir, tmp_path / "b.zip", False).sha256 == first.sha256
    with ZipFile(first.path) as archive:
        infos = archive.infolist()
    assert [info.filename for info in infos] == sorted(info.filename for info in infos)
    assert {info.date_time for info in infos} == {(2026, 11, 22, 20, 30, 24)}
    assert {info.external_attr >> 16 for info in infos} == {stat.S_IFREG | 0o644}


def test_pages_about_a_bundle_escape_and_load_nothing(home: Path, tmp_path: Path) -> None:
    run_dir = make_run(home, table="<script>x</script>")
    found = contents(export_bundle(home, run_dir, tmp_path / "b.zip", True, ["A & B"]).path)
    page = found[PREVIEW].decode()
    assert "<script" not in page and "A &amp; B" in page
    loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert all(link.startswith(("#", "data:")) or link in found for link in loaded)


def test_nobody_is_named_who_was_not(home: Path, run_dir: Path, tmp_path: Path) -> None:
    graph = graph_of(export_bundle(home, run_dir, tmp_path / "b.zip", True).path)
    assert not any(entity["@type"] == "Person" for entity in graph.values())
    assert "agent" not in graph["#run"] and "author" not in graph["./"]


# ---- the source ----


def test_source_is_that_of_the_commit_with_the_recorded_changes(home: Path, tmp_path: Path) -> None:
    git(home, "init", "-q")
    git(home, "add", "-A")
    git(home, "commit", "-qm", "one")
    commit = git(home, "rev-parse", "HEAD").strip()
    write_text(home / "iris_nb" / "steps.py", "def step():\n    return 2\n")
    write_text(home / "iris_nb" / "more.py", "x = 1\n")
    git(home, "add", "-AN", "iris_nb")
    patch = git(home, "diff", "--binary", "HEAD", "--", "iris_nb").encode()
    facts = {
        "commit": commit,
        "branch": "main",
        "dirty": True,
        "patch": "source.patch",
        "patch_sha256": sha256_bytes(patch),
    }
    run_dir = make_run(home, git=facts)
    (run_dir / "source.patch").write_bytes(patch)
    git(home, "checkout", "-q", "-f", "HEAD")
    (home / "iris_nb" / "more.py").unlink(missing_ok=True)
    write_text(home / "LICENSE", "another licence, today\n")

    found = contents(export_bundle(home, run_dir, tmp_path / "b.zip", True).path)
    assert found["source/iris_nb/steps.py"] == b"def step():\n    return 2\n" and "source/iris_nb/more.py" in found
    assert found["source/LICENSE"] == b"MIT\n", "as it was at the commit"
    assert "source/patients.csv" in found and not any(name.startswith("source/reports/2") for name in found)
    rowless = export_bundle(home, run_dir, tmp_path / "c.zip", False)
    assert "source/patients.csv" not in contents(rowless.path) and "source.patch" in rowless.left_out

    (run_dir / "source.patch").write_bytes(patch + b" ")
    refused(
        lambda: export_bundle(home, run_dir, tmp_path / "d.zip", True), "source.patch", "not the one that it recorded"
    )
    (run_dir / "source.patch").unlink()
    refused(lambda: export_bundle(home, run_dir, tmp_path / "d.zip", True), "changes that are not kept")
    assert not (tmp_path / "d.zip").exists()


def test_source_that_is_not_the_run_s_is_refused(home: Path, run_dir: Path, tmp_path: Path) -> None:
    write_text(home / "iris_nb" / "steps.py", "def step():\n    return 3\n")
    refused(lambda: export_bundle(home, run_dir, tmp_path / "b.zip", True), "'iris_nb/steps.py'", "run again")
    gone = make_run(home, git={"commit": "0" * 40, "dirty": False})
    refused(lambda: export_bundle(home, gone, tmp_path / "b.zip", True), "commit 000000000000", "fetch it")


@pytest.mark.parametrize(
    "place",
    [
        "data/raw/other.csv", "data/contracts/other.json", "data/mlflow.db", "reports/x/run.json",
        "data/models/other.json", "data/models/old.parquet", "data/models/deep/old.json",
    ],
)  # fmt: skip
def test_other_tables_models_and_runs_are_not_part_of_the_source(place: str) -> None:
    assert not belongs(place, "patients", ["old"])


@pytest.mark.parametrize(
    "place",
    [
        "data/raw/iris.csv", "data/contracts/patients.json", "data/cards/patients.yaml", "setup.py",
        "data/models/old.json",
    ],
)  # fmt: skip
def test_what_the_run_needs_is_part_of_the_source(place: str) -> None:
    assert belongs(place, "patients", ["old"])


def test_an_imported_model_goes_along_and_its_answers_stay(home: Path, tmp_path: Path) -> None:
    for name in ("old", "other"):
        write_json(home / "data" / "models" / f"{name}.json", {"name": name})
        write_text(home / "data" / "models" / f"{name}.parquet", "61.734512, 70.918233")
    run_dir = make_run(home, parameters={"data": {"seed": 7}, "models": {"imported": ["old"]}})
    for with_data in (True, False):
        bundle = tmp_path / f"{with_data}.zip"
        export_bundle(home, run_dir, bundle, with_data)
        assert [name for name in contents(bundle) if "data/models" in name] == ["source/data/models/old.json"]
    write_json(
        home / "data" / "models" / "old.json", {"categories": ["Ada Distinct", "Bob Singular", 61.734512, 70.918233]}
    )
    refused(lambda: export_bundle(home, run_dir, tmp_path / "rows.zip", False), "old.json", "values of the table")
    (home / "data" / "models" / "old.json").unlink()
    refused(lambda: export_bundle(home, run_dir, tmp_path / "none.zip", True), "imported model 'old'")


def test_what_a_search_found_may_leave_and_its_journal_never(home: Path) -> None:
    run_dir = make_run(home)
    for name in ("models/tuning.json", "models/control.json", "models/figures/pairs.svg", "training/insight.json"):
        write_text(run_dir / name, "{}")
    write_text(run_dir / ".tuning" / "svm.journal", "{}")
    kept, left = leave_out(run_dir)
    assert {"models/tuning.json", "models/control.json", "models/figures/pairs.svg"} <= set(kept)
    assert "training/insight.json" in left and not [name for name in (*kept, *left) if "journal" in name]


def test_steps_of_a_calibration_stay(home: Path) -> None:
    run_dir = make_run(home)
    data = read_json(run_dir / "data" / "data.json")
    write_json(run_dir / "data" / "data.json", data | {"class_counts": {c: {"train": 40} for c in ("ill", "well")}})
    write_text(run_dir / "training" / "model" / "model.skops", "a model")
    for method, kept in (("none", True), ("sigmoid", True), ("isotonic", False)):
        training = {"chosen": "lda", "title": "LDA", "calibrated": {"method": method}}
        write_json(run_dir / "training" / "training.json", training)
        assert ("training/model/model.skops" in leave_out(run_dir)[0]) is kept


# ---- the table ----


@pytest.mark.parametrize("name", ["iris data.csv", "Ünï.CSV", "a:b.csv.gz", "x.parquet", ".hidden.csv", "a\nb.tsv"])
def test_table_keeps_its_name_under_a_safe_one(name: str) -> None:
    safe = safe_table_name(Path("/somewhere") / name)
    assert not unsafe(f"table/{safe}")
    assert table_name(safe) == table_name(name)


def test_names_that_no_other_system_takes_are_refused(home: Path, tmp_path: Path) -> None:
    refused(lambda: safe_table_name(Path("con.csv")), "rename the file")
    run_dir = make_run(home)
    write_text(home / "tests" / "a:b.py", "x = 1\n")
    refused(lambda: export_bundle(home, run_dir, tmp_path / "b.zip", True), "source/tests/a:b.py", "rename it")
    assert not (tmp_path / "b.zip").exists()


def test_table_that_changed_or_is_gone_is_refused(home: Path, run_dir: Path, tmp_path: Path) -> None:
    write_text(home / "patients.csv", "other\n")
    refused(lambda: export_bundle(home, run_dir, tmp_path / "b.zip", True), "not the one that the run read")
    (home / "patients.csv").unlink()
    refused(lambda: export_bundle(home, run_dir, tmp_path / "b.zip", True), "is gone", "--without-data")
    assert export_bundle(home, run_dir, tmp_path / "b.zip", False).with_data is False


# ---- refusals ----


def test_private_rows_need_a_decision(home: Path, run_dir: Path, tmp_path: Path) -> None:
    refused(lambda: export_bundle(home, run_dir, tmp_path / "b.zip", None), "--with-data or --without-data")
    assert not (tmp_path / "b.zip").exists()


def test_existing_file_is_kept_unless_forced(home: Path, run_dir: Path, tmp_path: Path) -> None:
    target = write_text(tmp_path / "b.zip", "mine")
    refused(lambda: export_bundle(home, run_dir, target, True), "there already", "--force")
    assert target.read_text() == "mine"
    assert export_bundle(home, run_dir, target, True, force=True).sha256 == sha256_file(target)


@pytest.mark.parametrize(("target", "said"), [(".", "is a folder"), ("no/such/b.zip", "does not exist")])
def test_target_that_cannot_be_is_refused(home: Path, run_dir: Path, tmp_path: Path, target: str, said: str) -> None:
    refused(lambda: export_bundle(home, run_dir, tmp_path / target, True), said)
    refused(lambda: export_bundle(home, run_dir, run_dir / "b.zip", True), "folder of the run itself")


def test_run_that_is_not_evidence_is_refused(home: Path, run_dir: Path, tmp_path: Path) -> None:
    def export() -> None:
        export_bundle(home, run_dir, tmp_path / "b.zip", True)

    manifest = run_dir / "run.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"seed": 7', '"seed": 8'))
    refused(export, "changed after the runner wrote it")
    make_run(home, status="failed")
    refused(export, "is failed; only a run that is done")
    make_run(home)
    write_json(run_dir / "data" / "data.json", {"show_rows": True})
    refused(export, "'data/data.json' changed")
    (run_dir / "data" / "data.json").unlink()
    refused(export, "'data/data.json' gone")
    assert not (tmp_path / "b.zip").exists()


def test_bad_author_is_refused_before_anything(home: Path, run_dir: Path, tmp_path: Path) -> None:
    refused(lambda: export_bundle(home, run_dir, tmp_path / "b.zip", True, ["Ada 0000-0002-1825-0098"]), "ORCID")
    refused(lambda: export_bundle(home, run_dir, tmp_path / "b.zip", True, ["  "]), "is not a person")


# ---- without the data ----


@pytest.mark.parametrize(
    ("chosen", "rows", "kept"),
    [("lda", 40, True), ("logistic", 40, True), ("knn", 40, False), ("svm", 40, False), ("forest", 40, False),
     ("boosting", 40, False), ("lda", 2, False), ("somebody's own", 40, False)],
)  # fmt: skip
def test_models_that_hold_rows_are_left_out(tmp_path: Path, chosen: str, rows: int, kept: bool) -> None:
    write_json(tmp_path / "data" / "data.json", {"class_counts": {"a": {"train": rows}, "b": {"train": 40}}})
    write_json(tmp_path / "training" / "training.json", {"chosen": chosen})
    write_text(tmp_path / "training" / "model" / "model.skops", "x")
    assert ("training/model/model.skops" in leave_out(tmp_path)[0]) is kept


def test_files_that_are_not_known_are_left_out(home: Path, run_dir: Path) -> None:
    write_text(run_dir / "report" / "new-figure.svg", "<svg/>")
    write_text(run_dir / "attestations" / "a.json", "{}")
    write_json(run_dir / "attestations" / "equal.json", {"mismatches": [], "rows": ""})
    write_json(run_dir / "attestations" / "other.json", {"mismatches": [{"left": "Ada"}], "rows": "row 1"})
    kept, left = leave_out(run_dir)
    assert {"report/new-figure.svg", "attestations/a.json", "attestations/other.json", "report/mistakes.json"} <= set(
        left
    )
    assert "attestations/equal.json" in kept
    assert not set(kept) & set(left)


def test_second_net_catches_what_the_rule_lets_through(home: Path, tmp_path: Path) -> None:
    write_json(
        home / "reports" / "20261122T203015-patients-5f0a" / "features" / "features.json", {"notes": ["Bob Singular"]}
    )
    run_dir = make_run(home)
    done = export_bundle(home, run_dir, tmp_path / "b.zip", False)
    assert done.left_out["features/features.json"] == "a value of the table was found in it"
    assert not any(b"Bob Singular" in data for data in contents(done.path).values())
    rows = (home / "patients.csv").read_text()
    write_text(home / "nbs" / "99_notes.ipynb", json.dumps({"cells": [{"cell_type": "markdown", "source": rows}]}))
    refused(lambda: export_bundle(home, run_dir, tmp_path / "c.zip", False), "99_notes.ipynb holds values of the table")


CLASSES = ('died, or "very ill" soon', "quite well & 'home' again")


@pytest.mark.parametrize("name", [*CLASSES, "Äußere, lange Station", "a\\b <c> *d* _efgh_"])
def test_names_of_classes_and_categories_are_no_rows(home: Path, tmp_path: Path, name: str) -> None:
    table = pd.DataFrame({"note": ["Ada Distinct", "Bob Singular"], "ward": [name, "south"], "outcome": ["ill", name]})
    table.to_csv(home / "patients.csv", index=False)
    run_dir = home / "reports" / "20261122T203015-patients-5f0a"
    declared = [{"name": n, "kind": "category", "categories": [name]} for n in ("ward", "outcome")]
    write_json(run_dir / "data" / "contract.json", {"columns": declared})
    write_json(run_dir / "features" / "features.json", {"notes": [name]})
    write_json(run_dir / "models" / "models.json", {"notes": [f"{name} and Bob Singular"]})
    assert distinctive_values(make_run(home)) == ["Ada Distinct", "Bob Singular"]
    done = export_bundle(home, run_dir, tmp_path / "b.zip", False)
    netted = {file for file, why in done.left_out.items() if why.startswith("a value of the table")}
    assert netted == {"models/models.json", "index.html"}, "a row's value is still caught, a declared name is not"


@pytest.mark.parametrize(
    "form",
    [
        "Bob &#34;B&#34; O&#39;Neill",
        "Bob &quot;B&quot; O&#x27;Neill",
        "Bob &quot;B&quot; O'Neill",
        'Bob \\"B\\" O\'Neill',
    ],
)
def test_value_is_found_however_a_page_writes_it(form: str) -> None:
    assert holds_values("x.html", f"<p>{form}</p>".encode(), ['Bob "B" O\'Neill'])
    assert not holds_values("x.html", b"<p>Bob</p>", ['Bob "B" O\'Neill'])


@pytest.mark.parametrize("file", ["contract.json", "model.json", "model.skops"])
def test_model_is_packed_whole_or_not_at_all(home: Path, tmp_path: Path, file: str) -> None:
    run_dir = home / "reports" / "20261122T203015-patients-5f0a"
    names = ("contract.json", "manifest.json", "model.json", "model.skops")
    for name in names:
        write_text(run_dir / "training" / "model" / name, "Bob Singular" if name == file else "{}")
    make_run(home)
    write_json(run_dir / "training" / "training.json", {"chosen": "lda", "title": "LDA"})
    counts = {"class_counts": {"ill": {"train": 40, "test": 10}, "well": {"train": 40, "test": 10}}}
    write_json(run_dir / "data" / "data.json", {"table": "patients", "show_rows": False} | counts)
    files = {stage: {f"{stage}/{n}": h for n, h in sha256_folder(run_dir / stage).items()} for stage in STAGES}
    stages = [blank_stage(s, status="done", files=files[s]) for s in STAGES]
    record = json.loads((run_dir / "run.json").read_text())
    write_manifest(run_dir, record | {"stages": stages})
    done = export_bundle(home, run_dir, tmp_path / "b.zip", False)
    assert not [name for name in contents(done.path) if "training/model/" in name]
    assert {f"training/model/{name}" for name in names} <= set(done.left_out)
    assert done.left_out[f"training/model/{file}"].startswith("a value of the table")
    assert "half a model" in done.left_out["training/model/manifest.json"]
    assert not any("fitted model" in line for line in done.remains)


def dead_links(path: Path) -> list[str]:
    """The links of the pages of a bundle that lead to nothing in it."""
    found, members = [], contents(path)
    for name in members:
        if name.endswith(".html") and not name.startswith("source/"):
            for tag in BeautifulSoup(members[name], "html.parser").select("[href], [src]"):
                link = str(tag.get("href") or tag.get("src"))
                there = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(link.partition("#")[0])))
                if not re.match(r"[a-z]+:|#", link) and there not in members:
                    found.append(f"{name}: {link}")
    return found


@pytest.fixture(scope="module")
def private(make_project: Callable[[str], Project]) -> Project:
    """A project with a private table whose values are met nowhere else."""
    import random

    project, chance = make_project("private"), random.Random(5)
    lines = ["patient,weight,height,ward,outcome"]
    wards, classes = (
        ['"north, upper ward"', '"the ""old"" south"'],
        [f'"{c.replace(chr(34), chr(34) * 2)}"' for c in CLASSES],
    )
    for n in range(60):
        well = n % 2
        values = f"{60 + 12 * well + chance.gauss(0, 6):.9f},{170 + chance.gauss(0, 8):.9f}"
        lines.append(f"PATIENT-{n:03d}-zq,{values},{chance.choice(wards)},{classes[well]}")
    write_text(project.home / "patients.csv", "\n".join(lines) + "\n")
    return project


@pytest.fixture(scope="module")
def private_run(private: Project) -> Callable[[str], str]:
    """Real runs on it, one whose rows may not be shown and one whose rows may."""

    @cache
    def run(show_rows: str) -> str:
        words = ["--profile", "quick", "-p", f"show_rows={show_rows}", "-p", "candidates=[knn,majority]", "--untracked"]
        done = private.call("run", "patients.csv", "--target", "outcome", *words, "--json")
        assert done.returncode in (0, 3), done.stderr[-2000:]
        return str(json.loads(done.stdout)["run"])

    return run


@pytest.mark.slow
@pytest.mark.parametrize("show_rows", ["no", "yes"])
def test_without_data_really_holds_no_row(
    private: Project, private_run: Callable[[str], str], tmp_path: Path, show_rows: str
) -> None:
    project, run = private, private_run(show_rows)
    answer = project.json("export", run, tmp_path / "b.zip", "--without-data")
    opened = unpack_bundle(tmp_path / "b.zip", answer["sha256"], tmp_path / "opened")
    table = pd.read_csv(project.home / "patients.csv")
    numbers = [v for c in ("weight", "height") for v in table[c] if table[c].min() < v < table[c].max()]
    needles = [text.encode() for text in table["patient"]] + [f"{v:.{d}f}".encode() for v in numbers for d in (5, 9)]
    needles += [struct.pack("<d", v) for v in numbers] + [f"{v:.6g}".encode() for v in numbers]
    aggregates = (opened.run_dir / "data" / "profile.json").read_bytes()
    needles = [needle for needle in needles if len(needle) > 8 or needle not in aggregates]  # an edge may begin alike
    for path in sorted(p for p in (tmp_path / "opened").rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.suffix == ".parquet":
            data += pd.read_parquet(path).to_csv().encode()
            assert not {"actual", "predicted", "outcome"} & set(pd.read_parquet(path).columns)
        if path.suffix == ".skops":
            data += b"".join(contents(path).values())
        found = [needle for needle in needles if needle in data]
        assert not found, f"{path.name} holds {found[:3]}"
    assert opened.table is None and answer["with_data"] is False
    assert {"data/table.parquet", "training/predictions.parquet", "training/model/model.skops"} <= set(opened.left_out)
    assert not [why for why in answer["left_out"].values() if why.startswith("a value of the table")]
    assert not dead_links(tmp_path / "b.zip")
    page = (opened.run_dir / "index.html").read_text()
    assert 'href="model-card.html"' in page
    assert 'href="index.html"' in (opened.run_dir / "model-card.html").read_text()
    assert "held-out rows" in page and "cannot be shown, because a file" not in page


@pytest.mark.slow
def test_mlflow_gets_no_row_of_a_private_run(private: Project, private_run: Callable[[str], str]) -> None:
    run_dir = private.reports / private_run("no")
    values = distinctive_values(run_dir)
    files = [(path, (run_dir / path).read_bytes()) for path in mirrored_files(run_dir)]
    assert len(values) > 30 and not [path for path, data in files if holds_values(path.name, data, values)]


def test_pages_link_to_nothing_that_the_net_took(
    private: Project, private_run: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught = [
        "gaps: the median; scaled",
        "met nowhere at all 1",
        "met nowhere at all 2",
    ]  # one is no evidence in source
    monkeypatch.setattr(packing, "distinctive_values", lambda run_dir: caught)
    run_dir = private.reports / private_run("no")
    done = export_bundle(private.home, run_dir, tmp_path / "b.zip", False)
    assert "features/features.json" in done.left_out and "features.html" in done.left_out
    page = contents(done.path)[f"run/{run_dir.name}/index.html"].decode()
    assert "features/features.json" in page and 'href="features/features.json"' not in page
    assert not dead_links(done.path)


def test_with_data_holds_all_and_opens_again(
    private: Project, private_run: Callable[[str], str], tmp_path: Path
) -> None:
    project, run = private, private_run("no")
    answer = project.json("export", run, tmp_path / "b.zip", "--with-data", "--author", "Ada Lovelace")
    opened = unpack_bundle(tmp_path / "b.zip", answer["sha256"], tmp_path / "opened")
    assert opened.table is not None and opened.table.read_bytes() == (project.home / "patients.csv").read_bytes()
    assert not opened.left_out and (opened.source / "iris_nb" / "bundle.py").is_file()
    run_dir = project.reports / run
    here = {name for name in sha256_folder(run_dir) if not name.startswith(".")}
    assert here == set(sha256_folder(opened.run_dir)) and "model-card.md" in here


def test_end_of_an_export_fits_a_terminal(home: Path, run_dir: Path, tmp_path: Path) -> None:
    done = export_bundle(home, run_dir, tmp_path / "b.zip", False)
    many = {f"report/{n:02d}.svg": "it may show rows or their labels, which is why it stays" for n in range(30)}
    lines = export_lines(replace(done, left_out=many), 80)
    start, end = (next(n for n, line in enumerate(lines) if line.startswith(w)) for w in ("left out", "of the data"))
    listed = [line[19:] for line in lines[start:end]]
    assert [line.split(":")[0] for line in listed if not line.startswith("  ")][:-1] == sorted(many)[:8]
    assert listed[-1] == "and 22 more: see README.md in the bundle"
    assert all(len(line) <= 80 for line in lines if done.sha256 not in line and str(done.path) not in line)
    assert all(line[18] == " " and (line[:18].strip() or line.startswith(" " * 19)) for line in lines)
    assert lines[-1] == f"{'reproduce with':<18} {done.reproduce}", "a command stays in one piece"
    assert any("--author 'NAME ORCID'" in line for line in lines)
    named = export_lines(replace(done, left_out={}, remains=[], with_data=True, authors=["Ada Lovelace"]))
    assert [line[:18].strip() for line in named] == ["bundle", "run", "SHA-256", "rows of the table", "reproduce with"]


def test_command_refuses_in_one_sentence(private: Project, private_run: Callable[[str], str], tmp_path: Path) -> None:
    project, run = private, private_run("no")
    done = project.call("export", "nothing-like-it", tmp_path / "b.zip")
    assert done.returncode == 2 and "no run is called" in done.stderr and len(done.stderr.splitlines()) == 1
    words = project.json("export", run, tmp_path, "--with-data", code=2)
    assert words["status"] == "refused" and "is a folder" in words["error"]


# ---- a stranger's file ----


def pack(path: Path, members: list[tuple[str | ZipInfo, bytes]]) -> Path:
    """A zip with any names, as a stranger would make it."""
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, data in members:
            info = name if isinstance(name, ZipInfo) else ZipInfo("x")
            if not isinstance(name, ZipInfo):
                info.filename, info.compress_type = name, ZIP_DEFLATED
            archive.writestr(info, data)
    return path


def open_refused(path: Path, *said: str) -> None:
    """The file is refused although its hash is trusted, and nothing is left."""
    into = path.parent / "into"
    before = sorted(p.name for p in path.parent.iterdir())
    refused(lambda: unpack_bundle(path, sha256_file(path), into), *said)
    assert sorted(p.name for p in path.parent.iterdir()) == before


UNSAFE = [
    "../up", "a/../../up", "/etc/passwd", "a/./b", "a//b", "", "a/", "a\\b", "C:/x", "c:x", "//server/x", "nul", "a/COM1.txt",
    "x.", "x ", " x", "a\nb", "a\x00b", "a\u202eb", "a:b", "a*b", "x" * 300, "a/" * 600 + "b", "..", ".", "\ufeffx", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE, ids=ascii)
def test_unsafe_name_is_told(name: str) -> None:
    assert unsafe(name)


@pytest.mark.parametrize("name", [n for n in UNSAFE if n and n != "\ud800"], ids=ascii)
def test_unsafe_member_is_refused(tmp_path: Path, name: str) -> None:
    data = pack(tmp_path / "b.zip", [("fine", b"1"), ("placeholder" if "\0" in name else name, b"2")]).read_bytes()
    if "\0" in name:
        (tmp_path / "b.zip").write_bytes(data.replace(b"placeholder", b"place\0older"))
    open_refused(tmp_path / "b.zip", "not safe to open", "nothing was unpacked")


@given(
    st.text(min_size=1, max_size=60)
    | st.lists(st.sampled_from(["a", "..", ".", "", "b c", "C:", "nul", "x."]), max_size=5).map("/".join)
)
def test_name_that_is_called_safe_stays_inside(name: str) -> None:
    if unsafe(name):
        return
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    assert not windows.is_absolute() and not windows.drive and not windows.root and not posix.is_absolute()
    assert ".." not in windows.parts and "/".join(windows.parts) == name
    base = Path("/base")
    assert (base / name).resolve().is_relative_to(base)


def test_own_names_are_safe(home: Path, run_dir: Path, tmp_path: Path) -> None:
    tracked = git(ROOT, "ls-files").splitlines() if (ROOT / ".git").exists() else []
    assert not [name for name in tracked if unsafe(f"source/{name}")]
    assert not any(unsafe(name) for name in contents(export_bundle(home, run_dir, tmp_path / "b.zip", True).path))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "A"], "same but for its case"),
        (["é", "e\u0301"], "same name"),
        (["a", "a/b"], "below a file"),
        (["a/b", "a"], "below a file"),
    ],
)
def test_members_that_clash_are_refused(tmp_path: Path, names: list[str], said: str) -> None:
    open_refused(pack(tmp_path / "b.zip", [(name, b"1") for name in names]), said)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_member_is_refused(tmp_path: Path) -> None:
    open_refused(pack(tmp_path / "b.zip", [("a", b"1"), ("a", b"2")]), "same name")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR, stat.S_IFCHR])
def test_member_that_is_no_plain_file_is_refused(tmp_path: Path, kind: int) -> None:
    info = ZipInfo("link")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    open_refused(pack(tmp_path / "b.zip", [(info, b"/etc/passwd")]), "not a plain file")


def test_other_packing_and_encryption_are_refused(tmp_path: Path) -> None:
    info = ZipInfo("a")
    info.compress_type = ZIP_BZIP2
    open_refused(pack(tmp_path / "b.zip", [(info, b"1")]), "packed in a way")
    data = bytearray(pack(tmp_path / "c.zip", [("a", b"1")]).read_bytes())
    data[data.find(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "c.zip").write_bytes(data)
    open_refused(tmp_path / "c.zip", "encrypted")


def test_bombs_are_refused_before_anything_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_refused(pack(tmp_path / "ratio.zip", [("a", b"\0" * 20_000_000)]), "more than 100 times its size")
    monkeypatch.setattr(bundle, "MOST_BYTES", 2**31)
    data = bytearray(pack(tmp_path / "total.zip", [("a", b"12345")]).read_bytes())
    struct.pack_into("<I", data, data.find(b"PK\x01\x02") + 24, 2**32 - 2)
    (tmp_path / "total.zip").write_bytes(data)
    open_refused(tmp_path / "total.zip", "GiB")
    monkeypatch.setattr(bundle, "MOST_MEMBERS", 3)
    open_refused(pack(tmp_path / "many.zip", [(str(n), b"") for n in range(4)]), "at most 3")


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "b.zip", "w", ZIP_STORED) as archive:
        archive.writestr("a", b"x" * 1000)
        for name in ("b", "c"):
            info = ZipInfo(name)
            first = archive.infolist()[0]
            info.header_offset, info.compress_size, info.file_size, info.CRC = 0, first.compress_size, 1000, first.CRC
            archive.filelist.append(info)
            archive.NameToInfo[name] = info
    open_refused(tmp_path / "b.zip", "share their bytes")


def test_member_that_is_longer_than_it_says_is_refused(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "b.zip", [(METADATA, b"{}" * 500)]).read_bytes())
    struct.pack_into("<I", data, data.find(b"PK\x01\x02") + 24, 10)
    (tmp_path / "b.zip").write_bytes(data)
    open_refused(tmp_path / "b.zip", "damaged")


@pytest.mark.parametrize("data", [b"", b"just words", b"PK\x03\x04" + b"\0" * 40, b"PK\x05\x06" + b"\xff" * 18])
def test_file_that_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "b.zip").write_bytes(data)
    open_refused(tmp_path / "b.zip")


def test_zip_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    open_refused(pack(tmp_path / "a.zip", [("a", b"1")]), f"it has no {METADATA}")
    for content in (b"[]", b"{", b'{"@graph": [1]}', b"[" * 100_000, b"\xff", b'{"@graph": [{"sha256": "x"}]}'):
        open_refused(pack(tmp_path / "a.zip", [(METADATA, content)]), "cannot be read")
    open_refused(pack(tmp_path / "a.zip", [(METADATA, b'{"@graph": []}')]), "not a bundle of iris_nb")


def altered(path: Path, target: Path, change: Callable[[dict[str, bytes]], None], mend: bool = False) -> Path:
    """A bundle with other members; with `mend`, its metadata say so."""
    members = contents(path)
    change(members)
    if mend:
        document = json.loads(members[METADATA])
        for entity in document["@graph"]:
            if "sha256" in entity and entity["@id"] in members:
                entity["sha256"] = sha256_bytes(members[entity["@id"]])
        members[METADATA] = json.dumps(document).encode()
    return pack(target, list(members.items()))


def test_altered_bundle_is_refused(home: Path, run_dir: Path, tmp_path: Path) -> None:
    whole = export_bundle(home, run_dir, tmp_path / "whole.zip", True).path
    step, place = "source/iris_nb/steps.py", f"run/{run_dir.name}/"

    def put(name: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
        return lambda members: members.update({name: data})

    bad = tmp_path / "bad.zip"
    open_refused(altered(whole, bad, put(step, b"import os")), step, "another SHA-256")
    open_refused(altered(whole, bad, put("source/new.py", b"x")), "'source/new.py'", "only in one of the two")
    open_refused(altered(whole, bad, lambda m: m.pop(step) and None), f"'{step}'", "only in one of the two")
    open_refused(altered(whole, bad, put(step, b"import os"), mend=True), "not the code that the run used")
    open_refused(altered(whole, bad, put("table/patients.csv", b"x"), mend=True), "not the one that the run read")
    open_refused(altered(whole, bad, put(f"{place}data/data.json", b"{}"), mend=True), "not those of its run")
    run_json = contents(whole)[f"{place}run.json"]
    open_refused(
        altered(whole, bad, put(f"{place}run.json", run_json.replace(b'"seed": 7', b'"seed": 8')), mend=True), "seal"
    )
    open_refused(altered(whole, bad, put(f"{place}run.json", b"[]"), mend=True), "cannot be read")


def test_trust_is_asked_for_and_checked_first(home: Path, run_dir: Path, tmp_path: Path) -> None:
    done = export_bundle(home, run_dir, tmp_path / "b.zip", True)
    into = tmp_path / "into"
    with pytest.raises(InputError) as caught:
        unpack_bundle(done.path, "", into)
    assert "runs the code" in str(caught.value) and "--trust SHA256" in str(caught.value)
    assert done.sha256[:8] not in str(caught.value), (
        "whoever could change the file must not be the one who vouches for it"
    )
    refused(lambda: unpack_bundle(done.path, "f" * 63, into), "64 digits")
    refused(lambda: unpack_bundle(done.path, "0" * 64, into), "not the file that you trust", done.sha256[:12])
    (tmp_path / "words").write_text("no zip")
    refused(lambda: unpack_bundle(tmp_path / "words", "0" * 64, into), "not the file that you trust")
    refused(lambda: unpack_bundle(tmp_path / "none", done.sha256, into), "there is no file")
    assert not into.exists()
    opened = unpack_bundle(done.path, f" SHA256:{done.sha256.upper()}\n", into)
    assert opened == Unpacked(into / "source", into / "run" / run_dir.name, into / "table" / "patients.csv", {})
    refused(lambda: unpack_bundle(done.path, done.sha256, into), "is not empty")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a bundle."""
    folder = tmp_path_factory.mktemp("sound")
    home = make_home(folder / "home")
    return export_bundle(home, make_run(home), folder / "b.zip", True).path.read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_of_any_kind_is_refused_or_harmless(sound: bytes, data: st.DataObject, tmp_path_factory: Any) -> None:
    changed = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 0, 1, 100, len(changed) // 2]))
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "b.zip").write_bytes(changed[: len(changed) - cut])
    try:
        unpack_bundle(folder / "b.zip", sha256_file(folder / "b.zip"), folder / "into")
    except InputError as error:
        assert "\n" not in str(error) and sorted(p.name for p in folder.iterdir()) == ["b.zip"]


def test_large_file_that_packs_well_passes_its_own_check(home: Path, tmp_path: Path) -> None:
    write_text(home / "patients.csv", "name,weight,outcome\n" + "a,1,ill\n" * 400_000)
    run_dir = make_run(home)
    done = export_bundle(home, run_dir, tmp_path / "b.zip", True)
    with ZipFile(done.path) as archive:
        assert archive.getinfo("table/patients.csv").compress_type == ZIP_STORED
    assert unpack_bundle(done.path, done.sha256, tmp_path / "into").table
    with done.path.open("rb") as file:
        assert len(safe_members(file)) == done.files
    assert safe_members(io.BytesIO(done.path.read_bytes()))


# ---- the citation file ----


def test_citation_file_agrees_with_the_settings() -> None:
    import yaml

    said = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    known = config["DEFAULT"]
    assert (said["version"], said["title"]) == (known["version"], known["title"])
    assert said["abstract"] == known["description"] and said["license"].lower() == known["license"]
    assert said["cff-version"] == "1.2.0" and said["message"] and said["authors"] == [{"name": known["author"]}]
