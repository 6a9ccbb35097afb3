"""Two runs compared: rows that find each other, intervals that are right, answers that are counted, and a page on which nothing runs."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from html import unescape
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Project
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from iris_nb.alignment import align_tables, match_contents, match_gaps, row_codes, value_codes
from iris_nb.cli import main
from iris_nb.diff import lay_tables, parameter_differences, plain_value, split_differences
from iris_nb.diffpage import blocks, diff_html, signed, summary, tiles
from iris_nb.evaluation import Answers
from iris_nb.files import read_json
from iris_nb.metrics import METRICS, confusion
from iris_nb.pairs import churn_of, mcnemar, paired_scores
from iris_nb.runs import check_files, list_runs, read_evidence, seal_of, write_manifest

# ---- rows ----

codes = st.lists(st.integers(0, 6), max_size=40).map(lambda found: np.array(found, dtype=np.int64))


@given(codes, codes)
def test_as_many_equal_rows_are_matched_as_there_are(left: np.ndarray, right: np.ndarray) -> None:
    here, there = match_contents(left, right)
    assert (left[here] == right[there]).all()
    assert len(set(here)) == len(here) and len(set(there)) == len(there) and (np.diff(here) > 0).all()
    assert len(here) == (Counter(left.tolist()) & Counter(right.tolist())).total()


@given(codes, codes)
def test_a_gap_pairs_only_what_is_left_over(left: np.ndarray, right: np.ndarray) -> None:
    matched = match_contents(left, right)
    here, there = match_gaps(matched, len(left), len(right))
    assert len(here) == len(there) == len(set(here)) == len(set(there))
    assert not set(here) & set(matched[0]) and not set(there) & set(matched[1])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_row_codes_are_equal_where_rows_are(rows: list[tuple[int, int]]) -> None:
    found = row_codes(np.array(rows, dtype=np.int64).reshape(-1, 2))
    for a, one in zip(found, rows, strict=True):
        assert [a == b for b in found] == [one == other for other in rows]


@st.composite
def edits(draw: st.DrawFn) -> tuple[list[int], list[tuple[str, int]]]:
    """A table of distinct values, and edits of it: values changed, rows taken away, rows put in."""
    size = draw(st.integers(12, 60))
    places = draw(st.lists(st.integers(0, size - 1), max_size=3, unique=True))
    return list(range(size)), [(draw(st.sampled_from(["change", "remove", "add"])), place) for place in places]


@given(edits())
def test_an_edited_table_is_explained(case: tuple[list[int], list[tuple[str, int]]]) -> None:
    before, plan = case
    after = []
    for place, value in enumerate(before):
        kinds = [kind for kind, at in plan if at == place]
        if "add" in kinds:
            after.append(1000 + place)
        if "remove" not in kinds:
            after.append(2000 + place if "change" in kinds else value)
    left, right = (pd.DataFrame({"value": values, "other": "x"}) for values in (before, after))
    found = align_tables(left, right, np.arange(1, len(before) + 1), np.arange(1, len(after) + 1))
    assert sorted([*found.left, *found.removed]) == list(range(len(before)))
    assert sorted([*found.right, *found.added]) == list(range(len(after)))
    same = left["value"].to_numpy()[found.left] == right["value"].to_numpy()[found.right]
    assert (same == found.same).all()
    if found.by == "content":
        touched = sum(kind != "add" for kind, _ in plan)
        assert same.sum() == len(before) - touched, "every untouched row is found again"


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ([1, 2], [1.0, 2.5], [True, False]),
        ([1.5, np.nan], ["1.50", None], [True, True]),
        (["1.0", "a"], ["1", "a"], [False, True]),
        ([True, False], ["True", "x"], [True, False]),
        ([0.0], [-0.0], [True]),
        ([2**60], [2**60 + 1], [False]),
        (pd.to_datetime(["2026-01-01"]), pd.to_datetime(["2026-01-01 00:00:01"]), [False]),
        ([None, "x"], [np.nan, "x "], [True, False]),
    ],
)
def test_values_are_equal_or_not(left: Any, right: Any, equal: list[bool]) -> None:
    here, there = value_codes(pd.DataFrame({"a": left}), pd.DataFrame({"a": right}), ["a"])
    assert (here == there)[:, 0].tolist() == equal


def test_rows_that_moved_up_are_still_the_same() -> None:
    table = pd.DataFrame({"a": range(30), "kind": ["x", "y"] * 15})
    parts = pd.DataFrame({"row": range(1, 31), "part": ["test", "train", "train"] * 10})
    shorter = table.drop(index=4).reset_index(drop=True)
    later = parts.drop(index=4).reset_index(drop=True).assign(row=range(1, 30))
    facts = ({"sha256_table": "a"}, {"sha256_table": "b"})
    tables = lay_tables((table, shorter), (parts, later), facts)
    split = split_differences(tables)
    assert tables.alignment.by == "content" and tables.alignment.removed.tolist() == [4]
    assert split["common"] == 10 and split["trained_on"] == [0, 0] and not split["same"]
    here, there = tables.common
    assert (tables.rows(0)[here][2:] == tables.rows(1)[there][2:] + 1).all(), "numbers differ, rows do not"


def test_a_plain_value_is_json() -> None:
    values = [
        np.int64(3),
        np.float64("nan"),
        np.inf,
        pd.Timestamp("2026-01-02"),
        pd.NaT,
        None,
        True,
        "ä",
        np.bool_(False),
    ]
    plain = [plain_value(value) for value in values]
    assert plain == [3, None, None, "2026-01-02", None, None, True, "ä", False]
    json.dumps(plain, allow_nan=False)


# ---- scores ----


def answers(rng: np.random.Generator, truth: np.ndarray, skill: float) -> Answers:
    """Answers to three classes, the better the greater the skill."""
    score = rng.normal(size=(len(truth), 3)) + skill * np.eye(3)[truth]
    proba = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    return Answers(np.array(["a", "b", "c"], dtype=object)[truth], proba, ("a", "b", "c"))


def test_the_interval_is_that_of_scipy() -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(3, size=120)
    left, right = answers(rng, truth, 1.0), answers(rng, truth, 2.0)
    found = {score.name: score for score in paired_scores(left, right, "", 4000, 0.95, 0)}
    assert set(found) == {m.name for m in METRICS.values() if not m.needs_positive}
    for name, draws in (("accuracy", 2000), ("balanced_accuracy", 500), ("log_loss", 2000), ("roc_auc", 500)):

        def gap(rows: np.ndarray, name: str = name) -> float:
            metric, values = METRICS[name], []
            for a in (left, right):
                counts = confusion(a.codes[rows], a.proba[rows].argmax(axis=1), 3)
                of_rows = metric.of_rows or (lambda codes, proba: np.array([metric.of_all(codes, proba)]))
                values.append(
                    metric.of_counts(counts, -1) if metric.of_counts else of_rows(a.codes[rows], a.proba[rows]).mean()
                )
            return float(values[1] - values[0])

        theirs = stats.bootstrap(
            (np.arange(120),),
            gap,
            n_resamples=draws,
            method="percentile",
            vectorized=False,
            rng=np.random.default_rng(1),
        ).confidence_interval
        spread = theirs.high - theirs.low
        assert abs(found[name].low - theirs.low) < 0.12 * spread and abs(found[name].high - theirs.high) < 0.12 * spread
        assert found[name].difference == pytest.approx(gap(np.arange(120)))
    assert found["accuracy"].better == "right" and found["log_loss"].better == "right"


def test_pairing_makes_the_interval_narrower() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(3, size=200)
    left = answers(rng, truth, 1.5)
    nudged = Answers(left.actual, 0.97 * left.proba + 0.03 / 3, left.classes)
    loss = {s.name: s for s in paired_scores(left, nudged, "", 1000, 0.95, 0)}["log_loss"]
    alone = left.proba[np.arange(200), truth]
    assert loss.high - loss.low < 0.2 * 2 * 1.96 * np.log(alone).std() / np.sqrt(200)


def test_a_score_that_cannot_be_measured_has_no_difference() -> None:
    one_class = Answers(np.array(["a"] * 12, dtype=object), np.tile([0.6, 0.4], (12, 1)), ("a", "b"))
    found = {s.name: s for s in paired_scores(one_class, one_class, "", 100, 0.95, 0)}
    assert found["roc_auc"].difference is None and found["roc_auc"].excludes_zero is None


def test_churn_is_counted() -> None:
    actual, left, right = (np.array(list(word), dtype=object) for word in ("aabbccc", "aabbaba", "abbacbb"))
    churn = churn_of(actual, left, right)
    assert churn.changed.tolist() == [1, 3, 4, 6] and churn.share == pytest.approx(4 / 7)
    assert (churn.mended, churn.broken, churn.still_wrong) == (1, 2, 1)
    assert churn.p_value == pytest.approx(1.0)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_binomial_test(mended: int, broken: int) -> None:
    n = mended + broken
    if n:
        tail = sum(
            p for k in range(n + 1) if (p := stats.binom.pmf(k, n, 0.5)) <= stats.binom.pmf(mended, n, 0.5) * (1 + 1e-7)
        )
        gains = np.repeat([1, -1, 0], [mended, broken, 3])
        assert mcnemar(gains) == pytest.approx(tail) == mcnemar(-gains)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_mcnemar_of_groups_counts_every_way_the_coins_can_fall(gains: list[int]) -> None:
    falls = np.array(list(itertools.product([1, -1], repeat=len(gains)))) @ np.abs(gains)
    assert mcnemar(gains) == pytest.approx((np.abs(falls) >= abs(sum(gains))).mean())


def test_rows_of_a_group_are_one_coin_and_widen_the_interval() -> None:
    truth = np.array(list("ab" * 60), dtype=object)
    left, right = (np.where(np.arange(120) < ok, truth, np.roll(truth, 1)) for ok in (90, 110))
    plants = np.arange(120) // 10
    singly, grouped = churn_of(truth, left, right), churn_of(truth, left, right, plants)
    assert singly.p_value == pytest.approx(2 / 2**20) and grouped.p_value == pytest.approx(2 / 2**2)
    sides = [
        Answers(truth, np.where((said == "a")[:, None], [0.8, 0.2], [0.2, 0.8]), ("a", "b")) for said in (left, right)
    ]
    row, group = (
        {s.name: s for s in paired_scores(*sides, "", 1000, 0.95, 0, by)}["accuracy"] for by in (None, plants)
    )
    assert row.low > group.low and row.high < group.high and row.difference == group.difference


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_what_is_not_zero_does_not_look_like_zero(value: float) -> None:
    text = signed(value)
    assert (text == "0") == (value == 0) and (not value or text[0] in "+−")
    assert value == 0 or re.search("[1-9]", text)


def test_a_parameter_that_one_run_does_not_know() -> None:
    left = {"parameters": {"data": {"seed": 0, "old": 1, "flag": True}}, "overrides": {"data": {"old": "file"}}}
    right = {"parameters": {"data": {"seed": 0, "flag": 1}}}
    found = parameter_differences(left, right)
    assert found["same"] == 1 and [d["name"] for d in found["differences"]] == ["flag", "old"]
    assert found["differences"][1] == {
        "stage": "data", "name": "old", "left": 1, "right": None, "only": "left", "left_origin": "file", "right_origin": None,
    }  # fmt: skip


# ---- real runs ----

NASTY = ["<b>length</b>", "</script><script>alert(1)</script>", 'wide, "quoted" & \x1b[31mred', "zero"]
CLASSES = ["<img src=x onerror=alert(2)>", "plain"]


def frogs(seed: int) -> pd.DataFrame:
    """A hundred frogs of two kinds, under names that a page must not trust."""
    rng = np.random.default_rng(seed)
    kind = np.arange(100) % 2
    values = rng.normal(size=(100, 4)) + kind[:, None] * [1.6, 0.8, 0.3, 0.0]
    table = pd.DataFrame(values.round(3), columns=NASTY)
    return table.assign(kind=np.array(CLASSES, dtype=object)[kind])


def git(home: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words],
        cwd=home,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def edit(home: Path, name: str, old: str, new: str) -> None:
    """Change a piece of code that stands once in a notebook and once in its module."""
    for path in (*(home / "nbs").glob(f"*_{name}.ipynb"), home / "iris_nb" / f"{name}.py"):
        text = path.read_text(encoding="utf-8")
        assert old in text, (path.name, old)
        path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture(scope="module")
def study(make_project: Callable[[str], Project]) -> Project:
    """Three runs: two of other tables, models, code and commits; the third failed in training."""
    project = make_project("diff")
    home = project.home
    for name in ("nbs", "iris_nb"):
        (home / name).unlink()
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    git(home, "init", "-q")
    (home / ".gitignore").write_text("__pycache__\n/reports\n/frogs.csv\n")
    git(home, "add", ".gitignore", "nbs", "iris_nb", "settings.ini", "data")
    git(home, "commit", "-qm", "Begin <b>here</b>")
    quick = ("--profile", "quick", "--untracked", "--target", "kind", "-p", "models.folds=3")
    here = {"PYTHONPATH": str(home)}
    frogs(1).to_csv(home / "frogs.csv", index=False)
    project.json("run", "frogs.csv", *quick, "-p", "candidates=[logistic]", "--name", "first", **here)
    changed = frogs(1)
    changed.iloc[6, 0] = 77.125
    changed.to_csv(home / "frogs.csv", index=False)
    edit(home, "split", "No two rows are equal in all features.", "All rows differ in some feature.")
    git(home, "commit", "-qam", "Say it shorter")
    edit(home, "profile", "def profile_table(", "def _unused() -> None: ...\\n\\n\\ndef profile_table(")
    (home / "iris_nb" / "profile.py").write_text(
        (home / "iris_nb" / "profile.py").read_text().replace("...\\n\\n\\ndef", "...\n\n\ndef")
    )
    project.json("run", "frogs.csv", *quick, "-p", "candidates=[forest]", "--name", "second", **here)
    git(home, "checkout", "-q", "nbs", "iris_nb")
    path = home / "nbs" / "40_training.ipynb"
    notebook = json.loads(path.read_text())
    [c for c in notebook["cells"] if c["cell_type"] == "code"][-1]["source"] = ["raise RuntimeError('<b>cold</b>')"]
    path.write_text(json.dumps(notebook))
    project.json("run", "frogs.csv", *quick, "-p", "candidates=[forest]", "--name", "third", code=1, **here)
    return project


def call(project: Project, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`iris-nb diff` in this process: what it prints, and its exit code."""
    out, err, code = StringIO(), StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(project.home)
        for name in [name for name in os.environ if name.startswith(("IRIS_NB_", "MLFLOW_"))]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["iris-nb", "diff", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def diff(project: Project, *words: str | Path, **environment: str) -> dict[str, Any]:
    """The object that `iris-nb diff --json` prints."""
    done = call(project, *words, "--json", **environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run_dir(project: Project, name: str) -> Path:
    return next(project.reports / r["id"] for r in list_runs(project.reports) if r["name"] == name)


class Reader(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.slow
def test_two_runs_are_told_apart(study: Project) -> None:
    result = diff(study, "first", "second")
    assert result["changed"] == ["parameters", "data", "code"]
    assert {d["name"] for d in result["parameters"]["differences"]} == {"candidates"}
    data = result["data"]
    assert data["rows"]["matched_by"] == "number" and data["rows"]["changed"] == 1 and not data["same_bytes"]
    assert [(r["left_row"], r["columns"], r["values"]) for r in data["rows"]["listed"]] == [(7, [NASTY[0]], None)]
    assert data["columns"]["changed"] == [{"column": NASTY[0], "rows": 1}]
    code = result["code"]
    assert [c["subject"] for c in code["commits"]["only_right"]] == ["Say it shorter"] and not code["commits"][
        "only_left"
    ]
    assert code["right"]["dirty"] and not code["left"]["dirty"]
    lines = {m["module"]: "\n".join(m["lines"]) for m in code["modules"]}
    assert set(lines) == {"split", "profile"}, "nothing else was changed"
    assert "+    return " in lines["split"] or '+        return "All rows differ' in lines["split"]
    assert "+def _unused() -> None: ..." in lines["profile"], "the recorded patch was applied"
    metrics, found = result["metrics"], result["answers"]
    assert metrics["comparable"] and metrics["rows"] == found["rows"] == data["split"]["common"] >= 19
    for line in metrics["scores"]:
        assert line["low"] <= line["high"] and line["difference"] == pytest.approx(line["right"] - line["left"])
    assert found["changed"] == len(found["listed"]) == found["mended"] + found["broken"] + found["still_wrong"]
    assert all(row["values"] is None for row in found["listed"])
    assert "77.125" not in json.dumps(result), "no value of a table whose rows are not shown"


@pytest.mark.slow
def test_the_comparison_is_what_the_answers_say(study: Project) -> None:
    """The common rows, their scores and the churn, worked out from the runs' files in another way."""
    result = diff(study, "first", "second")
    tables = [
        pd.read_parquet(run_dir(study, name) / "training" / "predictions.parquet") for name in ("first", "second")
    ]
    both = tables[0].merge(tables[1], on="row", suffixes=("_left", "_right"))
    both = both[both["row"] != 7]
    assert len(both) == result["metrics"]["rows"]
    shares = [(both[f"predicted_{side}"] == both[f"actual_{side}"]).mean() for side in ("left", "right")]
    accuracy = next(s for s in result["metrics"]["scores"] if s["name"] == "accuracy")
    assert [accuracy["left"], accuracy["right"]] == pytest.approx(shares)
    changed = both[both["predicted_left"] != both["predicted_right"]]
    assert [row["row"] for row in result["answers"]["listed"]] == changed["row"].tolist()
    assert sum(pair["rows"] for pair in result["answers"]["pairs"]) == len(both)


@pytest.mark.slow
def test_the_page_trusts_no_name(study: Project) -> None:
    result = diff(study, "first", "second")
    path = Path(result["page"])
    assert path == run_dir(study, "second") / f"diff-{run_dir(study, 'first').name}.html"
    page = path.read_text(encoding="utf-8")
    reader = Reader(page)
    assert [a for tag, a in reader.tags if tag == "script"] == [{}], "one script, ours"
    assert [tag for tag, _ in reader.tags if tag in ("b", "iframe", "object", "form", "link")] == ["link", "b"], "ours"
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    sources = [a["src"] for tag, a in reader.tags if tag == "img"]
    assert sources and all(str(source).startswith("data:image/svg+xml;base64,") for source in sources)
    assert "&lt;b&gt;length&lt;/b&gt;" in page and "&lt;img src=x onerror=alert(2)&gt;" in page and "\x1b" not in page
    assert "default-src 'none'" in unescape(page) and "77.125" not in page
    for tag, attributes in reader.tags:
        if tag == "a" and not str(attributes["href"]).startswith("#"):
            assert (path.parent / str(attributes["href"])).resolve().is_file()


@pytest.mark.slow
def test_the_evidence_stays_what_it_was(study: Project) -> None:
    before = {path: path.read_bytes() for path in study.reports.glob("*/run.json")}
    diff(study, "first", "second")
    assert {path: path.read_bytes() for path in study.reports.glob("*/run.json")} == before
    for name in ("first", "second"):
        record = read_evidence(run_dir(study, name))
        check = check_files(run_dir(study, name), record)
        assert not check.missing and not check.changed
    assert len(study.json("runs")["runs"]) == 3


@pytest.mark.slow
def test_text_for_a_pipe_is_plain_and_narrow(study: Project) -> None:
    done = study.call("diff", "first", "second")
    assert done.returncode == 0 and done.stderr == "" and "\x1b" not in done.stdout
    code = {line.strip() for m in diff(study, "first", "second")["code"]["modules"] for line in m["lines"] or []}
    for line in done.stdout.splitlines():
        assert len(line) <= 100 or line.startswith("page ") or line.strip() in code
    for part in ("Parameters", "~ row 7: <b>length</b>", "+def _unused() -> None: ...", "Metrics on", "right − left"):
        assert part in done.stdout


@pytest.mark.slow
def test_rows_are_shown_where_both_runs_allow_it(study: Project, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    for name in ("first", "second"):
        path = shutil.copytree(run_dir(study, name), reports / run_dir(study, name).name)
        facts = read_json(path / "data" / "data.json") | {"show_rows": True}
        (path / "data" / "data.json").write_text(json.dumps(facts))
        reseal(path, "data/data.json")
    where = {"IRIS_NB_REPORTS_DIR": str(reports)}
    result = diff(study, "first", "second", **where)
    values = result["data"]["rows"]["listed"][0]["values"]
    assert [(v["column"], v["right"]) for v in values] == [(NASTY[0], 77.125)]
    assert all(len(row["values"]) == 4 for row in result["answers"]["listed"])
    page = Path(result["page"]).read_text()
    assert "77.125" in page and "77.125" in call(study, "first", "second", **where).stdout
    (reports / "elsewhere").mkdir()
    mixed = shutil.copytree(run_dir(study, "first"), tmp_path / "reports2" / run_dir(study, "first").name)
    shutil.copytree(reports / run_dir(study, "second").name, mixed.parent / run_dir(study, "second").name)
    hidden = diff(study, "first", "second", IRIS_NB_REPORTS_DIR=str(mixed.parent))
    assert not hidden["data"]["show_rows"] and "77.125" not in json.dumps(hidden)


def reseal(path: Path, *files: str) -> None:
    """Record the files of a run anew, as the runner would have."""
    from iris_nb.files import sha256_file

    record = read_json(path / "run.json")
    for stage in record["stages"]:
        stage["files"] |= {file: sha256_file(path / file) for file in files if file in stage["files"]}
    write_manifest(path, record)


@pytest.mark.slow
def test_a_failed_run_is_compared_as_far_as_it_came(study: Project) -> None:
    result = diff(study, "second", "third")
    assert not result["metrics"]["comparable"] and "did not get as far as a trained model" in result["metrics"]["why"]
    assert result["data"]["same_table"] and result["models"]["right"] is None
    assert "The right run failed" in result["summary"][-1] and "data, features and models" in result["summary"][-1]
    cells = next(n["cells"] for n in result["code"]["notebooks"] if n["stage"] == "training")
    assert any("+raise RuntimeError('<b>cold</b>')" in cell["lines"] for cell in cells)
    page = Path(result["page"]).read_text()
    assert "&lt;b&gt;cold&lt;/b&gt;" in page and "<b>cold" not in page
    assert call(study, "second", "third").returncode == 0


@pytest.mark.slow
def test_a_run_and_itself(study: Project) -> None:
    result = diff(study, "first", "first")
    assert result["same_run"] and result["changed"] == [] and "with itself, so nothing differs" in result["summary"][0]
    assert all(s["difference"] == 0 for s in result["metrics"]["scores"]) and result["answers"]["changed"] == 0
    assert len(blocks(result)) == 1


@pytest.mark.slow
def test_other_places_for_the_page(study: Project, tmp_path: Path) -> None:
    target = tmp_path / "mail" / "two.html"
    target.parent.mkdir()
    result = diff(study, "first", "second", "--html", str(target))
    assert result["page"] == str(target) and not re.search(r'href="(?!#|data:)', target.read_text())
    assert call(study, "first", "second", "--html", str(target)).returncode == 0, "its own page may be replaced"
    for words, why in (
        (tmp_path / "table.csv", "does not end in .html"),
        (tmp_path / "nowhere" / "a.html", "is not a folder"),
        (run_dir(study, "first") / "index.html", "is not the page of a comparison"),
        (tmp_path / "mail", "does not end in .html"),
    ):
        done = call(study, "first", "second", "--html", words)
        assert done.returncode == 2 and why in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "table.csv").exists()


@pytest.mark.slow
def test_bad_input_is_one_sentence(study: Project, tmp_path: Path) -> None:
    def refused(*words: str, **environment: str) -> str:
        done = call(study, *words, **environment)
        assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    assert "did you mean 'second'?" in refused("first", "secnd")
    reports = tmp_path / "reports"
    for name in ("first", "second"):
        shutil.copytree(
            run_dir(study, name), reports / run_dir(study, name).name, ignore=shutil.ignore_patterns("diff-*")
        )
    first, second = (reports / run_dir(study, name).name for name in ("first", "second"))
    where = {"IRIS_NB_REPORTS_DIR": str(reports)}
    good = (first / "run.json").read_text()
    edited = json.loads(good)
    edited["parameters"]["models"]["candidates"] = ["knn"]
    (first / "run.json").write_text(json.dumps(edited, indent=2))
    assert "its seal does not fit" in refused("first", "second", **where)
    (first / "run.json").write_text(good)
    assert seal_of(read_json(first / "run.json")) == read_json(first / "run.json")["seal"]
    (second / "training" / "predictions.parquet").unlink()
    assert "training/predictions.parquet' is missing;" in refused("first", "second", **where)
    (second / "training" / "predictions.parquet").write_bytes((first / "training" / "predictions.parquet").read_bytes())
    assert "predictions.parquet' is not as the run left it;" in refused("first", "second", **where)
    assert not list(reports.glob("*/diff-*.html")), "nothing was written"


@pytest.mark.slow
def test_other_targets_and_tables_are_not_scored(study: Project, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    for name in ("first", "second"):
        shutil.copytree(run_dir(study, name), reports / run_dir(study, name).name)
    second = reports / run_dir(study, "second").name
    facts = read_json(second / "data" / "data.json") | {"target": "zero"}
    (second / "data" / "data.json").write_text(json.dumps(facts))
    reseal(second, "data/data.json")
    where = {"IRIS_NB_REPORTS_DIR": str(reports)}
    result = diff(study, "first", "second", **where)
    assert "the runs predict different columns: 'kind', 'zero'" in result["metrics"]["why"]
    assert "These are two studies" in result["summary"][0] and not result["answers"]["comparable"]
    table = pd.DataFrame({"zero": range(100), "other": range(100), "third": "x"})
    table.to_parquet(second / "data" / "table.parquet")
    (second / "data" / "data.json").write_text(json.dumps(facts | {"target": "kind", "sha256_table": "other"}))
    reseal(second, "data/data.json", "data/table.parquet")
    result = diff(study, "first", "second", **where)
    assert result["data"]["rows"]["matched_by"] == "nothing" and "different tables" in result["metrics"]["why"]
    assert call(study, "first", "second", **where).returncode == 0


@pytest.mark.slow
def test_too_few_rows_and_private_rows_say_nothing(study: Project) -> None:
    result = diff(study, "first", "second")
    why = "insufficient data: only 4 held-out rows are common to both runs, and fewer than 10 say nothing"
    few = result | {"metrics": result["metrics"] | {"comparable": False, "why": why}}
    assert [tile["under"] for tile in tiles(few) if tile["label"] == "Answers changed"] == ["insufficient data"]
    [scores] = [line for line in summary(few) if "scores are not compared" in line]
    assert scores.count(":") == 1 and scores.endswith(
        "(only 4 held-out rows are common to both runs, and fewer than 10 say nothing)."
    )
    page = diff_html(few, {"left": "", "right": ""})
    assert "McNemar" not in page and "insufficient data: only" not in page
    assert not result["data"]["show_rows"] and result["answers"]["listed"]
    page = diff_html(result, {"left": "", "right": ""})
    assert "Which rows these are is not shown" in page and "<h3>The rows</h3>" not in page and "McNemar" in page
    [answers] = [block for block in blocks(result) if block.title == "Answers that changed"]
    assert answers.columns == ["left says", "right says", "rows"]
    assert sum(int(row[2]) for row in answers.rows) == result["answers"]["changed"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_in_a_browser(study: Project, browser: Any, width: int) -> None:
    page = Path(diff(study, "first", "second")["page"])
    view = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    view.on("console", lambda message: said.append(message.text))
    view.on("dialog", lambda dialog: said.append("a dialog"))
    view.on("request", lambda r: said.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    view.goto(page.as_uri())
    assert view.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    assert view.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert said == []
    view.close()


settings.register_profile("diff", deadline=None)
settings.load_profile("diff")
