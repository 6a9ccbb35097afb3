"""Compiled forests: the same numbers as scikit-learn, from a library that only this user can have put there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from test_onnxfile import OPTIONS, columns_of, fit, study, with_model

from iris_nb import compiled
from iris_nb.candidates import Adjusted, candidate_named, probabilities
from iris_nb.compiled import compile_forest, compiled_or_why, drawn_rows, find_compiler, load_program
from iris_nb.files import sha256_bytes
from iris_nb.graph import NotConvertible
from iris_nb.modelfile import Model
from iris_nb.onnxfile import Tree, probe_rows

pytestmark = [
    pytest.mark.skipif(not find_compiler(), reason="no C compiler is installed (cc, gcc or clang)"),
    pytest.mark.filterwarnings("ignore"),
]


def as_model(pipeline: Any, contract: Any) -> Model:
    """A model as `load_model` gives it."""
    return Model(pipeline, {"classes": list(contract.classes)}, contract, "")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder with a compiled program."""
    folder = tmp_path_factory.mktemp("cache") / "compiled"
    load_program(folder)
    yield folder


def assert_same(model: Model, cache: Path, X: pd.DataFrame, threads: int = 1) -> None:
    """Compiled and exact answers are the same numbers, but for rows that are left to the exact model."""
    made, why = compiled_or_why(model, cache, threads)
    assert made is not None, why
    for rows in (X, probe_rows(model.contract, X, 600), drawn_rows(model.contract, 600), X.iloc[:1], X.iloc[:257]):
        found, right = made.proba(columns_of(rows)), probabilities(model.pipeline, rows, model.contract.classes)
        sure = ~(found == found[:, :1]).all(axis=1)
        assert np.array_equal(found[sure], right[sure])


@pytest.mark.parametrize("name", ["forest", "extra_trees", "boosting"])
@pytest.mark.parametrize("table", ["iris", "messy", "messy with two classes"])
def test_answers_are_the_same_numbers(name: str, table: str, cache: Path) -> None:
    settings = {} if name == "boosting" else {"n_estimators": 25}
    candidate = Adjusted(candidate_named(name), settings) if settings else candidate_named(name)
    pipeline, contract, X = fit(candidate, table)
    assert_same(as_model(pipeline, contract), cache, X)


@pytest.mark.parametrize("leaves", [2, 31, 32, 33, 64, 65, 400])
def test_trees_of_every_size(leaves: int, cache: Path) -> None:
    Z, y = make_classification(3000, 6, flip_y=0.4, random_state=0)
    table = pd.DataFrame(Z, columns=[f"x{n}" for n in range(6)]).assign(kind=np.array(["no", "yes"])[y])
    from sklearn.pipeline import Pipeline

    from iris_nb.contract import infer_contract
    from iris_nb.features import build_features

    contract = infer_contract(table, "table", "kind")
    X, labels = contract.conform(table), contract.labels(table["kind"])
    features = build_features(contract, OPTIONS)
    forest = RandomForestClassifier(5, max_leaf_nodes=leaves, random_state=0)
    forest.fit(features.fit_transform(X, labels), labels.astype(str))
    assert max(tree.get_n_leaves() for tree in forest.estimators_) == leaves
    assert_same(as_model(Pipeline([("features", features), ("model", forest)]), contract), cache, X)


@pytest.mark.parametrize("table", ["iris", "messy with two classes"])
def test_gradient_boosting(table: str, cache: Path) -> None:
    pipeline, contract, X = with_model(GradientBoostingClassifier(n_estimators=15), table)
    assert_same(as_model(pipeline, contract), cache, X)


def test_threads_change_nothing(cache: Path) -> None:
    pipeline, contract, X = fit(Adjusted(candidate_named("forest"), {"n_estimators": 20}), "iris")
    model, many = as_model(pipeline, contract), pd.concat([X] * 250, ignore_index=True)
    one, two = (compile_forest(model, cache, threads) for threads in (1, 3))
    assert one is not None and two is not None
    assert np.array_equal(one.proba(columns_of(many)), two.proba(columns_of(many)))


