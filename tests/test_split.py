"""The split: stratified, seeded, and equal rows on one side."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iris_nb.data import load_data, load_table, prepare_data, save_data
from iris_nb.errors import MissingStageError
from iris_nb.folders import RunFolder, open_run
from iris_nb.split import equal_rows, held_out_counts, split_rows

counts = st.lists(st.integers(2, 60), min_size=2, max_size=8).map(np.array)
shares = st.floats(0.05, 0.5)
seeds = st.integers(0, 2**32 - 1)


@given(counts, shares)
def test_held_out_counts(rows, share):
    held = held_out_counts(rows, share)
    assert ((held >= 1) & (held < rows)).all()
    assert (np.abs(held - rows * share) <= 1).all() or (held == 1).any()
    if (np.floor(rows * share) >= 1).all():
        assert held.sum() == round(int(rows.sum()) * share)


@given(counts, shares)
def test_held_out_counts_do_not_depend_on_the_order_of_unequal_classes(rows, share):
    rows = np.unique(rows)
    assert (held_out_counts(rows[::-1], share)[::-1].sum()) == held_out_counts(rows, share).sum()


@st.composite
def tables(draw):
    rows = draw(counts)
    labels = np.repeat([f"c{i}" for i in range(len(rows))], rows)
    values = draw(st.integers(1, 400))
    random = np.random.default_rng(draw(seeds))
    features = pd.DataFrame({"x": random.integers(0, values, len(labels)).astype(float)})
    order = random.permutation(len(labels))
    return pd.Series(labels[order]), features


@settings(deadline=None, max_examples=300)
@given(tables(), shares, seeds)
def test_promises_of_the_split(table, share, seed):
    labels, features = table
    split = split_rows(labels, features, share, seed)
    total, held = labels.value_counts(), labels[split.test].value_counts()
    assert len(split.test) == len(labels) and set(split.parts) == {"train", "test"}
    assert (held.reindex(total.index, fill_value=0) >= 1).all() and (held < total[held.index]).all()
    sides = pd.DataFrame({"x": features["x"], "side": split.test}).groupby("x")["side"].nunique()
    if split.grouped:
        assert (sides == 1).all()
    else:
        assert "too good" in split.note
    assert split.equal_rows == features["x"].duplicated(keep=False).sum()
    again = split_rows(labels, features, share, seed)
    assert (again.test == split.test).all() and again.note == split.note


@settings(deadline=None, max_examples=100)
@given(counts, shares, seeds)
def test_counts_are_exact_without_equal_rows(rows, share, seed):
    labels = pd.Series(np.repeat(np.arange(len(rows)).astype(str), rows))
    split = split_rows(labels, pd.DataFrame({"x": np.arange(len(labels)) * 1.0}), share, seed)
    assert split.grouped and split.equal_rows == 0
    assert labels[split.test].value_counts().sort_index().tolist() == held_out_counts(rows, share).tolist()


@settings(deadline=None, max_examples=100)
@given(st.integers(20, 200), st.integers(1, 9), seeds)
def test_a_few_equal_rows_leave_the_counts_exact(size, pairs, seed):
    labels = pd.Series(np.arange(size) % 2).map({0: "a", 1: "b"})
    values = np.arange(size) * 1.0
    values[2 : 2 + pairs] = values[2]
    assume(pairs * 4 < size)
    split = split_rows(labels, pd.DataFrame({"x": values}), 0.25, seed)
    assert split.grouped
    assert sorted(labels[split.test].value_counts()) == sorted(held_out_counts(np.bincount(np.arange(size) % 2), 0.25))


def test_every_row_is_held_out_about_as_often():
    labels = pd.Series(["a"] * 20 + ["b"] * 30)
    features = pd.DataFrame({"x": [0.0, 0.0, 1.0, 1.0, *range(2, 48)]})
    often = sum(split_rows(labels, features, 0.2, seed).test.astype(int) for seed in range(2000)) / 2000
    assert (np.abs(often - 0.2) < 0.06).all()


def test_equal_rows_by_kind():
    frame = pd.DataFrame(
        {
            "number": [0.0, -0.0, 1.0, np.nan, np.nan],
            "category": pd.Series(["a", "a", "a", None, np.nan], dtype=object),
            "date": pd.to_datetime(["2026-01-01", "2026-01-01", "2026-01-01", None, None]),
        }
    )
    assert equal_rows(frame).tolist() == [0, 0, 1, 2, 2]


def test_all_rows_equal_is_split_plainly_and_said():
    labels = pd.Series(["a", "b"] * 10)
    split = split_rows(labels, pd.DataFrame({"x": [1.0] * 20}), 0.2, 0)
    assert not split.grouped and split.test.sum() == 4 and "16 training rows have an equal" in split.note


@pytest.mark.parametrize("seed", range(20))
def test_the_same_flower_twice_stays_on_one_side(seed):
    iris = load_table("iris").frame
    split = split_rows(iris["species"], iris.drop(columns="species"), 0.2, seed)
    assert split.grouped and split.test[101] == split.test[142] and split.test.sum() == 30


def test_files_of_the_stage(tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(MissingStageError, match="run the stage 'data' first"):
        load_data(run)
    study = prepare_data("iris", "", [], [], "", "", "", "", "", 0.3, 5, "no")
    save_data(run, study)
    names = {"table.parquet", "split.parquet", "contract.json", "violations.json", "profile.json", "data.json"}
    names |= {"leakage.json", "quality.json"}
    assert {path.name for path in (tmp_path / "run" / "data").iterdir()} == names
    data = load_data(run)
    assert (len(data.train), len(data.test), data.show_rows) == (105, 45, False)
    pd.testing.assert_frame_equal(data.frame, study.frame)
    rows = np.sort(np.concatenate([data.train_rows, data.test_rows]))
    assert rows.tolist() == list(range(1, 151)) and len(data.train_groups) == 105
    assert data.train_labels.dtype == object and data.contract == study.contract


def test_a_scratch_run_gets_iris():
    data = load_data(open_run(""))
    assert data.facts["table"] == "iris" and data.classes == ("setosa", "versicolor", "virginica")
