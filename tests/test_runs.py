"""Manifests: what every kind of run leaves can be read again, and what has lost an entry is refused by name."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT, Project

from iris_nb.clean import list_items, why_kept
from iris_nb.cli import contract_accept, runs, show
from iris_nb.contract import infer_contract, write_contract
from iris_nb.ending import _sync
from iris_nb.errors import InputError, ParameterError
from iris_nb.files import read_json, write_json, write_text
from iris_nb.folders import STAGES
from iris_nb.pipeline import Request, first_record, make_plan, summarize
from iris_nb.provenance import source_patch
from iris_nb.recorder import Recorder, reopen
from iris_nb.reproduce import checked_out
from iris_nb.resume import debug_notebook
from iris_nb.runs import (
    AT_THE_END,
    ENTRIES,
    STAGE_ENTRIES,
    begin_run,
    blank_record,
    blank_stage,
    list_runs,
    read_evidence,
    read_run,
    seal_of,
    write_manifest,
)
from iris_nb.settings import load_settings


@pytest.fixture(scope="module")
def first() -> Callable[..., dict[str, Any]]:
    """The manifest with which the runner begins a run, for a request."""
    settings = load_settings().model_copy(update={"home": ROOT})
    plan = make_plan(settings, Request("iris", profile="quick"))

    def made(**request: Any) -> dict[str, Any]:
        return first_record(replace(plan, request=replace(plan.request, **request)), settings)

    return made


def run_to(reports: Path, begun: dict[str, Any], status: str, stages: int = len(STAGES)) -> Path:
    """A run whose runner did some stages and then ended so; `running` for one that is cut off."""
    with begin_run(reports, "iris", begun) as run_dir:
        recorder = Recorder(run_dir)
        for stage in STAGES[:stages]:
            path = write_text(run_dir / stage / f"{stage}.json", "{}")
            recorder.stage(stage, status="running")
            recorder.stage(
                stage, status="done", seconds=0.5, process=4711, key="ab12", files={f"{stage}/{path.name}": ""}
            )
        if status == "running":
            recorder.stage(STAGES[stages], status="running")
        else:
            recorder.end(status, None if status in ("done", "partial") else "it broke")
    return run_dir


KINDS: dict[str, tuple[dict[str, Any], str, int]] = {
    "done": ({}, "done", 6),
    "named and untracked": ({"name": "mine", "tracked": False, "argv": ("iris-nb", "run")}, "done", 6),
    "failed at once": ({}, "failed", 0),
    "failed": ({}, "failed", 3),
    "stopped": ({}, "killed", 2),
    "cut off": ({}, "running", 2),
    "one stage": ({"origin": ("stage", "20261122T203015-iris-5f0a")}, "partial", 3),
    "member of a sweep": ({"origin": ("sweep", "20261122T203015-iris-sweep-5f0a")}, "done", 6),
    "reproduction": ({"origin": ("reproduction", "20261122T203015-iris-5f0a")}, "done", 6),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_is_evidence(kind: str, first: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    request, status, stages = KINDS[kind]
    run_dir = run_to(tmp_path, first(**request), status, stages)
    record = read_evidence(run_dir)
    assert record["status"] == ("killed" if status == "running" else status)
    assert ENTRIES.keys() <= record.keys() and all(entry.keys() >= STAGE_ENTRIES.keys() for entry in record["stages"])
    assert [listed["id"] for listed in list_runs(tmp_path)] == [run_dir.name]


def test_a_run_that_is_gone_on_with_is_evidence(first: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    run_dir = run_to(tmp_path, first(), "failed", 3)
    with reopen(run_dir) as recorder:
        recorder.save(status="running", error=None, finished=None, attempts=[{"status": "failed"}])
        with pytest.raises(InputError, match="under way"):
            read_evidence(run_dir)
        recorder.end("done")
    assert read_evidence(run_dir)["attempts"]


@pytest.fixture(scope="module")
def sound(first: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is done."""
    return run_to(tmp_path_factory.mktemp("reports"), first(), "done")


def refused(run_dir: Path, record: dict[str, Any], tmp_path: Path) -> str:
    """What is said of a run with this manifest, under a fitting seal; the list of runs is read all the same."""
    copy = tmp_path / run_dir.name
    write_json(copy / "run.json", record | ({"seal": seal_of(record)} if "seal" in record else {}))
    with pytest.raises(InputError) as caught:
        read_evidence(copy)
    list_runs(tmp_path)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_manifest_that_lacks_an_entry_is_refused(sound: Path, tmp_path: Path) -> None:
    whole = read_json(sound / "run.json")
    other = {"id": "is not that of this run", "format": "format None", "seal": "its seal does not fit"}
    for name in whole:
        said = refused(sound, {key: value for key, value in whole.items() if key != name}, tmp_path)
        assert other.get(name, f"it has no entry '{name}'") in said
        if name in ENTRIES | AT_THE_END:
            assert list_runs(tmp_path) == []


