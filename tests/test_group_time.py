"""Groups and time: no group on both sides, the latest rows held out, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iris_nb.data import load_data, prepare_data, save_data
from iris_nb.errors import ParameterError
from iris_nb.folders import open_run
from iris_nb.split import group_numbers, join_groups, latest_rows, split_groups, split_times, time_ranks

seeds = st.integers(0, 2**32 - 1)


@st.composite
def grouped(draw: Any) -> tuple[pd.Series, pd.DataFrame, pd.Series]:
    random = np.random.default_rng(draw(seeds))
    rows, groups, classes = draw(st.integers(12, 200)), draw(st.integers(3, 60)), draw(st.integers(2, 4))
    names = pd.Series(random.integers(0, groups, rows), name="plant").map(lambda i: f"p{i}")
    names = names.mask(random.random(rows) < draw(st.sampled_from([0.0, 0.2])))
    labels = pd.Series(random.integers(0, classes, rows)).map(lambda i: f"c{i}")
    values = random.integers(0, draw(st.sampled_from([5, 10_000])), rows)
    return labels, pd.DataFrame({"x": values.astype(float)}), names


@settings(deadline=None, max_examples=50)
@given(grouped(), st.floats(0.05, 0.5), seeds)
def test_no_group_is_ever_on_both_sides(table: Any, share: float, seed: int) -> None:
    labels, features, names = table
    try:
        split = split_groups(labels, features, names, share, seed)
    except ParameterError as error:
        assert "group" in str(error) and str(error).count(". ") == 0
        assume(False)
    known = names.notna().to_numpy()
    assert set(names[split.test & known]).isdisjoint(names[~split.test & known])
    assert set(split.groups[split.test]).isdisjoint(split.groups[~split.test])
    assert set(labels[split.test]) == set(labels[~split.test]) == set(labels)
    if split.grouped:
        assert set(features["x"][split.test]).isdisjoint(features["x"][~split.test])
    again = split_groups(labels, features, names, share, seed)
    assert (again.test == split.test).all() and again.note == split.note


@pytest.mark.parametrize(("groups", "rows"), [(30, 300), (400, 4_000), (5_000, 20_000)])
def test_groups_are_stratified_as_well_as_they_allow(groups: int, rows: int) -> None:
    random = np.random.default_rng(0)
    names = pd.Series(random.integers(0, groups, rows), name="plant")
    labels = pd.Series(random.choice(["a", "b", "c"], rows, p=[0.6, 0.3, 0.1]))
    features = pd.DataFrame({"x": random.normal(size=rows)})
    for seed in range(3):
        split = split_groups(labels, features, names, 0.2, seed)
        held = labels[split.test].value_counts() / labels.value_counts()
        assert (held - 0.2).abs().max() < 0.06 and abs(split.test.mean() - 0.2) < 0.03


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.data())
def test_joined_groups(one: list[int], data: Any) -> None:
    other = data.draw(st.lists(st.integers(0, 6), min_size=len(one), max_size=len(one)))
    joined = join_groups(np.array(one), np.array(other))
    for groups in (one, other):
        assert pd.Series(joined).groupby(groups).nunique().eq(1).all()
    assert len(set(joined)) <= min(len(set(one)), len(set(other)))


def test_groups_of_gaps() -> None:
    assert group_numbers(pd.Series([1.0, None, 1.0, None])).tolist() == [0, 1, 0, 2]


@given(st.lists(st.integers(0, 50), min_size=2, max_size=200), st.floats(0.05, 0.5))
def test_the_latest_rows(moments: list[int], share: float) -> None:
    assume(len(set(moments)) > 1)
    ranks = time_ranks(pd.Series(moments))
    late = latest_rows(ranks, share)
    times = np.array(moments)
    assert late.any() and not late.all() and times[late].min() > times[~late].max()
    sizes = [int((times >= moment).sum()) for moment in sorted(set(moments))[1:]]
    wish = len(moments) * share
    assert abs(int(late.sum()) - wish) == min(abs(size - wish) for size in sizes)


@settings(deadline=None, max_examples=40)
@given(grouped(), st.floats(0.05, 0.5), seeds)
def test_groups_and_time_together(table: Any, share: float, seed: int) -> None:
    labels, features, names = table
    when = pd.Series(np.random.default_rng(seed).integers(0, 1000, len(labels)), name="day")
    try:
        split = split_times(labels, features, when, names, share)
    except ParameterError:
        assume(False)
    known = names.notna().to_numpy()
    assert set(names[split.test & known]).isdisjoint(names[~split.test & known])
    begin = when.groupby(group_numbers(names)).transform("min")
    assert begin[split.test].min() > begin[~split.test].max()


WORDS: dict[str, Any] = {
    "target": "", "drop": [], "keep": [], "positive": "", "encoding": "", "delimiter": "", "decimal": "",
    "contracts_dir": "", "test_size": 0.25, "seed": 0, "show_rows": "auto",
}  # fmt: skip


def meadow(rows: int = 120) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "plot": [f"plot {i // 6}" for i in range(rows)],
            "day": pd.date_range("1935-05-01", periods=rows, freq="D").strftime("%Y-%m-%d"),
            "year": 1900 + np.arange(rows) // 2,
            "colour": random.choice(["blue", "violet"], rows),
            "gappy": np.where(np.arange(rows) % 10 == 0, "", (1900 + np.arange(rows)).astype(str)),
            "petal_length": random.normal(4, 1, rows).round(3),
            "sepal_length": random.normal(6, 1, rows).round(3),
            "species": random.choice(["setosa", "virginica"], rows),
        }
    )


def source(folder: Path, frame: pd.DataFrame | None = None) -> str:
    path = folder / "meadow.csv"
    (meadow() if frame is None else frame).to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize(
    "words", [{"group": "plot"}, {"time": "day"}, {"time": "year"}, {"group": "plot", "time": "day"}]
)
def test_what_later_stages_read(tmp_path: Path, words: dict[str, str]) -> None:
    study, run = prepare_data(source(tmp_path), **WORDS, **words), open_run("")
    save_data(run, study)
    data = load_data(run)
    for word, name in words.items():
        column = data.contract.column(name)
        assert not column.is_feature and word in column.reason and name not in data.train
        assert data.facts["split"][word] == name
    train = (data.split["part"] == "train").to_numpy()
    if "group" in words:
        plots = data.frame["plot"]
        assert set(plots[train]).isdisjoint(plots[~train]) and data.facts["split"]["groups"] == 20
        assert pd.Series(data.train_groups).groupby(plots[train].to_numpy()).nunique().eq(1).all()
    if "time" in words:
        when = data.frame[words["time"]]
        assert when[~train].min() > when[train].max()
        assert data.train_times is not None and len(data.train_times) == train.sum()
        assert (np.argsort(data.train_times, kind="stable") == np.argsort(when[train].to_numpy(), kind="stable")).all()
    else:
        assert data.train_times is None
    assert data.facts["leakage"]["error"] == 0


def test_a_group_that_goes_on_is_counted(tmp_path: Path) -> None:
    frame = meadow().assign(plot=[f"plot {i % 25 if i < 100 else i}" for i in range(120)])
    study = prepare_data(source(tmp_path, frame), **WORDS | {"test_size": 0.15}, group="plot", time="day")
    assert [f.code for f in study.audit.findings if f.severity != "info"] == []
    frame = meadow().assign(plot=[f"plot {i % 3 if i % 2 else i}" for i in range(120)])
    study = prepare_data(source(tmp_path, frame), **WORDS, group="plot", time="day")
    assert [(f.code, f.severity) for f in study.audit.findings if f.severity != "info"] == [("L006", "warning")]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"group": "plots"}, "group column 'plots' is not in the table.*did you mean 'plot'"),
        ({"time": "dya"}, "time column 'dya' is not in the table.*did you mean 'day'"),
        ({"group": "species"}, "is the column to predict"),
        ({"group": "plot", "keep": ["plot"]}, "to be kept as a feature and named as group"),
        ({"group": "colour"}, "makes 2 groups, and at least 3 are needed"),
        ({"time": "colour"}, "cannot order the rows in time, because it holds texts"),
        ({"time": "gappy"}, "is missing in 12 of 120 rows"),
    ],
)
def test_bad_input_gets_one_sentence(tmp_path: Path, words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence) as caught:
        prepare_data(source(tmp_path), **WORDS | words)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value) and ". " not in str(caught.value)


def test_classes_that_cannot_be_on_both_sides(tmp_path: Path) -> None:
    late = meadow().assign(species=np.where(np.arange(120) < 110, "setosa", "virginica"))
    with pytest.raises(ParameterError, match="'virginica' appears only from the cut at 1935-07-30 in 'day' on"):
        prepare_data(source(tmp_path, late), **WORDS, time="day")
    one = meadow().assign(species=np.where(np.arange(120) < 114, "setosa", "virginica"))
    with pytest.raises(ParameterError, match="of the 20 groups of 'plot' only one has rows of the class 'virginica'"):
        prepare_data(source(tmp_path, one), **WORDS, group="plot")
    early = meadow().assign(species=np.where(np.arange(120) < 80, meadow()["species"], "setosa"))
    study = prepare_data(source(tmp_path, early), **WORDS, time="day")
    assert any("'virginica' has no held-out row" in note for note in study.facts["notes"])


def test_a_group_column_named_of_a_reviewed_table() -> None:
    study = prepare_data("iris", **WORDS, group="petal_width")
    assert "petal_width" not in study.contract.feature_names and study.contract.reviewed


def test_without_group_and_time_nothing_changes() -> None:
    from iris_nb.split import split_rows

    study = prepare_data("iris", **WORDS)
    plain = split_rows(study.frame["species"], study.contract.conform(study.frame), 0.25, 0)
    assert (study.split.test == plain.test).all() and study.split.members is None and study.split.times is None
