"""The report and the stage pages: they show what the files say, whatever the files say, and nothing in them runs."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from html import unescape
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Project
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from iris_nb import metrics, wording
from iris_nb.data import prepare_data, save_data
from iris_nb.document import FACTS, Facts, column_rows, headline, read_facts, render_report, right_of, tiles
from iris_nb.figures import ACCENT, COLOURS, confusion_figure, contrast, draw_figures, text_colour, thin
from iris_nb.files import read_json, write_json
from iris_nb.folders import STAGES, RunFolder
from iris_nb.pages import clean_html, render_stage_pages
from iris_nb.report import find_mistakes, load_material, save_report

NASTY_COLUMNS = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "cost $x^2$ \\frac{ %{x} {{7*7}} {% raw %}",
    "عرض البتلة",
    "wide " * 40 + "x" * 150,
    "quote\" ' ` &amp; &#36;",
]
NASTY_CLASSES = ["<script>alert(3)</script>", "$\\frac{$", "زهرة \u202eevil", '"quoted" & <b>bold</b>']


def make_study(folder: Path, table: pd.DataFrame, target: str, show_rows: str) -> Path:
    "A whole run from a table, made by the stages' own functions in this process."
    folder.mkdir()
    source = folder.parent / f"{folder.name}.csv"
    table.to_csv(source, index=False)
    run = RunFolder(folder, TemporaryDirectory())  # what is missing upstream is made by the loaders
    save_data(run, prepare_data(str(source), target, [], [], "", "", "", "", "", 0.2, 0, show_rows))
    material = load_material(run)
    for file, found in read_json(ROOT / "tests" / "data" / "report" / "found.json").items():  # as a standard run finds
        write_json(run.stage(file.split("/")[0]) / f"{file.split('/')[1]}.json", found)
    figures, notes = draw_figures(material, 500)
    save_report(run, figures, notes, find_mistakes(material, 20))
    write_json(run.stage("inference") / "inference.json", {"rows": 9, "equal": True, "largest_difference": 0.0})
    stages = [{"name": name, "status": "done", "seconds": 1.5, "files": {}} for name in STAGES]
    record = {
        "format": 1,
        "id": folder.name,
        "status": "done",
        "created": "2026-11-22T20:30:15+00:00",
        "stages": stages,
    }
    record |= {"argv": ["iris-nb", "run", str(source)], "parameters": {"models": {"seed": 0, "metric": "accuracy"}}}
    record |= {"overrides": {"models": {"metric": "command line"}}, "git": {"commit": "0" * 40, "dirty": True}}
    write_json(folder / "run.json", record | {"packages": {"numpy": "2.3"}, "model": {"name": "t", "version": "3"}})
    return folder


@pytest.fixture(scope="session")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    place = random.integers(0, len(NASTY_CLASSES), 160)
    table = pd.DataFrame({name: random.normal(size=160) for name in NASTY_COLUMNS})
    table[NASTY_COLUMNS[0]] += 2 * place
    table["<i>kind</i>"] = np.array(NASTY_CLASSES)[place]
    run = make_study(tmp_path_factory.mktemp("report") / "nasty", table, "<i>kind</i>", "yes")
    html = (
        table.head().style.to_html()
        + "<iframe src='https://example.org'></iframe><img src='https://example.org/x.png'>"
    )
    cells = [
        new_markdown_cell("# models\n\n> A <script>alert(5)</script> stage."),
        new_code_cell("seed: int = 0  # <b>seed</b> [0..9]", metadata={"tags": ["parameters"]}),
        new_markdown_cell(
            "## Run\n\n<img src=x onerror=alert(6)> [a](javascript:alert(7)) ![b](https://example.org/y.png)"
        ),
        new_code_cell("table", outputs=[new_output("execute_result", {"text/html": table.head().to_html()})]),
        new_code_cell("style", outputs=[new_output("display_data", {"text/html": html, "text/plain": "x"})]),
        new_code_cell(
            "1 / 0", outputs=[new_output("error", ename="Oops", evalue="<u>", traceback=["\x1b[31m<u>\x1b[0m"])]
        ),
    ]
    nbformat.write(new_notebook(cells=cells), run / "models" / "models.ipynb")
    render_stage_pages(run)
    render_report(run)
    return run


@pytest.fixture(scope="session")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(1)
    table = pd.DataFrame({"dose": random.normal(size=120), "age": random.integers(20, 90, 120), "seen": "yes"})
    table["city"] = random.choice(["Ulm", "Bonn", None], 120)
    table["ill"] = np.where(table["dose"] + random.normal(size=120) > 0, "ill", "well")
    return make_study(tmp_path_factory.mktemp("report") / "hidden", table, "ill", "auto")


def copy_of(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / run.name, ignore=shutil.ignore_patterns("*.min.js", "index.html")))


# ---- words ----


@given(st.text(), st.integers(10, 60))
def test_label_is_one_short_line_that_a_page_can_hold(text: str, most: int) -> None:
    line = wording.label(text, most)
    assert (
        0 < len(line) <= max(most + wording.SPARED, len("(empty)"))
        and not wording.UNSAFE.search(line)
        and "\n" not in line
    )
    line.encode("utf-8")


@given(st.one_of(st.none(), st.booleans(), st.text(), st.floats(), st.integers(), st.lists(st.integers())))
def test_words_for_numbers_never_fail(value: Any) -> None:
    for function in (wording.percent, wording.score, wording.count, wording.duration, wording.literal):
        text = function(value)
        assert isinstance(text, str) and (text != "nan" or function is wording.literal or value == "nan")


def test_every_metric_has_words() -> None:
    assert set(metrics.METRICS) <= set(wording.METRIC_WORDS)


# ---- the page says what the files say ----


def test_headline_and_numbers_are_those_of_the_files(nasty: Path) -> None:
    facts, predictions = read_facts(nasty), pd.read_parquet(nasty / "training" / "predictions.parquet")
    right = int((predictions["actual"] == predictions["predicted"]).sum())
    assert right_of(facts) == (right, len(predictions))
    page = (nasty / "index.html").read_text()
    assert f"{right} of {len(predictions)} held\u2011out rows correctly" in page
    for name, found in facts.training["metrics"].items():
        assert wording.score(found["value"]) in page, name
    for line in facts.models["leaderboard"]:
        assert line["title"] in page
    assert facts.mistakes["total"] == len(predictions) - right
    listed = {row["row"] for row in facts.mistakes["rows"]}
    assert listed <= set(predictions.loc[predictions["actual"] != predictions["predicted"], "row"])


def test_the_same_folder_gives_the_same_bytes(nasty: Path, tmp_path: Path) -> None:
    run = copy_of(nasty, tmp_path)
    pages = {path.name: path.read_bytes() for path in [render_report(run), *render_stage_pages(run)]}
    assert pages == {path.name: path.read_bytes() for path in [render_report(run), *render_stage_pages(run)]}
    figures, _ = draw_figures(load_material(RunFolder(run)), 500)
    for figure in figures:
        assert figure.svg == (nasty / "report" / f"{figure.name}.svg").read_text(), figure.name


def test_every_link_leads_somewhere(nasty: Path) -> None:
    for page in nasty.glob("*.html"):
        text = page.read_text()
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids)), page.name
        for link in re.findall(r'<a [^>]*href="([^"]+)"', text):
            target = unescape(link)
            assert target[1:] in ids if target.startswith("#") else (nasty / target).exists(), f"{page.name}: {link}"


def test_rows_that_may_not_be_shown_are_not_shown(hidden: Path) -> None:
    facts = read_facts(hidden)
    assert not facts.show_rows and facts.mistakes["total"] > 0
    assert facts.mistakes["rows"] == [] and facts.mistakes["columns"] == []
    assert sum(pair["count"] for pair in facts.mistakes["pairs"]) == facts.mistakes["total"]
    assert {path.name for path in (hidden / "report").glob("*.json")} == {"figures.json", "mistakes.json"}
    assert not (hidden / "report" / "scatter.svg").exists()
    page = render_report(hidden).read_text()
    assert "Which rows these are is not shown" in page and "because rows of this table are not shown" in page
    assert "categories, ranges and counts are shown, rows are not" in page and "only numbers" not in page
    table = pd.read_parquet(hidden / "data" / "table.parquet")
    inner = table["dose"].sort_values().iloc[5:-5]
    assert not [value for value in inner if f"{value:.6g}".lstrip("-") in page]


def test_a_list_of_rows_that_should_not_be_there_is_not_shown(hidden: Path, tmp_path: Path) -> None:
    run = copy_of(hidden, tmp_path)
    row = {"row": 4711, "actual": "ill", "predicted": "well"}
    write_json(run / "report" / "mistakes.json", {"total": 1, "columns": [], "left": 0, "rows": [row]})
    assert "4711" not in render_report(run).read_text()


def test_intervals_are_called_what_was_asked_for(hidden: Path, tmp_path: Path) -> None:
    run = copy_of(hidden, tmp_path)
    record = read_json(run / "run.json")
    write_json(run / "run.json", record | {"parameters": {"training": {"confidence": 0.5}}})
    kind = {"covered": 9, "rows": 10, "low": 0.8, "high": 0.95}
    kind |= {"per_class": [{"class": "ill", **kind}]}
    write_json(run / "training" / "sureness.json", {"conformal": {"measured": {"marginal": kind, "class": kind}}})
    part = render_report(run).read_text().partition("Prediction sets</h3>")[2].partition("</table>")[0]
    assert part.count("50\u00a0% interval") == 2 and "95" not in part.partition("<tbody>")[0]


def test_names_with_commas_do_not_look_like_several() -> None:
    column = {"name": "risk", "categories": ["low, risk", '"high" risk', "mid"]}
    facts = Facts(Path("nowhere"), {"contract": {"columns": [column]}})
    assert column_rows(facts)["rows"][0]["range"] == '“low, risk”, "high" risk, mid'


def test_the_axis_of_the_drawn_intervals_is_named(hidden: Path) -> None:
    assert re.search(
        r'<th scope="col">Drawn on an axis from [−\d.]+ to [−\d.]+</th>', render_report(hidden).read_text()
    )


def test_stage_pages_lead_to_the_model_card_and_tell_report_from_report(hidden: Path, tmp_path: Path) -> None:
    run = copy_of(hidden, tmp_path)
    (run / "report" / "report.ipynb").write_text(nbformat.writes(new_notebook(cells=[new_markdown_cell("# report")])))
    [page] = render_stage_pages(run)
    bar = re.search(r"<nav class=.crumbs.*?</nav>", page.read_text(), re.S)
    assert bar is not None and "model-card.html" not in bar[0]
    assert re.findall(r">([\w ]*report)<", bar[0].replace('aria-current="page"', "")) == ["run report", "report"]
    (run / "model-card.html").write_text("<p>card</p>")
    assert '<a href="model-card.html">model card</a>' in render_stage_pages(run)[0].read_text()


def test_counts_can_be_read_on_every_shade() -> None:
    import seaborn as sns

    shade = sns.light_palette(ACCENT, as_cmap=True)
    assert all(contrast(text_colour(shade(share)), shade(share)) >= 4.5 for share in np.linspace(0, 1, 201))
    counts = [[100 - n if i == j else n for j in range(2)] for i, n in enumerate((40, 60))]
    drawn = confusion_figure({"classes": ["a", "b"], "counts": counts}).svg
    assert drawn.count(">60<") == 2 and drawn.count(">40<") == 2


# ---- runs that did not end well, and files that say anything ----


@pytest.mark.parametrize("status", ["failed", "killed"])
def test_a_run_that_ended_early_says_so_first(nasty: Path, tmp_path: Path, status: str) -> None:
    run = copy_of(nasty, tmp_path)
    for stage in ("models", "training", "inference", "report"):
        shutil.rmtree(run / stage, ignore_errors=True)
    record = read_json(run / "run.json")
    words = {"data": "done", "features": "done", "models": status}
    record["stages"] = [{"name": name, "status": words.get(name, "pending")} for name in STAGES]
    record["stages"][2]["error"] = "every candidate failed: <b>no rows</b>"
    write_json(run / "run.json", record | {"status": status})
    page = render_report(run).read_text()
    first = page.index(f"This run {'failed' if status == 'failed' else 'was stopped'} in the stage models")
    assert first < page.index("What was asked") and "&lt;b&gt;no rows&lt;/b&gt;" in page
    assert "Not reached: training, inference, report" in page and 'id="data"' in page and 'id="chosen"' not in page


def test_a_gate_that_was_not_passed_is_told_at_the_top(nasty: Path, tmp_path: Path) -> None:
    run = copy_of(nasty, tmp_path)
    training = read_json(run / "training" / "training.json")
    training["gate"] |= {"passed": False, "reasons": ["it is no better than the baseline"]}
    write_json(run / "training" / "training.json", training)
    page = render_report(run).read_text()
    assert page.index("The model did not pass its gate") < page.index("What was asked")
    assert "It is no better than the baseline." in page


def test_an_empty_folder_and_damaged_files_give_a_page(tmp_path: Path) -> None:
    assert "A study without a result yet" in render_report(tmp_path).read_text()
    for file in FACTS.values():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text('{"half": ')
    page = render_report(tmp_path).read_text()
    assert all(file in page for file in FACTS.values()) and "could not be read" in page


def places(value: Any, depth: int = 4) -> Iterator[list[Any]]:
    "The way to every value of a file; of a list only its first item."
    items = value.items() if isinstance(value, dict) else [(0, value[0])] if isinstance(value, list) and value else []
    for key, inner in items:
        yield [key]
        if depth:
            yield from ([key, *rest] for rest in places(inner, depth - 1))


@pytest.mark.parametrize("name", sorted(FACTS))
def test_any_value_may_be_missing_or_null(nasty: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    for file in FACTS.values():
        if (nasty / file).exists() and file != FACTS["figures"]:
            (run / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(nasty / file, run / file)
    whole = read_json(nasty / FACTS[name])
    asked = [place for place in places(whole) if 0 not in place[:-1] or "counts" not in place]
    for place in asked[:: max(1, len(asked) // 50)]:  # spread over the file; each costs a page
        for missing in (True, False) if isinstance(place[-1], str) else (False,):
            value = deepcopy(whole)
            holder = value
            for key in place[:-1]:
                holder = holder[key]
            if missing:
                del holder[place[-1]]
            else:
                holder[place[-1]] = None
            (run / FACTS[name]).write_text(json.dumps(value))
            assert "cannot be shown" not in render_report(run).read_text(), (place, missing)


def test_unknown_keys_and_strange_kinds_do_not_stop_the_page(nasty: Path, tmp_path: Path) -> None:
    run = copy_of(nasty, tmp_path)
    write_json(run / "models" / "models.json", {"leaderboard": "none", "new": [1], "metric": ["x"]})
    page = render_report(run).read_text()
    assert "How the run was made" in page


# ---- every part of a study is shown ----


def bodies(page: str) -> dict[str, str]:
    "The sections of a report by name, their tags taken away."
    parts = re.findall(r'<section id="([a-z]+)".*?>(.*?)</section>', page, re.S)
    return {name: " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split()) for name, body in parts}


ALL_SECTIONS = ["asked", "data", "sound", "models", "tuning", "control", "chosen", "errors", "looks", "sure", "made", "files"]  # fmt: skip


def test_a_quick_run_says_in_a_sentence_what_was_not_made(studied: tuple[Project, dict[str, Any]]) -> None:
    page = (studied[0].reports / studied[1]["run"] / "index.html").read_text()
    found = bodies(page)
    assert list(found) == ALL_SECTIONS and "cannot be shown" not in page
    assert re.findall(r'<a href="#([a-z]+)">', page)[-len(ALL_SECTIONS) :] == ALL_SECTIONS
    assert "Nothing was tuned" in found["tuning"] and "tune" in found["tuning"]
    assert found["control"].count("not made") >= 4
    assert "rows 102 and 143" in found["sound"] and "quality_page" in found["sound"]
    assert "Prediction sets" in found["sure"] and "±11 points" in found["sure"] and "one of twenty" in found["sure"]
    assert "Importance is how much worse" in found["looks"] and "tied" in found["models"]
    assert {f'id="figure-{name}"' in page for name in ("chances", "importance", "regions", "sets", "domain")} == {True}


@pytest.mark.slow
def test_a_standard_run_shows_every_part(project: Project) -> None:
    made = project.json("run", "--profile", "standard", "--untracked")
    page = (project.reports / made["run"] / "index.html").read_text()
    found = bodies(page)
    assert list(found) == ALL_SECTIONS and "cannot be shown" not in page
    assert all(len(text) > 200 for text in found.values()), {name: len(text) for name, text in found.items()}
    assert "not made" not in found["control"] and "falls to chance" in found["control"]
    assert "Promised" in found["tuning"] and "The ensembles combine" in found["models"]
    drawn = {"chances", "pairs", "nested", "history", "parallel", "control", "associations"}
    drawn |= {"importance", "dependence", "regions", "sets", "domain"}
    assert {name for name in drawn if f'id="figure-{name}"' not in page} == set()


def test_what_was_found_is_shown_and_does_not_run(nasty: Path, hidden: Path) -> None:
    for run in (nasty, hidden):
        page = (run / "index.html").read_text()
        assert "<script>alert" not in page and "<b>w</b>" not in page
        found = bodies(page)
        assert set(ALL_SECTIONS) - set(found) <= {"made"}  # drawn before the manifest was written
        assert "shrinkage=0.1" in found["tuning"] and "L009" in found["control"]
        assert "Another threshold" in found["chosen"] and "out of fold" in found["errors"]


# ---- weight ----


def test_rendering_the_report_is_light(hidden: Path, tmp_path: Path) -> None:
    run = copy_of(hidden, tmp_path)
    code = (
        "import sys; from iris_nb.document import render_report; render_report(sys.argv[1]);"
        "print([m for m in ('pandas', 'numpy', 'matplotlib', 'sklearn', 'plotly', 'nbconvert', 'IPython') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_the_page_stays_small_on_a_large_table() -> None:
    kept = thin(np.arange(1_000_000) % 3 == 0, 1500)
    assert len(kept) == 1500 and kept[-1] > 990_000


def test_twenty_classes_are_told_apart_without_colour_alone() -> None:
    from iris_nb.figures import class_style

    assert len({class_style(place)[1:] for place in range(10)}) == 10 and len(COLOURS) == 10


# ---- stage pages ----


def test_a_stage_page_folds_code_and_marks_the_failed_cell(nasty: Path) -> None:
    page = (nasty / "models.html").read_text()
    assert "<h1>Models</h1>" in page and "## Run" not in page and 'class="cell failed"' in page
    assert 'href="index.html"' in page and "seed" in page and "ansi-red-fg" in page and "\x1b" not in page
    assert page.count('<details class="code"') == 3


@given(st.text(alphabet="<>/\"'= abcdefghijklmnopqrstuvwxyz:()!-", max_size=80))
@settings(max_examples=60)
def test_cleaned_html_has_nothing_that_runs(text: str) -> None:
    for html in (
        text,
        f"<img src=x onerror='{text}'>",
        f"<a href='javascript:{text}'>x</a>",
        f'<table><td style="{text}">',
    ):
        cleaned = clean_html(html)
        assert not re.search(r"<(script|iframe|object|embed|style|form|input|svg|link|meta|base)\b", cleaned, re.I)
        assert not re.search(r"<[^>]+\s(on\w+\s*=|href=\"javascript)", cleaned, re.I)


# ---- in a browser ----


def opened_page(browser: Any, path: Path, width: int) -> tuple[Any, list[str]]:
    "A page opened from the disk, and everything that it complained about or asked for."
    page, heard = browser.new_page(viewport={"width": width, "height": 900}), []
    page.on("console", lambda message: heard.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on(
        "request", lambda request: heard.append(request.url) if not request.url.startswith(("file:", "data:")) else None
    )
    page.goto(path.resolve().as_uri())
    page.wait_for_load_state("load")
    return page, heard


@pytest.mark.parametrize("width", [1280, 400])
def test_report_in_a_browser(browser: Any, nasty: Path, width: int) -> None:
    page, heard = opened_page(browser, nasty / "index.html", width)
    page.wait_for_selector("[data-figure] .main-svg", timeout=20_000)
    assert page.locator("[data-figure] .main-svg").count() >= 2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    text = page.inner_text("main")
    for name in [*NASTY_COLUMNS[:2], NASTY_CLASSES[0], NASTY_CLASSES[1]]:
        assert name in text
    assert "49" not in page.inner_text("#data table")  # {{7*7}} stayed text
    assert "<script>" in page.locator("#figure-scatter").inner_text()
    for figure in page.locator("[data-figure]").all():
        figure.hover()
    assert heard == []
    page.close()


def test_report_on_paper(browser: Any, nasty: Path, tmp_path: Path) -> None:
    page, heard = opened_page(browser, nasty / "index.html", 1280)
    page.wait_for_selector("[data-figure] .main-svg", timeout=20_000)
    paper = tmp_path / "report.pdf"
    page.pdf(path=paper, format="A4", print_background=True)
    page.emulate_media(media="print")
    assert (
        page.locator("#figure-scatter .still").is_visible() and not page.locator("#figure-scatter .live").is_visible()
    )
    assert len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes())) >= 5 and heard == []
    page.close()


def test_report_without_its_script_shows_the_still_figures(browser: Any, nasty: Path, tmp_path: Path) -> None:
    shutil.copyfile(nasty / "index.html", tmp_path / "index.html")
    page, _ = opened_page(browser, tmp_path / "index.html", 800)
    assert page.locator("#figure-scatter .still img").is_visible()
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    page.close()


def test_hidden_report_in_a_browser(browser: Any, hidden: Path) -> None:
    page, heard = opened_page(browser, hidden / "index.html", 400)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth") and heard == []
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    page.close()


@pytest.mark.parametrize("width", [1280, 400])
def test_stage_page_in_a_browser(browser: Any, nasty: Path, width: int) -> None:
    page, heard = opened_page(browser, nasty / "models.html", width)
    assert heard == [] and page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert NASTY_COLUMNS[0] in page.inner_text("main") and page.locator("details.code[open]").count() == 1
    page.close()


READABLE = """() => {
  const light = c => { const v = c.map(x => { x /= 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4 });
                       return .2126 * v[0] + .7152 * v[1] + .0722 * v[2] };
  const rgb = s => s.match(/[\\d.]+/g).map(Number);
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || e.closest('svg, script, style, .unseen, .live') || !e.offsetParent) continue;
    let b = e; while (b && rgb(getComputedStyle(b).backgroundColor)[3] === 0) b = b.parentElement;
    const pair = [light(rgb(getComputedStyle(e).color)), light(b ? rgb(getComputedStyle(b).backgroundColor) : [255, 255, 255])];
    const ratio = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
    if (ratio < 4.5) bad.push(e.tagName + '.' + e.className + ' ' + ratio.toFixed(2));
  }
  return [...new Set(bad)];
}"""


@pytest.mark.parametrize("name", ["index.html", "models.html"])
def test_pages_can_be_read_by_all(browser: Any, nasty: Path, name: str) -> None:
    page, _ = opened_page(browser, nasty / name, 1280)
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].filter(h => h.offsetParent).map(h => +h.tagName[1])"
    )
    assert levels.count(1) == 1
    below = levels[levels.index(1) :]
    assert all(after - before <= 1 for before, after in pairwise(below))
    assert page.evaluate("[...document.images].every(image => image.alt.length > 0)")
    assert page.evaluate("[...document.querySelectorAll('main > section th, .sections th')].every(th => th.scope)")
    assert page.evaluate("document.documentElement.lang") == "en" and page.locator("main").count() == 1
    assert page.evaluate(READABLE) == []
    page.close()


def test_report_size(nasty: Path, hidden: Path) -> None:
    for run in (nasty, hidden):
        assert (run / "index.html").stat().st_size < 1_000_000
    assert (nasty / "plotly.min.js").exists() and not (hidden / "plotly.min.js").exists()


def test_tiles_of_a_study_without_training_are_empty() -> None:
    assert tiles(Facts(Path("x"))) == [] and headline(Facts(Path("x"))) == "A study without a result yet"