def test_a_stage_that_lacks_an_entry_is_refused(sound: Path, tmp_path: Path) -> None:
    whole = read_json(sound / "run.json")
    for name in whole["stages"][2]:
        stages = [dict(entry) for entry in whole["stages"]]
        del stages[2][name]
        said = refused(sound, whole | {"stages": stages}, tmp_path)
        assert (
            "its entry 'stages'" in said if name in ("name", "status") else f"'{name}' for the stage 'models'" in said
        )


def test_an_entry_of_another_shape_is_refused(sound: Path, tmp_path: Path) -> None:
    whole = read_json(sound / "run.json")
    for name in (*ENTRIES, *AT_THE_END):
        assert f"its entry '{name}' is not" in refused(
            sound, whole | {name: {} if name in ("stages", "argv") else [[]]}, tmp_path
        )
    for name in STAGE_ENTRIES:
        stages = [*whole["stages"][:5], whole["stages"][5] | {name: [[]]}]
        assert "its entry 'stages' is not" in refused(sound, whole | {"stages": stages}, tmp_path)


def test_a_run_of_an_earlier_format_can_still_be_looked_at(tmp_path: Path) -> None:
    run_dir = tmp_path / "20261122T203015-iris-5f0a"
    write_json(run_dir / "run.json", {"format": 1, "id": run_dir.name, "status": "done", "stages": []})
    assert read_run(run_dir)["status"] == "done"
    with pytest.raises(InputError, match="format 1"):
        read_evidence(run_dir)


def test_a_blank_manifest_is_whole(tmp_path: Path) -> None:
    run_dir = tmp_path / "20261122T203015-iris-5f0a"
    stages = [blank_stage(stage) for stage in STAGES]
    write_manifest(run_dir, blank_record(id=run_dir.name, status="done", stages=stages))
    assert read_evidence(run_dir)["stages"] == stages


# ---- what goes on around them ---------------------------------------------------------------------------------------


