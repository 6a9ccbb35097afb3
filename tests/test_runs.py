"""Manifests: what every kind of run leaves can be read again, and what has lost an entry is refused by name."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from iris_nb.clean import list_items, why_kept
from iris_nb.ending import _sync
from iris_nb.errors import InputError, ParameterError
from iris_nb.files import read_json, write_json, write_text
from iris_nb.folders import STAGES
from iris_nb.pipeline import Request, first_record, make_plan
from iris_nb.provenance import source_patch
from iris_nb.recorder import Recorder, reopen
from iris_nb.reproduce import checked_out
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
