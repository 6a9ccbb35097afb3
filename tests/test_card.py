"""Model cards: what is in them, who wrote which part, and what they never show."""

from __future__ import annotations

import json
import re
import time
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from iris_nb import card as card_module
from iris_nb.card import WRITTEN, card_markdown, front_matter, limits, page_of, plain, read_written, write_card
from iris_nb.document import read_facts
from iris_nb.errors import InputError
from iris_nb.files import write_json, write_text


def make_run(folder: Path, **changes: dict[str, Any]) -> Path:
    """The files of a small finished run; `changes` are merged into them, by their stem."""
    run_dir = folder / "reports" / "20261122T203015-frogs-5f0a"
    scores = {"value": 0.75, "low": 0.5, "high": 1.0}
    classes = [{"class": c, "precision": 0.75, "recall": 0.75, "f1": 0.75, "support": 2} for c in ("grass", "tree")]
    files: dict[str, dict[str, Any]] = {
        "run": {"id": run_dir.name, "table": "frogs", "status": "done", "git": {"commit": "a" * 40, "dirty": True}},
        "data/data": {
            "table": "frogs", "source": "frogs.csv", "target": "kind", "rows": 12, "columns": 3, "contract": "reviewed",
            "classes": ["grass", "tree"], "show_rows": False, "sha256_raw": "b" * 64, "notes": ["A note."],
            "class_counts": {"grass": {"train": 4, "test": 2}, "tree": {"train": 4, "test": 2}},
            "split": {"train": 8, "test": 4, "equal_rows": 0}, "left_out": [{"column": "id", "reason": "it is an id"}],
        },
        "data/profile": {
            "columns": [{"name": "w", "kind": "number", "role": "feature", "unit": "g", "missing": 0, "min": 4, "max": 31.5}]
        },
        "data/contract": {"columns": [{"name": "w", "kind": "number", "role": "feature"}]},
        "models/models": {
            "metric": "balanced_accuracy", "seed": 3, "folds": 2, "reason": "it was the only one",
            "leaderboard": [{"name": "lda", "title": "LDA", "status": "ok", "mean": 0.7, "low": 0.4, "high": 1.0}],
        },
        "training/training": {
            "chosen": "lda", "title": "LDA", "params": {"solver": "svd"}, "metrics": {"balanced_accuracy": scores},
            "baseline": {"balanced_accuracy": 0.5}, "per_class": classes, "rows_tested": 4, "rows_fitted": 8,
            "confusion": {"classes": ["grass", "tree"], "counts": [[2, 0], [1, 1]]}, "calibration": {"ece": 0.2},
            "gate": {"passed": True, "metric": "balanced_accuracy", "reasons": ["it is better"]},
        },
    }  # fmt: skip
    for name, content in files.items():
        write_json(run_dir / f"{name}.json", content | changes.get(Path(name).stem, {}))
    return run_dir


def card_of(run_dir: Path, texts: dict[str, str] | None = None) -> str:
    return card_markdown(read_facts(run_dir), texts or {})


@pytest.mark.parametrize(
    "heading",
    [
        "## Model Details", "### Model Description", "## Uses", "### Direct Use", "### Out-of-Scope Use",
        "## Bias, Risks, and Limitations", "### Ethical Considerations", "## How to Get Started with the Model",
        "## Training Details", "### Training Data", "### Training Procedure", "#### Preprocessing",
        "#### Training Hyperparameters", "## Evaluation", "### Testing Data, Factors & Metrics", "### Results",
        "## Technical Specifications", "## Citation", "## Model Card Contact", "### License",
    ],
)  # fmt: skip
def test_card_has_the_sections_of_the_hub(tmp_path: Path, heading: str) -> None:
    assert f"\n{heading}\n" in card_of(make_run(tmp_path))