def test_clean_keeps_a_run_whose_manifest_is_damaged(first: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    settings = load_settings().model_copy(update={"reports_dir": tmp_path})
    sound, torn = (run_to(tmp_path, first(tracked=False), "done") for _ in range(2))
    (torn / "run.json").write_bytes((torn / "run.json").read_bytes()[:300])
    kept = {item.path.name: why_kept(item, lambda model: []) for item in list_items(settings)}
    assert kept[sound.name] == "" and "manifest is damaged" in kept[torn.name]


def test_sync_leaves_a_run_alone_that_is_being_gone_on_with(
    first: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run_dir = run_to(tmp_path / "reports", first(), "failed", 3)
    store = f"sqlite:///{tmp_path / 'store.db'}"
    changed = {"reports_dir": tmp_path / "reports", "data_dir": tmp_path, "tracking_uri": store}
    settings = load_settings().model_copy(update=changed)
    snapshot = read_evidence(run_dir)
    with reopen(run_dir) as recorder:
        recorder.save(status="running", error=None)
        before = (run_dir / "run.json").read_bytes()
        assert _sync(settings, [snapshot]) == []
        assert (run_dir / "run.json").read_bytes() == before and recorder.reserve.exists()
        recorder.end("failed", "it broke again")
    assert _sync(settings, [snapshot]) == [run_dir.name] and read_run(run_dir)["mlflow"]["synced"]


def test_contracts_that_are_nowhere_are_refused_before_anything_begins() -> None:
    settings = load_settings().model_copy(update={"home": ROOT})
    with pytest.raises(ParameterError, match=r"there is no folder .*nowhere; contracts_dir is the folder"):
        make_plan(settings, Request("iris", assignments=["contracts_dir=nowhere"]))


def test_a_folder_that_is_called_like_a_bundled_table_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings().model_copy(update={"home": ROOT})
    monkeypatch.chdir(tmp_path)
    Path("iris").mkdir()
    assert make_plan(settings, Request("iris")).values.values["data"]["source"] == "iris"


SETTINGS_OF_GIT = [
    "diff.noprefix=true", "diff.mnemonicPrefix=true", "color.ui=always", "diff.external=false", "diff.py.textconv=true",
    "apply.whitespace=fix",
]  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS_OF_GIT)
def test_the_recorded_patch_obeys_no_setting_of_the_user(tmp_path: Path, setting: str) -> None:
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org", "-C", str(home), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    home = tmp_path / "project"
    write_text(home / "iris_nb" / "x.py", "one = 1\ntwo = 2\n")
    write_text(home / ".gitattributes", "*.py diff=py\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "First")
    git("config", *setting.split("="))
    write_text(home / "iris_nb" / "x.py", "one = 1\ntwo = 3   \n")
    write_text(home / "iris_nb" / "y.py", "new = True\n")
    patch = source_patch(home)
    assert patch
    with checked_out(home, git("rev-parse", "HEAD"), patch, tmp_path) as tree:
        for name in ("x.py", "y.py"):
            assert (tree / "iris_nb" / name).read_bytes() == (home / "iris_nb" / name).read_bytes()


# ---- runs whose files are damaged ----


def scored(reports: Path, first: Callable[..., dict[str, Any]]) -> Path:
    """A run that is done, with the files that its short answer is read from."""
    begun = first()
    begun["parameters"]["training"] = {"confidence": 0.5}
    run_dir = run_to(reports, begun, "done")
    scores = {
        "accuracy": {"value": 0.9, "low": 0.875, "high": 0.95},
        "roc_auc": {"value": None, "low": None, "high": None},
    }
    gate = {"metric": "accuracy", "passed": True, "reasons": []}
    write_json(run_dir / "training" / "training.json", {"title": "LDA", "metrics": scores, "gate": gate})
    write_json(run_dir / "data" / "data.json", {"split": {"train": 4, "test": 2}, "show_rows": True})
    return run_dir


def test_the_short_answer_says_how_sure_its_intervals_are(first: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    run_dir = scored(tmp_path, first)
    short = summarize(run_dir, read_run(run_dir))
    assert short["confidence"] == 0.5 and short["intervals"]["accuracy"] == [0.875, 0.95]
    assert short["metrics"] == {"accuracy": 0.9, "roc_auc": None} and short["damaged"] == []


@pytest.mark.parametrize("name", ["data/data.json", "training/training.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"split": [], "metrics": {"a": 1}}', "\xff"])
def test_a_damaged_file_is_named_and_takes_nothing_else_with_it(
    name: str, text: str, first: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run_dir = scored(tmp_path, first)
    (run_dir / name).write_bytes(text.encode("latin-1"))
    short = summarize(run_dir, read_run(run_dir))
    assert short["damaged"] == [name] and short["status"] == "done"
    assert (short["rows"] is None) == (name == "data/data.json")
    assert (short["metrics"] == {}) == (name == "training/training.json")


def test_commands_that_look_at_a_damaged_run(
    first: Callable[..., dict[str, Any]],
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, damaged = scored(project.reports, first), scored(project.reports, first)
    (damaged / "data" / "data.json").write_text("{")
    monkeypatch.chdir(project.home)
    runs(as_json=True)
    listed = json.loads(capsys.readouterr().out)["runs"]
    assert {run["run"]: run["damaged"] for run in listed} == {whole.name: [], damaged.name: ["data/data.json"]}
    runs()
    assert "damaged: data/data.json" in capsys.readouterr().out
    show(damaged.name)
    shown = capsys.readouterr().out
    assert "0.900 (50 % interval 0.875 to 0.950, on held-out rows)" in shown
    assert "damaged            data/data.json" in shown


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_a_contract_is_not_accepted_by_halves(
    text: str | None, first: Callable[..., dict[str, Any]], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = scored(project.reports, first)
    table = pd.DataFrame({"size": [1.5, 2.5, 3.5, 4.5], "kind": ["a", "b", "a", "b"]})
    write_contract(run_dir / "data" / "contract.json", infer_contract(table, "pebbles", "kind"))
    (run_dir / "data" / "data.json").unlink()
    if text is not None:
        write_text(run_dir / "data" / "data.json", text)
    monkeypatch.chdir(project.home)
    with pytest.raises(InputError, match="missing or damaged"):
        contract_accept(run_dir.name)
    assert not (project.home / "data" / "contracts" / "pebbles.json").exists()


# ---- the notebook in which a failure is looked into ----


def test_what_was_tried_out_in_a_debug_notebook_stays(first: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    settings, run_dir = load_settings(), run_to(tmp_path, first(), "failed", 2)
    with reopen(run_dir) as recorder:
        recorder.stage("features", status="failed")
        recorder.end("failed", "it broke")
    path, kept = debug_notebook(settings, run_dir)
    written = path.read_bytes()
    assert path == run_dir / "debug" / "features.ipynb" and not kept
    assert debug_notebook(settings, run_dir) == (path, False) and path.read_bytes() == written
    tried = path.with_name("tried.ipynb")
    for place in (path, tried):
        place.write_text("what somebody tried out")
    (run_dir / "debug" / "inputs" / "data" / "mine.txt").write_text("mine")
    assert debug_notebook(settings, run_dir) == (path, True) and path.read_text() == "what somebody tried out"
    assert (run_dir / "debug" / "inputs" / "data" / "mine.txt").exists()
    assert debug_notebook(settings, run_dir, replaced=True) == (path, False) and path.read_bytes() == written
    assert tried.exists() and not (run_dir / "debug" / "inputs" / "data" / "mine.txt").exists()