def test_numbers_beyond_32_bits_are_left_to_the_exact_model(cache: Path) -> None:
    pipeline, contract, X = fit(Adjusted(candidate_named("forest"), {"n_estimators": 9}), "iris")
    made = compile_forest(as_model(pipeline, contract), cache)
    rows = X.iloc[:3].copy()
    rows.iloc[1, 0] = 1e300
    assert made is not None and made.near(made.proba(columns_of(rows))).tolist() == [False, True, False]


def test_other_models_say_why(cache: Path) -> None:
    pipeline, contract, _ = fit(candidate_named("logistic"), "iris")
    assert compile_forest(as_model(pipeline, contract), cache) is None
    assert "is not a forest" in compiled_or_why(as_model(pipeline, contract), cache)[1]


def test_a_forest_that_disagrees_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, contract, _ = fit(Adjusted(candidate_named("forest"), {"n_estimators": 9}), "iris")
    rounded = compiled._rounded_down
    monkeypatch.setattr(compiled, "_rounded_down", lambda threshold: rounded(threshold) + np.float32(0.5))
    made, why = compiled_or_why(as_model(pipeline, contract), cache)
    assert made is None and "label" in why


# --- what is loaded as code ---


@pytest.mark.parametrize("threshold", [0.1, 0.75, 1e-45, 3.5e38, -0.1, 16777217.0, 0.8000000119209290])
def test_thresholds_are_rounded_down(threshold: float) -> None:
    found = float(compiled._rounded_down(np.array([threshold]))[0])
    assert found <= threshold < float(np.nextafter(np.float32(found), np.float32(np.inf)))


BAD = {
    "back to the root": ("left", 0),
    "out of the tree": ("right", 3),
    "far out": ("right", 2**31),
    "unknown feature": ("feature", 4),
    "feature below zero": ("feature", -1),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_tree_that_leads_out_of_itself_is_refused(fault: str) -> None:
    parts: dict[str, Any] = {"feature": [2, 0, 0], "left": [1, -1, -1], "right": [2, -1, -1]}
    parts[BAD[fault][0]][0] = BAD[fault][1]
    leaf, value = np.array([False, True, True]), np.ones((3, 2))
    arrays = {name: np.array(values, dtype=np.int64) for name, values in parts.items()}
    with pytest.raises(NotConvertible, match="damaged"):
        compiled._check_tree(Tree(threshold=np.zeros(3), leaf=leaf, value=value, targets=[0, 1], **arrays), 4, 2)


def test_the_library_is_named_by_its_hash_and_reused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = cache.glob("*.so")
    assert file.stem.rpartition("-")[2] == sha256_bytes(file.read_bytes())
    monkeypatch.setattr(compiled, "_build", lambda compiler: pytest.fail("it was built again"))
    load_program(cache)


@pytest.mark.parametrize("how", ["changed", "emptied", "linked"])
def test_a_changed_library_is_not_loaded(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    load_program(folder)
    (file,) = folder.glob("*.so")
    good = file.read_bytes()
    if how == "linked":
        file.rename(tmp_path / "elsewhere.so")
        file.symlink_to(tmp_path / "elsewhere.so")
    else:
        file.write_bytes(b"" if how == "emptied" else good[:-1] + bytes([good[-1] ^ 1]))
    load_program(folder)
    (again,) = folder.glob("*.so")
    assert not again.is_symlink() and again.stem.rpartition("-")[2] == sha256_bytes(again.read_bytes())


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no file modes")
def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(NotConvertible, match="others may write"):
        load_program(folder)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(NotConvertible, match="does not belong"):
        load_program(tmp_path / "link")


def test_without_a_compiler_there_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, contract, _ = fit(Adjusted(candidate_named("forest"), {"n_estimators": 3}), "iris")
    monkeypatch.setenv("PATH", str(tmp_path))
    made, why = compiled_or_why(as_model(pipeline, contract), tmp_path / "own")
    assert made is None and "no C compiler" in why


def test_a_compiler_that_fails_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "cc"
    fake.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(compiled, "find_compiler", lambda: str(fake))
    with pytest.raises(NotConvertible, match="the C compiler failed: broken"):
        load_program(tmp_path / "own")


def test_rows_drawn_from_a_contract_keep_it() -> None:
    contract, X, _ = study("messy")
    rows = drawn_rows(contract, 200)
    assert list(rows.columns) == list(X.columns) and len(rows) == 200
    pd.testing.assert_frame_equal(contract.conform(rows), rows)
