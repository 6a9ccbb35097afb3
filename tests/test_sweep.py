"""Sweeps: what a grid means, what is refused, what the members leave, what the page says, and what happens when one dies."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Project
from hypothesis import given
from hypothesis import strategies as st

from iris_nb.errors import InputError, ParameterError, UnknownRunError
from iris_nb.files import read_json, write_json
from iris_nb.parameters import Parameter
from iris_nb.pipeline import Request, load_stages, plan_values
from iris_nb.settings import Settings, load_settings
from iris_nb.sweep import (
    LARGEST,
    SweepPlan,
    find_sweep,
    jobs_for,
    list_sweeps,
    plan_sweep,
    read_axis,
    read_range,
    split_values,
    sync_sweeps,
    threads_for,
)
from iris_nb.sweeppage import (
    choices,
    counts,
    finished,
    render_sweep,
    shares,
    summarize_metrics,
    sweep_headline,
    sweep_lead,
)

DECLARED = {
    "data": [
        Parameter("seed", "int", 0, "seed", ""),
        Parameter("share", "float", 0.2, "share", ""),
        Parameter("target", "str", "", "column", ""),
        Parameter("drop", "list[str]", [], "columns", ""),
        Parameter("plain", "bool", True, "switch", ""),
    ]
}

# ---- the grammar ----

words = st.text(alphabet="abcxyz019._-", min_size=1, max_size=8)


@given(st.lists(words, min_size=1, max_size=6))
def test_commas_separate(values: list[str]) -> None:
    assert split_values(",".join(values)) == values
    assert split_values(" , ".join(values)) == values


@given(st.lists(st.lists(words, max_size=4), min_size=1, max_size=4))
def test_brackets_keep_their_commas(lists: list[list[str]]) -> None:
    texts = [f"[{','.join(items)}]" for items in lists]
    assert split_values(",".join(texts)) == texts


@given(st.text(max_size=40))
def test_any_text_is_split_or_refused(text: str) -> None:
    try:
        parts = split_values(text)
    except ParameterError:
        return
    assert len(parts) <= text.count(",") + 1 and "".join(parts).replace(",", "").split() is not None


@given(st.integers(-99, 99), st.integers(0, 60), st.integers(1, 9))
def test_ranges_include_both_ends(first: int, more: int, step: int) -> None:
    assert read_range(f"{first}..{first + more}..{step}") == range(first, first + more + 1, step)
    assert first + more in (read_range(f"{first}..{first + more}") or [])


@given(st.sets(st.integers(-500, 500), min_size=1, max_size=20))
def test_numbers_come_back_as_they_were(values: set[int]) -> None:
    listed = sorted(values)
    assert list(read_axis(DECLARED, f"seed={','.join(map(str, listed))}").values) == listed


@given(
    st.text(alphabet="0123456789.,-+[]'{}ae ", max_size=24),
    st.sampled_from(["seed", "share", "target", "drop", "plain"]),
)
def test_no_value_escapes_its_type(text: str, name: str) -> None:
    kinds = {"seed": int, "share": float, "target": str, "drop": list, "plain": bool}
    try:
        axis = read_axis(DECLARED, f"{name}={text}")
    except ParameterError as error:
        assert "\n" not in str(error)
        return
    assert all(type(value) is kinds[name] for value in axis.values) and len(axis.texts) == len(axis.values)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("share=0.2,0.3", (0.2, 0.3)),
        ("share=1..3", (1.0, 2.0, 3.0)),
        ("seed=0..4..2,9", (0, 2, 4, 9)),
        ("drop=[a,b],[c]", (["a", "b"], ["c"])),
        ("drop=a,b", (["a"], ["b"])),
        ("drop=[]", ([],)),
        ("target='a, b',c", ("a, b", "c")),
        ("target=1..3", ("1..3",)),
        ("target=", ("",)),
        ("plain=true,false", (True, False)),
        ("data.seed=1,2", (1, 2)),
        ("10_data.seed=1,2", (1, 2)),
    ],
)
def test_values(text: str, values: tuple[Any, ...]) -> None:
    assert read_axis(DECLARED, text).values == values


def test_a_huge_range_is_counted_and_not_written_out() -> None:
    start = time.monotonic()
    with pytest.raises(ParameterError, match="at most 1,000"):
        read_axis(DECLARED, "seed=0..999999999999")
    assert time.monotonic() - start < 1


def test_jobs_and_threads_share_the_cores() -> None:
    for cores in range(1, 33):
        jobs = jobs_for(cores, 0, 100)
        assert jobs >= 1 and jobs * threads_for(cores, jobs) <= cores
    assert jobs_for(8, 0, 1) == 1 and jobs_for(2, 6, 100) == 6 and threads_for(2, 6) == 1


# ---- planning and refusing ----


@pytest.fixture(scope="module")
def home(make_project: Callable[[str], Project]) -> Iterator[Settings]:
    known = {k: v for k, v in os.environ.items() if k.startswith(("IRIS_NB_", "MLFLOW_"))}
    for key in known:
        del os.environ[key]
    yield load_settings(make_project("plans").home)
    os.environ.update(known)


def plan(settings: Settings, *assignments: str, sure: bool = False, **request: Any) -> SweepPlan:
    return plan_sweep(settings, Request(assignments=list(assignments), **{"profile": "quick"} | request), sure)


def test_members_are_all_combinations_the_last_fastest(home: Settings) -> None:
    planned = plan(home, "seed=0,1", "test_size=0.2,0.3", "folds=4", options={"metric": "accuracy"})
    assert [grid for grid, _ in planned.members] == [
        {"seed": s, "test_size": t} for s in (0, 1) for t in (0.2, 0.3)
    ]  # fmt: skip
    first = planned.members[0][1]
    assert first["models"] == {"seed": 0, "folds": 4, "metric": "accuracy"} and first["data"]["test_size"] == 0.2
    assert planned.facts["metric"] == "accuracy" and planned.facts["data"]["rows"] == 150
    assert list_sweeps(home.reports) == []


@pytest.mark.parametrize(
    ("text", "stage", "values"),
    [
        ("ensembles=[soft],[stacking]", "models", [["soft"], ["stacking"]]),
        ("ensembles=[],[soft,weighted]", "models", [[], ["soft", "weighted"]]),
        ("select=none,l1", "features", ["none", "l1"]),
        ("construct=auto,none", "features", ["auto", "none"]),
        ("tune=none,chosen", "models", ["none", "chosen"]),
    ],
)
def test_what_a_study_may_do_is_a_grid_too(home: Settings, text: str, stage: str, values: list[Any]) -> None:
    planned = plan(home, text)
    name = text.partition("=")[0]
    assert [grid[name] for grid, _ in planned.members] == values
    defaults = plan_values(home.home, load_stages(home.home)[1], Request(profile="quick")).values[stage][name]
    assert [given.get(stage, {}).get(name, defaults) for _, given in planned.members] == values


def test_a_file_gives_fixed_values(home: Settings, tmp_path: Path) -> None:
    path = tmp_path / "common.yaml"
    path.write_text("models: {candidates: [lda, knn]}\ninference: {tolerance: 1.0e-9}\n")
    planned = plan(home, "seed=0..2", files=[path])
    assert all(values["models"]["candidates"] == ["lda", "knn"] for _, values in planned.members)
    written = yaml.safe_load(yaml.safe_dump(planned.members[0][1]))
    assert written["inference"]["tolerance"] == 1e-9


@pytest.mark.parametrize(
    ("assignments", "told"),
    [
        ([], "at least two values"),
        (["seed=3"], "iris-nb run"),
        (["sed=0..3"], "did you mean 'seed'"),
        (["model.seed=0..3"], "did you mean 'models'"),
        (["seed=0..50"], "51 members"),
        (["seed=0..9", "test_size=0.1,0.2,0.3,0.4,0.45,0.5"], "60 members (10 × 6)"),
        (["seed=9..0"], "runs backwards; write 0..9"),
        (["seed=0.."], "not a range"),
        (["seed=1,1"], "twice"),
        (["test_size=0.2,0.20"], "twice"),
        (["seed=1,,2"], "empty value"),
        (["seed"], "has no '='"),
        (["seed=0..2", "seed=5"], "given twice"),
        (["seed=0,1", "models.seed=2"], "given twice"),
        (["test_size=0.2,0.9"], "0.05 to 0.5"),
        (["candidates=[lda,svm],[lda,kmn]"], "did you mean 'knn'"),
        (["candidates=[lda,svm"], "no partner"),
        (["run_dir=a,b"], "run_dir"),
        (["source=iris,wine"], "one table"),
        (["source=nowhere.csv", "seed=0,1"], "nowhere.csv"),
        (["target=nothing", "seed=0,1"], "nothing"),
        (["source=iris"], "at least two values"),
    ],
)
def test_refusals_say_what_to_do(home: Settings, assignments: list[str], told: str) -> None:
    with pytest.raises(InputError) as refusal:
        plan(home, *assignments)
    assert told in str(refusal.value) and "\n" not in str(refusal.value)
    assert not home.reports.exists()


def test_the_largest_sweep_is_not_for_sale(home: Settings) -> None:
    assert len(plan(home, "seed=0..50", sure=True).members) == 51
    with pytest.raises(ParameterError, match="at most 1,000"):
        plan(home, "seed=0..99", "models.repeats=1..20", sure=True)
    assert LARGEST == 1000


def test_options_and_parameters_may_not_disagree(home: Settings) -> None:
    with pytest.raises(ParameterError, match="given twice"):
        plan(home, "metric=accuracy,log_loss", options={"metric": "accuracy"})


def test_a_table_that_only_some_members_can_use_is_left_to_them(home: Settings) -> None:
    planned = plan(home, "target=nothing,species")
    assert planned.facts["data"] == {} and len(planned.members) == 2


@pytest.mark.parametrize("name", ["latest", " ", "x" * 81, "a\nb"])
def test_names_that_cannot_be(home: Settings, name: str) -> None:
    with pytest.raises(InputError, match="cannot be called"):
        plan(home, "seed=0,1", name=name)


def test_no_sweep_is_called_so(home: Settings) -> None:
    with pytest.raises(UnknownRunError, match="no sweeps yet"):
        find_sweep(home.reports, "latest")


def test_the_command_refuses_in_one_sentence(project: Project) -> None:
    for words in (
        ["-p", "sed=0..3"],
        ["-p", "seed=0..60"],
        ["--resume", "latest"],
        ["--resume", "x", "-p", "seed=0,1"],
    ):
        done = project.call("sweep", *words, "--json")
        assert done.returncode == 2 and json.loads(done.stdout)["status"] == "refused", done.stderr
        assert "Traceback" not in done.stderr and project.runs() == []


# ---- a real sweep ----

SMALL = ["-p", "candidates=[majority,lda]", "-p", "bootstrap=100", "--profile", "quick"]


@pytest.fixture(scope="module")
def swept(make_project: Callable[[str], Project]) -> tuple[Project, dict[str, Any]]:
    """A sweep of three members; fifty folds are more than the smallest class allows."""
    project = make_project("sweep")
    return project, project.json("sweep", "iris", "-p", "folds=3,50,4", *SMALL, "--name", "folds", code=1)


@pytest.mark.slow
def test_a_failing_member_does_not_stop_the_others(swept: tuple[Project, dict[str, Any]]) -> None:
    _, result = swept
    assert result["status"] == "failed" and result["error"] == "1 of 3 members is not done"
    assert [m["status"] for m in result["members"]] == ["done", "failed", "done"]
    assert [m["parameters"] for m in result["members"]] == [{"folds": 3}, {"folds": 50}, {"folds": 4}]
    failed = result["members"][1]
    assert "the largest possible is 39" in failed["error"] and failed["metrics"] == {} and failed["run"] is None
    assert result["summary"]["accuracy"]["all"]["members"] == 2
    assert [row["value"] for row in result["summary"]["accuracy"]["by"]["folds"]] == [3, 4]
    assert sum(result["chosen"].values()) == 2 and result["counts"]["passed"] == 2


@pytest.mark.slow
def test_members_are_ordinary_runs_that_are_not_tracked(swept: tuple[Project, dict[str, Any]]) -> None:
    project, result = swept
    for member in [m for m in result["members"] if m["run"]]:
        record = read_json(project.reports / member["run"] / "run.json")
        assert record["status"] == "done" and record["tracked"] is False and record["model"]["version"] is None
        assert record["origin"] == {"kind": "sweep", "id": result["sweep"]}
        assert record["parameters"]["models"]["folds"] == member["parameters"]["folds"]
        training = read_json(project.reports / member["run"] / "training" / "training.json")
        assert training["metrics"]["accuracy"]["value"] == member["metrics"]["accuracy"]
    folder = Path(result["sweep_dir"])
    assert not (folder / "run.json").exists() and len(project.json("runs")["runs"]) == 2
    assert yaml.safe_load((folder / "members" / "1.yaml").read_text())["models"]["folds"] == 3
    hidden = [path.name for path in folder.rglob(".*") if path.name != ".lock"]
    assert hidden == [] and not [path for path in project.runs() if path.name.startswith(".")]


@pytest.mark.slow
def test_ensembles_and_searches_side_by_side_share_the_cores(project: Project) -> None:
    words = [
        "-p",
        "ensembles=[soft],[stacking]",
        "-p",
        "candidates=[lda,forest]",
        "-p",
        "tune=none,chosen",
        "-p",
        "trials=4",
    ]
    process = project.start("sweep", *words, "--profile", "quick", "--jobs", "2", "--json", IRIS_NB_THREADS="2")
    most = 0
    while process.poll() is None:
        most = max(most, sum("iris_nb.workers" in command for command in below(process.pid)))
        time.sleep(0.1)
    out, err = process.communicate(timeout=60)
    assert process.returncode in (0, 3), err + out
    result = json.loads(out)
    assert [member["status"] for member in result["members"]] == ["done"] * 4
    for member in result["members"]:
        record = read_json(project.reports / member["run"] / "run.json")
        assert record["threads"] == 1 and record["environment"]["IRIS_NB_THREADS"] == "1"
        tuned = read_json(project.reports / member["run"] / "models" / "tuning.json")["tune"]
        assert tuned == member["parameters"]["tune"]
    assert most == 0, "two members at a time have a core each, and no helper"


def below(pid: int) -> list[str]:
    """The command lines of all processes that a process has started, and they in turn."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        with suppress(OSError):
            found.append(Path(f"/proc/{one}/cmdline").read_text())
            for thread in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
    return found[1:]