def test_card_says_what_the_run_knows(tmp_path: Path) -> None:
    text = card_of(make_run(tmp_path))
    for part in ("0.750", "0.500 to 1.000", "3 of 4 were named right", "a" * 40, "not committed", "**Seed:** 3"):
        assert part in text
    assert "| `w` | number | feature | g | 4 to 31.5 | 0 |" in text
    assert "b" * 64 in text and "`id` (it is an id)" in text and "A note." in text


def test_each_part_says_who_wrote_it(tmp_path: Path) -> None:
    texts = {part: f"words about {part}\n\n- a point" for part in list(WRITTEN)[:3]}
    text = card_of(make_run(tmp_path), texts)
    assert text.count("*Written by a person, in `data/cards/frogs.yaml`.*") == 3
    assert text.count("*Not written yet: write it in `data/cards/frogs.yaml`") == len(WRITTEN) - 3
    assert "> words about intended_use\n>\n> - a point\n" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training": {"gate": {"passed": False, "metric": "balanced_accuracy"}}}, "did not pass its gate"),
        ({"data": {"contract": "inferred"}}, "Nobody has reviewed the contract"),
        ({"data": {"violations": 3}}, "breaks its contract in 3 places"),
        ({"data": {"split": {"equal_rows": 2, "note": "2 rows are equal."}}}, "2 rows are equal."),
        ({"data": {"class_counts": {"a": {"train": 50, "test": 10}, "b": {"train": 5, "test": 1}}}}, "uneven"),
        ({"contract": {"columns": [{"name": "d", "kind": "date", "role": "feature"}]}}, "does not follow time"),
        (
            {"profile": {"columns": [{"name": "w", "role": "feature", "kind": "number", "missing": 2}]}},
            "missing values",
        ),
        (
            {"models": {"leaderboard": [{"name": "lda", "status": "capped", "note": "fitted on 5 rows"}]}},
            "was fitted on 5 rows",
        ),
    ],
)
def test_limits_follow_from_facts(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    before = " ".join(limits(read_facts(make_run(tmp_path / "a"))))
    after = " ".join(limits(read_facts(make_run(tmp_path / "b", **changes))))
    assert said in after and said not in before


@pytest.mark.parametrize(
    ("split", "said", "not_said"),
    [
        ({}, ["drawn at random", "how they change with time", "does not follow time"], ["latest", "whole groups"]),
        (
            {"group": "pond"},
            ["whole groups of the column `pond`", "how they change with time", "does not follow time"],
            ["at random", "in the proportions"],
        ),
        (
            {"time": "day"},
            ["the latest by the column `day`", "later than the held-out rows"],
            ["at random", "in the proportions", "does not follow time", "how they change with time"],
        ),
        (
            {"group": "pond", "time": "day"},
            ["the latest by the column `day`, in whole groups of the column `pond`"],
            ["at random", "in the proportions", "does not follow time", "how they change with time"],
        ),
    ],
)
def test_limits_fit_the_split(tmp_path: Path, split: dict[str, str], said: list[str], not_said: list[str]) -> None:
    dates = {"columns": [{"name": "d", "kind": "date", "role": "feature"}]}
    given = {"split": {"train": 8, "test": 4, "equal_rows": 0, "group": "", "time": ""} | split}
    text = " ".join(limits(read_facts(make_run(tmp_path, data=given, contract=dates))))
    assert all(part in text for part in said) and not any(part in text for part in not_said)


def test_many_held_out_rows_are_not_called_few(tmp_path: Path) -> None:
    assert "few:" not in " ".join(limits(read_facts(make_run(tmp_path, training={"rows_tested": 1000}))))


def test_front_matter_is_yaml_that_a_hub_reads(tmp_path: Path) -> None:
    facts = read_facts(make_run(tmp_path))
    head = yaml.safe_load(front_matter(facts, {"licence": "CC-BY-4.0"}).strip("-\n"))
    assert head["library_name"] == "sklearn" and head["license"] == "cc-by-4.0"
    result = head["model-index"][0]["results"][0]
    assert result["dataset"]["type"] == "frogs" and result["metrics"][0]["value"] == 0.75
    assert "license" not in yaml.safe_load(front_matter(facts, {}).strip("-\n"))
    assert yaml.safe_load(front_matter(facts, {"licence": "ask me"}).strip("-\n"))["license"] == "other"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("intended_usage: x", "did you mean 'intended_use'?"),
        ("license: x", "did you mean 'licence'?"),
        ("contact: [a, b]", "must be a text"),
        ("contact: ''", "must be a text"),
        ("- a\n- b", "is not a list of names with a text each"),
        ("a: b: c", "cannot be read"),
        ("\x00", "cannot be read"),
    ],
)
def test_written_part_that_is_wrong_is_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    write_text(tmp_path / "data" / "cards" / "frogs.yaml", text)
    with pytest.raises(InputError) as caught:
        read_written(tmp_path, "frogs")
    assert said in str(caught.value) and "data/cards/frogs.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_written_part_of_the_project_is_whole() -> None:
    texts = read_written(ROOT, "iris")
    assert set(texts) == set(WRITTEN)
    assert "Annals of Eugenics" in texts["ethical_considerations"]


