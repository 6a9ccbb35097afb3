"""Promotions on real stores and real runs: what is judged, what is written, and in which order."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Project
from hypothesis import given
from hypothesis import strategies as st

from iris_nb import promotion
from iris_nb.candidates import candidate_named
from iris_nb.data import StudyData, load_data
from iris_nb.errors import InputError, ModelFileError
from iris_nb.features import FeatureOptions, plan_features
from iris_nb.files import read_json, sha256_file
from iris_nb.folders import open_run
from iris_nb.gate import HOLD, PROMOTE, REJECT, GateTerms, groups_in, judge_promotion
from iris_nb.promotion import (
    Promotion,
    Specification,
    new_rows,
    promote,
    promotion_lines,
    read_specification,
    refit,
)
from iris_nb.registry import open_store, version_of
from iris_nb.runs import PROMOTIONS, records_in
from iris_nb.settings import Settings, load_settings
from iris_nb.tracking import Store, connect, tracking_uri

PATIENT = GateTerms(latency_ms=60_000)  # how fast a busy machine is, is no matter of these tests
FEW = GateTerms(folds=3, repeats=2, latency_ms=60_000)


@pytest.fixture
def settings(studied: tuple[Project, dict[str, Any]]) -> Settings:
    """Those of the project with one run; tests only look at it."""
    return load_settings(studied[0].home)


@pytest.fixture
def store(settings: Settings) -> Store:
    return open_store(settings)


def production(settings: Settings, name: str = "iris") -> str:
    """The version in production, as MLflow says it."""
    aliases = connect(tracking_uri(settings), 20).client.get_registered_model(name).aliases
    return str(aliases.get("production", ""))


def word(found: Promotion, check: str) -> str:
    assert found.verdict is not None
    return next(reason.verdict for reason in found.verdict.reasons if reason.check == check)


cells = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", None])), min_size=1, max_size=12)


@given(cells, cells, st.randoms(use_true_random=False))
def test_new_rows_are_found_by_content_wherever_they_stand(asked: Any, fitted: Any, random: Any) -> None:
    left, right = (pd.DataFrame(rows, columns=["x", "c"]) for rows in (asked, fitted))
    found = new_rows(left, right, ["x", "c"])
    assert found.tolist() == [row not in fitted for row in asked]
    order = list(range(len(fitted)))
    random.shuffle(order)
    again = new_rows(left, right.iloc[order][["c", "x"]].assign(more=1), ["x", "c"])
    assert again.tolist() == found.tolist()


def test_rows_without_a_common_column_count_as_met() -> None:
    left, right = pd.DataFrame({"x": [1, 2]}), pd.DataFrame({"y": [3]})
    assert not new_rows(left, right, ["x"]).any()
    numbers = new_rows(pd.DataFrame({"x": [1.0, -0.0, np.nan]}), pd.DataFrame({"x": [0, 2]}), ["x"])
    assert numbers.tolist() == [True, False, True]


def files_of(project: Project) -> list[Path]:
    """What it holds, but for locks and copies of verified models."""
    copies = project.home / "data" / "cache" / "registry"
    found = [path for path in project.home.rglob("*") if path.is_file() and copies not in path.parents]
    return sorted(path for path in found if path.suffix != ".lock")


def test_a_dry_run_judges_and_writes_nothing(studied: tuple[Project, dict[str, Any]], settings: Settings) -> None:
    run_dir = Path(studied[1]["run_dir"])
    before = files_of(studied[0])
    found = promote(settings, terms=PATIENT, dry_run=True)
    assert found.action == "none" and found.promoted and found.exit_code == 0
    assert found.verdict is not None and found.verdict.verdict == PROMOTE, found.verdict.against
    assert found.version == studied[1]["model"]["version"] and found.record["evidence"]["champion"] is None
    assert files_of(studied[0]) == before
    assert production(settings) == "" and records_in(run_dir / PROMOTIONS) == []
    said = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert said["dry_run"] and said["exit_code"] == 0 and said["evidence"]["parity"]["labels_differ"] == 0
    assert max(len(line) for line in promotion_lines(found)) <= 80


def test_every_way_to_name_a_version(studied: tuple[Project, dict[str, Any]], settings: Settings, store: Store) -> None:
    run, version = studied[1]["run"], studied[1]["model"]["version"]
    ways = ("staging", "latest", "first", run, run[:8], run[-4:], version, f"iris/{version}", "iris@staging")
    for way in (*ways, f"models:/iris/{version}", "models:/iris@staging"):
        found = version_of(store, settings, way)
        assert (found.name, found.version) == ("iris", version), way


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("production", "no model has the alias 'production'; there is: iris"),
        ("99", "no model has the version '99'; there is: iris"),
        ("iris/99", "'iris' has no version '99'; versions: '1'"),
        ("iris@prod", "has the alias 'prod'; aliases: staging"),
        ("tulips/1", "there is no registered model 'tulips'; there is: iris"),
        ("nosuchrun", "no run is called 'nosuchrun'"),
        ("models:/iris/1; drop", "has no version '1; drop'|no registered model"),
        ("x' or '1'='1", "no run is called"),
    ],
)
def test_a_name_that_means_nothing_gets_a_sentence(settings: Settings, store: Store, asked: str, says: str) -> None:
    with pytest.raises(InputError, match=says.replace("'", ".")) as caught:
        version_of(store, settings, asked)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_force_and_reason_go_together(settings: Settings) -> None:
    with pytest.raises(InputError, match="--force needs --reason"):
        promote(settings, force=True, reason=" ")
    with pytest.raises(InputError, match="--reason is for --force"):
        promote(settings, reason="because")


def test_a_table_that_is_not_there_is_named_though_none_is_needed(settings: Settings) -> None:
    with pytest.raises(InputError, match=r"the table 'nowhere.csv' is not there"):
        promote(settings, files=["nowhere.csv"])
    assert production(settings) == ""


def test_without_a_store_nothing_is_made(tmp_path: Path, project: Project) -> None:
    with pytest.raises(InputError, match="no registered models yet"):
        promote(load_settings(project.home))
    assert not (project.home / "data" / "mlflow").exists()


def test_a_specification_is_read_as_it_was_written(studied: tuple[Project, dict[str, Any]]) -> None:
    run_dir = Path(studied[1]["run_dir"])
    one = read_specification(run_dir)
    assert one.candidate.title == studied[1]["chosen"] and one.calibration in ("none", "sigmoid", "temperature")
    assert one.to_dict() == read_specification(run_dir).to_dict()
    json.dumps(one.to_dict())


@pytest.mark.parametrize("calibration", ["none", "sigmoid"])
def test_refits_do_not_depend_on_who_is_called_champion(calibration: str) -> None:
    data = load_data(open_run(""))
    plan = plan_features(data.contract, FeatureOptions("none", "standard", 20, 0.01))
    lda, tree = (Specification(candidate_named(name), plan, "none", calibration) for name in ("lda", "tree"))
    one, other = refit(lda, tree, data, FEW), refit(tree, lda, data, FEW)
    assert np.allclose(one["differences"], [-gap for gap in other["differences"]]) and len(one["differences"]) == 6
    assert one["test_to_train"] == pytest.approx(0.5, abs=0.01)
    assert refit(lda, lda, data, FEW)["same"]


def test_a_specification_that_cannot_be_fitted_here_is_named() -> None:
    data = load_data(open_run(""))
    plan = plan_features(data.contract, FeatureOptions("none", "standard", 20, 0.01))
    other = load_data(open_run("")).contract
    renamed = type(other)(
        other.table,
        other.target,
        tuple(type(c)(**(vars(c) | {"name": "stem"})) if c.name == "petal_width" else c for c in other.columns),
    )
    away = plan_features(renamed, FeatureOptions("none", "standard", 20, 0.01))
    both = [Specification(candidate_named("lda"), one, "none", "none") for one in (plan, away)]
    with pytest.raises(InputError, match=r"the champion could not be fitted anew.*stem"):
        refit(*both, data, FEW)


@pytest.mark.parametrize("named", ["", "plant"])
def test_rows_of_a_named_group_are_told_by_group(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data(open_run(""))
    facts = data.facts | {"split": data.facts["split"] | {"group": named}}
    plants = pd.Series(np.arange(len(data.split)) // 5, index=data.split.index)
    data = StudyData(data.frame, data.contract, data.split.assign(group=plants), facts)
    classes, labels = tuple(data.classes), data.test_labels.to_numpy()
    sides = [SimpleNamespace(name=name, predictor=SimpleNamespace(classes=classes)) for name in ("right", "first")]
    answers = {"right": (labels[:, None] == np.array(classes)).astype(float), "first": np.eye(3)[np.zeros(30, int)]}
    monkeypatch.setattr(promotion, "_asked", lambda side, frame: answers[side.name])
    unseen = promotion.compare_unseen(*sides, data, data.frame.iloc[:0])  # type: ignore[arg-type]
    counted, (first, *others) = unseen["classes"], classes
    assert [counted[name]["mended"] for name in classes] == [0, 10, 10]
    if not named:
        assert set(counted[first]) == {"rows", "mended", "broken"} and set(unseen["brier"]) == {"difference", "error"}
        return
    for name in classes:
        held = np.array(counted[name]["groups"])
        assert held[:, 1].sum() == 10 and held[:, 2].sum() == counted[name]["mended"]
        assert (held[:, 2] == (held[:, 1] if name in others else 0)).all()
    sizes = np.unique(plants[(data.split["part"] == "test").to_numpy()], return_counts=True)[1]
    assert unseen["brier"]["alike"] == pytest.approx(sizes.sum() ** 2 / (sizes**2).sum())
    assert groups_in(counted) == len(sizes)
    json.dumps(unseen, allow_nan=False)


def test_the_error_of_a_brier_score_counts_groups_once() -> None:
    random = np.random.default_rng(0)
    codes, left, right = random.integers(2, size=40), *random.dirichlet([1, 1], (2, 40))
    plain = promotion._brier_gap(codes, [left, right])
    single = promotion._brier_gap(codes, [left, right], np.arange(40))
    assert single == pytest.approx(plain | {"alike": 40})
    often = [np.repeat(part, 25, axis=0) for part in (codes, left, right)]
    grouped = promotion._brier_gap(often[0], often[1:], np.repeat(np.arange(40), 25))
    assert grouped == pytest.approx(plain | {"alike": 40})
    assert promotion._brier_gap(codes, [left, right], np.zeros(40, dtype=int))["error"] is None


# The stories below run studies of their own and move aliases.


@pytest.fixture(scope="module")
def played(make_project: Callable[[str], Project], warm_cache: Path) -> tuple[Project, dict[str, Any], dict[str, Any]]:
    """A project with two models of Iris, of which the second is probably worse and the data cannot tell."""
    project = make_project("gate")
    shutil.copytree(warm_cache, project.home / "data" / "cache")
    first = project.json("run", "--profile", "quick", "--name", "first")
    bayes = ("-p", "candidates=[naive_bayes]", "--name", "bayes")
    return project, first, project.json("run", "--profile", "quick", *bayes)


@contextmanager
def away(path: Path) -> Iterator[None]:
    """A folder that is not on this machine for a while."""
    hidden = path.with_name(f".away-{path.name}")
    path.rename(hidden)
    try:
        yield
    finally:
        path.rename(hidden.with_name(path.name)) if path.exists() else hidden.rename(path)


@pytest.mark.slow
def test_promote_hold_force_and_what_is_kept(played: tuple[Project, dict[str, Any], dict[str, Any]]) -> None:
    project, first, bayes = played
    settings = load_settings(project.home)
    client = connect(tracking_uri(settings), 20).client

    done = promote(settings, "first", PATIENT)
    assert (done.action, done.exit_code, production(settings)) == ("promote", 0, "1")
    assert done.evidence_file is not None and done.evidence_file.parent.parent == Path(first["run_dir"])
    assert sha256_file(done.evidence_file) == done.evidence_sha256
    kept = records_in(Path(first["run_dir"]) / PROMOTIONS)
    assert len(kept) == 1 and kept[0]["verdict"] == PROMOTE and kept[0]["action"] == "promote"
    mlflow_run = client.get_model_version("iris", "1").run_id
    (copied,) = client.list_artifacts(mlflow_run, "promotions")
    assert sha256_file(client.download_artifacts(mlflow_run, copied.path)) == done.evidence_sha256

    again = promote(settings, "first")
    assert again.action == "none" and again.exit_code == 0 and len(records_in(Path(first["run_dir"]) / PROMOTIONS)) == 1

    held = promote(settings)
    assert held.verdict is not None and held.verdict.verdict == HOLD and held.exit_code == 1
    assert (
        production(settings) == "1"
        and held.record["way"] == "refit"
        and held.record["evidence"]["unseen"]["rows"] == 30
    )
    evidence = read_json(held.evidence_file) if held.evidence_file else {}
    judged = judge_promotion(evidence["evidence"], GateTerms(**evidence["terms"]))
    assert judged.to_dict()["reasons"] == evidence["reasons"], "the file says all that the verdict rests on"

    forced = promote(settings, bayes["run"], FEW, force=True, reason="the garden asks for it")
    assert (forced.action, forced.exit_code, production(settings)) == ("force", 0, "2")
    assert forced.verdict is not None and forced.verdict.verdict in (HOLD, REJECT)
    record = records_in(Path(bayes["run_dir"]) / PROMOTIONS)[0]
    assert record["reason"] == "the garden asks for it" and record["action"] == "force"
    assert [done.entry, held.entry, forced.entry] == [1, 2, 3]

    (newest, before) = project.json("show", bayes["run"])["promotions"]
    assert newest == {
        "when": record["when"], "model": "iris", "version": "2", "from": "1", "verdict": record["verdict"],
        "action": "force", "reason": "the garden asks for it",
    } and (before["action"], before["reason"]) == ("hold", None)  # fmt: skip
    assert "iris/2 HOLD, forced: the garden asks for it" in project.call("show", bayes["run"]).stdout

    back = promote(settings, "iris/1", FEW)
    assert back.champion == "2" and back.action in ("promote", "hold")


@pytest.mark.slow
def test_tampered_files_are_rejected_and_cannot_be_forced(
    played: tuple[Project, dict[str, Any], dict[str, Any]],
) -> None:
    project, first, _ = played
    settings, run_dir = load_settings(project.home), Path(first["run_dir"])
    connect(tracking_uri(settings), 20).client.set_registered_model_alias("iris", "production", "2")
    for name in (
        "training/model/model.skops",
        "data/split.parquet",
        "models/models.json",
        "training/training.json",
        "run.json",
    ):
        path = run_dir / name
        whole = path.read_bytes()
        try:
            path.unlink()  # stages may share files with the cache by hard links
            path.write_bytes(whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:])
            found = promote(settings, "iris/1", FEW, dry_run=True)
            assert found.verdict is not None and found.verdict.verdict == REJECT and not found.verdict.forcible
            assert word(found, "files") == REJECT and found.record["evidence"].get("scores") is None, name
            with pytest.raises(ModelFileError, match="not even by force"):
                promote(settings, "iris/1", FEW, force=True, reason="never mind")
            assert production(settings) == "2"
        finally:
            path.unlink()
            path.write_bytes(whole)
    assert word(promote(settings, "iris/1", FEW, dry_run=True), "files") == PROMOTE


@pytest.mark.slow
def test_a_damaged_champion_holds(played: tuple[Project, dict[str, Any], dict[str, Any]]) -> None:
    project, _, bayes = played
    settings = load_settings(project.home)
    connect(tracking_uri(settings), 20).client.set_registered_model_alias("iris", "production", "2")
    path = Path(bayes["run_dir"]) / "training" / "model" / "model.skops"
    whole = path.read_bytes()
    try:
        path.unlink()
        path.write_bytes(b"x" + whole[1:])
        found = promote(settings, "iris/1", FEW, dry_run=True)
    finally:
        path.unlink()
        path.write_bytes(whole)
    assert word(found, "comparison") == HOLD and found.verdict is not None and found.verdict.verdict == HOLD
    assert "roll back" in next(r.sentence for r in found.verdict.reasons if r.check == "comparison")


@pytest.mark.slow
def test_runs_of_another_machine_are_taken_from_the_store(
    played: tuple[Project, dict[str, Any], dict[str, Any]],
) -> None:
    project, first, bayes = played
    settings = load_settings(project.home)
    connect(tracking_uri(settings), 20).client.set_registered_model_alias("iris", "production", "2")
    here = promote(settings, "iris/1", FEW, dry_run=True)
    with away(Path(first["run_dir"])), away(Path(bayes["run_dir"])):
        found = promote(settings, "iris/1", FEW)
    assert found.evidence_file is None and found.evidence_sha256
    for part in ("scores", "unseen", "refit", "schema", "parity", "leakage"):
        assert found.record["evidence"][part] == here.record["evidence"][part], part


@pytest.mark.slow
def test_another_promotion_in_between_is_noticed(
    played: tuple[Project, dict[str, Any], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, first, _ = played
    settings = load_settings(project.home)
    client = connect(tracking_uri(settings), 20).client
    client.delete_registered_model_alias("iris", "production")
    keep = promotion._keep

    def overtaken(*given: Any) -> Any:
        client.set_registered_model_alias("iris", "production", "2")
        return keep(*given)

    before = records_in(Path(first["run_dir"]) / PROMOTIONS)
    monkeypatch.setattr(promotion, "_keep", overtaken)
    with pytest.raises(InputError, match="meanwhile"):
        promote(settings, "iris/1", FEW)
    assert production(settings) == "2"
    assert records_in(Path(first["run_dir"]) / PROMOTIONS) == before, "a verdict without effect leaves no evidence"


@pytest.mark.slow
def test_a_private_table_is_asked_for_by_its_hash(
    played: tuple[Project, dict[str, Any], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, *_ = played
    settings, table = load_settings(project.home), tmp_path / "plants.csv"
    monkeypatch.chdir(project.home)
    shutil.copy(project.home / "data" / "raw" / "iris.csv", table)
    run = project.json("run", str(table), "--profile", "quick", "-p", "candidates=[lda]")
    with pytest.raises(InputError, match="alias of 2 models; say which: iris@staging"):
        promote(settings, "staging")
    with away(Path(run["run_dir"])):
        with pytest.raises(InputError, match=r"private and not on this machine; give its file with --data FILE \(the"):
            promote(settings, "plants/1", FEW, dry_run=True)
        other = tmp_path / "other.csv"
        other.write_text("".join(table.read_text().splitlines(keepends=True)[:120]))
        with pytest.raises(InputError, match="private"):
            promote(settings, "plants/1", FEW, dry_run=True, files=[str(other)])
        moved = shutil.copy(table, tmp_path / "elsewhere.csv")
        found = promote(settings, "plants/1", FEW, dry_run=True, files=[str(moved)])
    assert found.verdict is not None and found.verdict.verdict == PROMOTE, found.verdict.against