@pytest.mark.slow
def test_a_sweep_is_found_again(swept: tuple[Project, dict[str, Any]]) -> None:
    project, result = swept
    for asked in ("latest", "folds", result["sweep"], result["sweep"][:16]):
        assert find_sweep(project.reports, asked).name == result["sweep"]
    with pytest.raises(UnknownRunError, match="did you mean 'folds'"):
        find_sweep(project.reports, "fold")
    listed = project.json("sweeps")["sweeps"]
    assert [one["sweep"] for one in listed] == [result["sweep"]]
    assert listed[0]["members"] == result["members"]


def entries(project: Project) -> tuple[Any, list[Any]]:
    from iris_nb.tracking import connect

    store = connect(f"sqlite:///{project.home / 'data' / 'mlflow' / 'mlflow.db'}", 20)
    experiment = store.client.get_experiment_by_name("iris")
    return store, list(store.client.search_runs([experiment.experiment_id]))


@pytest.mark.slow
def test_mlflow_has_one_parent_and_a_child_for_each_member(swept: tuple[Project, dict[str, Any]]) -> None:
    project, result = swept
    store, found = entries(project)
    assert len(found) == 4 and result["synced"] is True
    parent = next(run for run in found if run.data.tags.get("iris_nb.sweep") == result["sweep"])
    assert parent.info.status == "FAILED" and parent.data.params["folds"] == "[3, 50, 4]"
    whole = result["summary"]["accuracy"]["all"]
    assert {k: parent.data.metrics[f"accuracy_{k}"] for k in ("min", "median", "max")} == {
        k: whole[k] for k in ("min", "median", "max")
    }
    children = {
        run.data.params["folds"]: run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert {k: run.info.status for k, run in children.items()} == {"3": "FINISHED", "50": "FAILED", "4": "FINISHED"}
    assert children["3"].data.tags["iris_nb.run"] == result["members"][0]["run"]
    assert children["3"].data.metrics["accuracy"] == result["members"][0]["metrics"]["accuracy"]
    assert (
        "largest possible" in children["50"].data.tags["iris_nb.error"]
        and "iris_nb.run" not in children["50"].data.tags
    )
    assert {entry.path for entry in store.client.list_artifacts(parent.info.run_id)} == {"index.html", "sweep.json"}
    assert store.client.search_registered_models() == []


@pytest.mark.slow
def test_a_second_copy_doubles_nothing(swept: tuple[Project, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    project, result = swept
    monkeypatch.delenv("IRIS_NB_TRACKING_URI", raising=False)
    settings = load_settings(project.home)
    assert sync_sweeps(settings) == []
    assert sync_sweeps(settings, everything=True) == [result["sweep"]]
    assert len(entries(project)[1]) == 4


@pytest.mark.slow
def test_an_unknown_or_complete_sweep_is_not_resumed(swept: tuple[Project, dict[str, Any]], tmp_path: Path) -> None:
    _, result = swept
    other = Project(tmp_path / "other")
    other.reports.mkdir()
    copy = shutil.copytree(result["sweep_dir"], other.reports / result["sweep"])
    record = read_json(copy / "sweep.json")
    record["members"] = [m | {"status": "done"} for m in record["members"]]
    write_json(copy / "sweep.json", record)
    done = other.call("sweep", "--resume", "folds")
    assert done.returncode == 2 and "is complete" in done.stderr
    record["members"][0]["status"] = "failed"
    write_json(copy / "sweep.json", record | {"code": {}})
    done = other.call("sweep", "--resume", "folds")
    assert done.returncode == 2 and "have changed since" in done.stderr and "Traceback" not in done.stderr
    write_json(copy / "sweep.json", {"id": result["sweep"], "status": "done"})
    done = other.call("sweep", "--resume", result["sweep"])
    assert done.returncode == 2 and "no sweeps yet" in done.stderr


# ---- the page ----

NASTY = "</script><script>alert('x')</script>{{7*7}}"


def member(
    number: int, parameters: dict[str, Any], value: float | None, chosen: str = "LDA", **more: Any
) -> dict[str, Any]:
    status = {"status": "failed", "error": f"it broke {NASTY}"} if value is None else {"status": "done", "error": None}
    scores = {} if value is None else {"accuracy": value, "log_loss": 1 - value}
    return status | {
        "number": number, "parameters": parameters, "file": f"members/{number}.yaml", "run": None, "seconds": 2.0,
        "metrics": scores, "intervals": {k: [v - 0.1, v + 0.1] for k, v in scores.items()},
        "chosen": chosen if scores else None, "gate": {"passed": value > 0.5, "reasons": []} if scores else None,
    } | more  # fmt: skip


def record_of(grid: dict[str, list[Any]], members: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "format": 1, "id": "20261122T203015-iris-sweep-5f0a", "name": "", "table": "iris", "source": "iris", "status": "done",
        "created": "2026-11-22T20:30:15+00:00", "profile": "quick", "argv": ["iris-nb", "sweep"], "grid": grid,
        "stages": {name: ["data"] for name in grid}, "fixed": {}, "metric": "accuracy", "members": members, "jobs": 2,
        "threads": 1, "seconds": 9.0, "error": None, "data": {"sha256_raw": "0" * 64, "target": "species"}, "git": None,
        "mlflow": {"run_id": None, "tracking": None, "synced": False}, "library_version": "0",
    } | more  # fmt: skip


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    """The page of a sweep whose names are all hostile."""
    grid = {"seed": [0, 1, 2], "positive": [NASTY, "b"]}
    cells = [{"seed": s, "positive": p} for s in grid["seed"] for p in grid["positive"]]
    values = [0.9, 0.8, 0.95, None, 0.4, 0.85]
    models = [NASTY, "LDA", "LDA", "", "k-nearest", "LDA"]
    members = [member(i, c, v, m) for i, (c, v, m) in enumerate(zip(cells, values, models, strict=True), start=1)]
    folder = tmp_path / "20261122T203015-iris-sweep-5f0a"
    write_json(folder / "sweep.json", record_of(grid, members, status="failed", error="1 of 6 members is not done"))
    render_sweep(folder)
    return folder


def test_the_page_is_the_same_every_time_and_escapes_all(nasty: Path) -> None:
    page = (nasty / "index.html").read_text()
    assert "alert('x')" not in re.sub(r"&#39;", "?", page) and "<script>alert" not in page and "{{7*7}}" in page
    assert page == render_sweep(nasty).read_text()
    assert "Content-Security-Policy" in page and not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "Accuracy was 0.400 to 0.950 over 5 members, median 0.850." in page
    assert page.count("is no interval for new data") == 1
    assert "4 of 5 passed their gate" in page and "1 member failed" in page


@pytest.mark.parametrize("status", ["running", "failed", "killed"])
def test_a_page_without_any_score(tmp_path: Path, status: str) -> None:
    members = [member(1, {"seed": 0}, None), member(2, {"seed": 1}, None, status="pending", error=None)]
    record = record_of({"seed": [0, 1]}, members, status=status, error=None, seconds=None, metric="accuracy")
    write_json(tmp_path / "sweep.json", record)
    page = render_sweep(tmp_path).read_text()
    assert "no member of 2 is done" in page and 'id="sweep-live"' not in page


def test_words_fit_the_numbers() -> None:
    grid = {"seed": [0, 1, 2, 3], "test_size": [0.2, 0.3]}
    cells = [{"seed": s, "test_size": t} for s in grid["seed"] for t in grid["test_size"]]
    moved = record_of(grid, [member(i, c, 0.9 if c["test_size"] == 0.3 else 0.95) for i, c in enumerate(cells, 1)])
    assert "100\u00a0% goes with test_size, where luck alone would give 14\u00a0%" in sweep_lead(moved)
    assert "from 0.900 (test_size 0.3) to 0.950 (test_size 0.2)" in sweep_lead(moved)
    assert shares(moved, "accuracy")[0].share == pytest.approx(1) and shares(moved, "accuracy")[
        1
    ].share == pytest.approx(0)
    same = record_of(grid, [member(i, c, 0.9) for i, c in enumerate(cells, 1)])
    assert sweep_headline(same) == "Accuracy was 0.900 in every one of 8 members" and shares(same, "accuracy") == []
    assert "No parameter moved it." in sweep_lead(same)
    once = record_of({"seed": [0, 1, 2]}, [member(i, {"seed": i - 1}, 0.9 + i / 100) for i in (1, 2, 3)])
    assert "tried once" in sweep_lead(once)


def test_candidates_are_named_ties_are_told_and_the_advice_registers_nothing(tmp_path: Path) -> None:
    grid: dict[str, list[Any]] = {"candidates": [["lda"], ["knn", "tree"]], "seed": [0, 1]}
    cells = [{"candidates": c, "seed": s} for c in grid["candidates"] for s in grid["seed"]]
    members = [member(i, c, 0.9, "LDA" if c["candidates"] == ["lda"] else "Tree") for i, c in enumerate(cells, 1)]
    git = {"commit": "0123456789" * 4, "dirty": True}
    write_json(tmp_path / "sweep.json", record_of(grid, members, git=git))
    page = render_sweep(tmp_path).read_text()
    shown = page.replace("&#34;", '"')
    assert "<code>lda</code>" in page and "<code>knn, tree</code>" in page and '["lda"]' not in shown
    assert "each: LDA and Tree" in page and "--profile quick --untracked</code>" in page
    assert f"commit <code>{git['commit']}</code>, with changes" in page


values = st.one_of(st.none(), st.floats(0, 1))


@given(st.lists(values, min_size=4, max_size=4), st.lists(st.sampled_from(["LDA", "SVM"]), min_size=4, max_size=4))
def test_sums_hold_for_any_scores(scores: list[float | None], models: list[str]) -> None:
    cells = [{"a": a, "b": b} for a in (0, 1) for b in (["x"], ["y"])]
    members = [member(i, c, v, m) for i, (c, v, m) in enumerate(zip(cells, scores, models, strict=True), start=1)]
    record = record_of({"a": [0, 1], "b": [["x"], ["y"]]}, members)
    done = len(finished(record))
    assert sum(choice["count"] for choice in choices(record)) == done == counts(record)["done"]
    for metric in summarize_metrics(record).values():
        assert metric["all"]["min"] <= metric["all"]["median"] <= metric["all"]["max"]
        for rows in metric["by"].values():
            assert sum(row["members"] for row in rows) == metric["all"]["members"]
    for share in shares(record, "accuracy"):
        assert 0 <= share.share <= 1 + 1e-9 and 0 < share.chance < 1
    assert sweep_headline(record) and isinstance(sweep_lead(record), str)


def test_a_sweep_over_many_numbers_gets_an_axis(tmp_path: Path) -> None:
    grid = {"seed": list(range(60)), "scale": ["a", "b"]}
    cells = [{"seed": s, "scale": c} for s in grid["seed"] for c in grid["scale"]]
    write_json(tmp_path / "sweep.json", record_of(grid, [member(i, c, 0.5 + i / 400) for i, c in enumerate(cells, 1)]))
    page = render_sweep(tmp_path).read_text()
    live = json.loads(re.search(r'id="sweep-live">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert live["parameters"]["seed"]["axis"] is True and live["parameters"]["scale"]["names"] == ["a", "b"]


def test_the_page_in_a_browser(nasty: Path, browser: Any) -> None:
    for width, script in ((1280, True), (400, True), (400, False)):
        context = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=script)
        page, heard = context.new_page(), []
        page.on("console", lambda message, heard=heard: heard.append(message.text))
        page.on("dialog", lambda dialog, heard=heard: heard.append(dialog.message))
        page.on("pageerror", lambda error, heard=heard: heard.append(str(error)))
        page.goto((nasty / "index.html").as_uri())
        if not script:
            assert page.locator(".still img").first.is_visible() and not page.locator("#sweep-metric").is_visible()
            continue
        page.wait_for_selector("#sweep-figure .main-svg")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.select_option("#sweep-metric", "log_loss")
        page.select_option("#sweep-parameter", "positive")
        assert "Log loss" in page.inner_text("#sweep-figure") and "<script>" in page.inner_text("#sweep-figure")
        for _ in range(2):
            page.get_by_role("button", name="Accuracy").click()
        column = page.locator("table.members tbody tr > :first-child")
        assert column.all_inner_texts() == ["3", "1", "6", "2", "5", "4"]  # the one without a score is last
        assert heard == []


# ---- what dies ----


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def sweep_record(project: Project) -> dict[str, Any]:
    found = [path for path in project.runs() if (path / "sweep.json").exists() and not path.name.startswith(".")]
    return read_json(found[0] / "sweep.json") if found else {}


def members_of(sweep_id: str) -> list[int]:
    """The live processes of a sweep's members."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"sweep:{sweep_id}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def under_way(project: Project) -> dict[str, Any]:
    """A record with one member done and another at a stage of its own."""
    record = sweep_record(project)
    status = [member["status"] for member in record.get("members", [])]
    return record if "done" in status and "running" in status else {}


@pytest.mark.slow
def test_a_sweep_that_is_killed_takes_its_members_with_it(project: Project) -> None:
    process = project.start("sweep", "-p", "seed=0..7", *SMALL, "--jobs", "2")
    record = wait_for(lambda: under_way(project))
    wait_for(lambda: members_of(record["id"]))
    process.kill()
    process.communicate(timeout=30)
    wait_for(lambda: not members_of(record["id"]), 30)
    listed = project.json("sweeps")["sweeps"][0]
    assert listed["status"] == "killed" and "without a word" in listed["error"]
    assert {"done", "killed", "pending"} == {member["status"] for member in listed["members"]}
    page = Path(listed["report"]).read_text()
    assert "This sweep was stopped" in page and f"--resume {record['id']}" in page
    assert all(run["status"] in ("done", "killed") for run in project.json("runs")["runs"])
    whole = project.json("sweep", "--resume", "latest", "--jobs", "2")
    assert whole["status"] == "done" and whole["counts"]["done"] == 8 and whole["synced"] is True
    kept = {m["number"]: m["run"] for m in listed["members"] if m["status"] == "done"}
    assert kept.items() <= {m["number"]: m["run"] for m in whole["members"]}.items()
    assert len({m["run"] for m in whole["members"]}) == 8
    assert len(entries(project)[1]) == 9


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_says_so_and_keeps_what_is_done(number: signal.Signals, project: Project) -> None:
    process = project.start("sweep", "-p", "seed=0..5", *SMALL)
    record = wait_for(lambda: under_way(project))
    start = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - start < 20 and process.returncode == 128 + number
    assert "Traceback" not in err and "--resume" in err and not members_of(record["id"])
    ended = sweep_record(project)
    assert (
        ended["status"] == "killed"
        and number.name in ended["error"]
        and "done" in {m["status"] for m in ended["members"]}
    )
    runs = {run["run"]: run["status"] for run in project.json("runs")["runs"]}
    assert set(runs.values()) <= {"done", "killed"}
    assert all(runs.get(m["run"], "killed") == m["status"] for m in ended["members"] if m["run"])


@pytest.mark.slow
def test_a_store_that_is_away_loses_nothing(project: Project) -> None:
    away = "http://127.0.0.1:9"
    result = project.json("sweep", "-p", "seed=0,1", *SMALL, IRIS_NB_TRACKING_URI=away)
    assert result["status"] == "done" and result["synced"] is False
    assert "iris-nb sync" in Path(result["report"]).read_text()
    settings = load_settings(project.home)
    with pytest.raises(InputError, match="does not answer"):
        sync_sweeps(settings.model_copy(update={"tracking_uri": away, "tracking_timeout": 2}))
    assert sync_sweeps(settings) == [result["sweep"]] and len(entries(project)[1]) == 3
    assert "not synced" not in Path(result["report"]).read_text()


@pytest.mark.slow
def test_a_table_that_changes_under_way_is_noticed(project: Project, tmp_path: Path) -> None:
    table = tmp_path / "garden.csv"
    shutil.copyfile(ROOT / "data" / "raw" / "iris.csv", table)
    process = project.start("sweep", table, "--target", "species", "-p", "seed=0..2", *SMALL, "--jobs", "1")
    wait_for(lambda: under_way(project))
    table.write_text(table.read_text().replace("5.1,3.5", "5.2,3.5"))
    process.communicate(timeout=300)
    record = sweep_record(project)
    assert process.returncode == 1 and record["status"] == "failed"
    assert "the table was changed" in record["members"][2]["error"]