def test_nothing_is_written_where_a_run_has_no_model(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, training={"chosen": None})
    with pytest.raises(InputError, match="has no model"):
        write_card(run_dir, tmp_path)
    assert not list(run_dir.glob("model-card*"))


def test_card_is_the_same_every_time_and_quick(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    first = [write_card(run_dir, tmp_path).read_bytes(), (run_dir / "model-card.html").read_bytes()]
    start = time.process_time()
    again = [write_card(run_dir, tmp_path).read_bytes(), (run_dir / "model-card.html").read_bytes()]
    assert again == first
    assert time.process_time() - start < 0.2, "it is written at the end of every run"


HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "`c`",
    "*d*",
    "[e](javascript:x)",
    "# f",
    "1. g",
    "![h](http://x/y.png)",
    "&lt;i",
    'died, or "ill"',
    "`",
    "a``b`",
    "$x$ 'y' Ä_z_",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_a_table_mean_only_themselves(tmp_path: Path, name: str) -> None:
    data = {"target": name, "classes": [name], "class_counts": {name: {"train": 4, "test": 2}}, "source": name}
    column = {"name": name, "kind": "number", "role": "feature", "unit": name, "missing": 0, "min": 1, "max": 2}
    run_dir = make_run(tmp_path, data=data, profile={"columns": [column]}, models={"reason": name})
    page = page_of(read_facts(run_dir), card_of(run_dir))
    assert (
        "<script" not in page and "<img" not in page and "javascript:" not in re.sub(r"<[^a][^>]*>|>[^<]*<", "", page)
    )

    cells = [cell.get_text() for cell in BeautifulSoup(page, "html.parser").select("td:first-child")]
    assert name in cells


@given(st.text(max_size=60))
def test_name_is_code_and_survives_markdown(text: str) -> None:
    from iris_nb.wording import label

    name = card_module.name(text)
    for lines in ([name], card_module.table_of(["a"], [[name]])):
        codes = BeautifulSoup(card_module._renderer()("\n".join(lines)), "html.parser").find_all("code")
        if "\\|" not in text or len(lines) == 1:  # a table of Markdown has no way to write a backslash before a bar
            assert [" ".join(code.get_text().split()) for code in codes] == [label(text)]


def test_all_names_of_a_list_look_alike(tmp_path: Path) -> None:
    names = ["weight", "weight, total", 'the "other" one', "a|b & c"]
    columns = [{"name": n, "kind": "number", "role": "feature", "missing": 0} for n in names]
    page = page_of(read_facts(run := make_run(tmp_path, contract={"columns": columns})), card_of(run))
    needs = next(p for p in BeautifulSoup(page, "html.parser").select("p") if "A row needs" in p.get_text())
    assert [code.get_text() for code in needs.select("code")] == names
    assert needs.get_text() == f"A row needs the columns {', '.join(names)}."


FEATURES = [
    (["number"] * 4 + ["date part"] * 4 + ["mark"] * 2, "10 features (4 number columns, 4 parts of dates, 2 marks of missing values);"),
    (["number", "made", "made", "boolean"], "4 features (1 number column, 2 products, ratios or differences of two columns, 1 yes-or-no column);"),
    (["number", "category", "category"], "1 feature (1 number column), and one for each value of 2 category columns;"),
    (["category"], "Features: one for each value of 1 category column;"),
    ([], "Features: not recorded;"),
]  # fmt: skip


@pytest.mark.parametrize(("kinds", "said"), FEATURES)
def test_features_are_counted_by_how_they_are_made(tmp_path: Path, kinds: list[str], said: str) -> None:
    run_dir = make_run(tmp_path)
    columns = [{"name": f"f{n}", "from": ["w"], "kind": kind, "how": ""} for n, kind in enumerate(kinds)]
    write_json(run_dir / "features" / "features.json", {"columns": columns})
    card = card_of(run_dir)
    assert said in card and "constructed" not in card


@pytest.mark.parametrize(("repeats", "said"), [(1, "(2 folds)"), (5, "(2 folds, 5 times)"), (None, "(2 folds)")])
def test_repeats_are_said_where_there_are_several(tmp_path: Path, repeats: int | None, said: str) -> None:
    assert said in card_of(make_run(tmp_path, models={"repeats": repeats}))


def test_dates_and_parameters_are_written_as_people_write_them(tmp_path: Path) -> None:
    ends = {"min": "2024-01-01T00:00:00", "max": "2024-12-24T08:30:00"}
    column = {"name": "visit", "kind": "date", "role": "feature", "missing": 0} | ends
    params = {"shrinkage": None, "store": False, "solver": "svd", "tol": 1e-4, "quote": "`"}
    card = card_of(make_run(tmp_path, profile={"columns": [column]}, training={"params": params}))
    assert "| 2024-01-01 to 2024-12-24T08:30:00 |" in card
    assert "``quote='`'``, `shrinkage=None`, `solver='svd'`, `store=False`, `tol=0.0001`" in card


def test_registered_version_is_named_if_there_is_one(tmp_path: Path) -> None:
    model = {"name": "frogs", "version": "3", "alias": "staging", "uri": "models:/frogs/3"}
    assert "- **Registered as:** `frogs`, version 3, alias `staging`\n" in card_of(
        make_run(tmp_path, run={"model": model})
    )
    assert "version 3\n" in card_of(make_run(tmp_path, run={"model": model | {"alias": None}}))
    assert "Registered" not in card_of(make_run(tmp_path, run={"model": model | {"version": None}}))


@given(st.text(max_size=60))
def test_plain_text_survives_markdown(text: str) -> None:
    import mistune

    from iris_nb.wording import label

    html = str(mistune.create_markdown(escape=True, plugins=["table"])(plain(text)))
    assert " ".join(BeautifulSoup(html, "html.parser").get_text().split()) == label(text)


def test_page_loads_nothing(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    page = page_of(
        read_facts(run_dir), card_of(run_dir, {"contact": "![x](http://example.org/x.png) see <http://example.org>"})
    )
    assert "default-src 'none'" in unescape(page) and "connect-src 'none'" in unescape(page)
    assert "<img" not in page and 'href="http://example.org/x.png"' in page
    assert not re.search(r"<(script|link|iframe)[^>]*(src|href)=\"(?!data:)", page)


def test_card_shows_no_row(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    write_json(
        run_dir / "report" / "mistakes.json",
        {"total": 1, "rows": [{"row": 28, "actual": "SECRET-1", "values": ["SECRET-2"]}]},
    )
    write_json(run_dir / "data" / "violations.json", [{"row": 3, "column": "w", "value": "SECRET-3", "rule": "r"}])
    write_card(run_dir, tmp_path)
    written = "".join(path.read_text(encoding="utf-8") for path in run_dir.glob("model-card.*"))
    assert "SECRET" not in written and json.dumps("SECRET") not in written
