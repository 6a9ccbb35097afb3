"""Features: any contract, any names, any gaps; nothing leaks from row to row."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from iris_nb.construct import FEATURE_TYPES, count_polynomials, find_recipes, polynomial_recipes
from iris_nb.contract import Column, Contract
from iris_nb.errors import ParameterError
from iris_nb.features import (
    FeatureOptions,
    build_features,
    load_features,
    plan_columns,
    plan_features,
    plot_features,
    save_features,
    show_features,
)
from iris_nb.folders import RunFolder

AUTO = FeatureOptions(construct="auto", scale="standard", max_categories=20, rare=0.01)
KINDS = ("number", "integer", "boolean", "category", "date")
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12) | st.sampled_from(
    ["petal length", "petal_width", "a = b", "a", "d year", "d", "d missing", 'Größe "x"', "it's", "花"]
)
VALUES = {
    "number": st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32),
    "integer": st.none() | st.integers(-(10**9), 10**9),
    "boolean": st.none() | st.sampled_from([0.0, 1.0]),
    "category": st.none() | st.sampled_from(["b", "red", "", "b = c", "(missing)", "weiß", "1", "infrequent"]),
    "date": st.none() | st.datetimes(pd.Timestamp("1700-01-01"), pd.Timestamp("2200-01-01")),
}


def column_of(kind: str, values: list[object]) -> np.ndarray:
    "Values as the contract's conform gives them."
    if kind == "category":
        return np.array([np.nan if v is None else v for v in values], dtype=object)
    if kind == "date":
        return pd.to_datetime(pd.Series(values, dtype="datetime64[us]")).to_numpy()
    return np.array([np.nan if v is None else float(v) for v in values])


@st.composite
def tables(draw: st.DrawFn) -> tuple[Contract, pd.DataFrame]:
    "A contract with any columns, and rows that keep it, gaps included."
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    kinds = [draw(st.sampled_from(KINDS)) for _ in names]
    rows = draw(st.integers(2, 12))
    columns = [
        Column(
            name,
            kind,
            "feature",
            nullable=draw(st.booleans()),
            unit=draw(st.sampled_from(["", "cm"])) if kind in ("number", "integer") else "",
            categories=("b",) if kind == "category" else None,
        )
        for name, kind in zip(names, kinds, strict=True)
    ]
    frame = pd.DataFrame(
        {
            n: column_of(k, draw(st.lists(VALUES[k], min_size=rows, max_size=rows)))
            for n, k in zip(names, kinds, strict=True)
        }
    )
    target = Column("the target", "category", "target", categories=("x", "y"))
    return Contract("any", "the target", (*columns, target)), frame


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables(), st.sampled_from(["standard", "robust", "none"]), st.sampled_from(["auto", "none"]))
def test_any_table_becomes_finite_named_numbers(
    table: tuple[Contract, pd.DataFrame], scale: str, construct: str
) -> None:
    contract, frame = table
    options = FeatureOptions(construct, scale, 4, 0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = build_features(contract, options)
        prepared = fitted.fit_transform(frame)
        single = fitted.transform(frame.iloc[:1])
    assert prepared.columns.is_unique and list(prepared.columns) == list(fitted.get_feature_names_out())
    assert (prepared.dtypes == np.float64).all() and np.isfinite(prepared.to_numpy()).all()
    assert single.to_numpy().tolist() == prepared.iloc[:1].to_numpy().tolist()


def meadow() -> tuple[Contract, pd.DataFrame]:
    "One column of each kind, with gaps."
    contract = Contract(
        "meadow",
        "species",
        (
            Column("petal length (cm)", "number", "feature", nullable=True, unit="cm"),
            Column("petal width (cm)", "number", "feature", unit="cm"),
            Column("in bloom?", "boolean", "feature", nullable=True),
            Column('die "Farbe"', "category", "feature", categories=("blau", "weiß")),
            Column("picked", "date", "feature", nullable=True),
            Column("species", "category", "target", categories=("setosa", "virginica")),
        ),
    )
    frame = pd.DataFrame(
        {
            "petal length (cm)": [4.9, np.nan, 1.3, 5.1] * 5,
            "petal width (cm)": [1.5, 0.2, 0.0, 1.9] * 5,
            "in bloom?": [1.0, 0.0, np.nan, 1.0] * 5,
            'die "Farbe"': np.array(["blau", "weiß", np.nan, "blau"] * 5, dtype=object),
            "picked": pd.to_datetime(["1936-09-01", "1936-09-02", None, "1936-10-01"] * 5),
        }
    )
    return contract, frame


def test_names_are_those_of_the_plan_and_a_person_understands_them() -> None:
    contract, frame = meadow()
    names = list(build_features(contract, AUTO).fit_transform(frame).columns)
    planned = [column.name for column in plan_columns(contract, AUTO) if column.kind != "category"]
    assert [name for name in names if " = " not in name] == planned
    assert {"petal area", "petal ratio", 'die "Farbe" = weiß', "picked day of week", "in bloom? missing"} <= set(names)


def test_the_transformer_can_be_cloned_and_stored_without_pickle() -> None:
    contract, frame = meadow()
    fitted = clone(build_features(contract, AUTO)).fit(frame)
    stored = skops.io.dumps(fitted)
    unknown = skops.io.get_untrusted_types(data=stored)
    assert set(unknown) - {"numpy.dtype"} <= set(FEATURE_TYPES)
    again = skops.io.loads(stored, trusted=unknown)
    pd.testing.assert_frame_equal(again.transform(frame), fitted.transform(frame))
    pd.testing.assert_frame_equal(clone(again).fit_transform(frame), fitted.transform(frame))


def test_a_missing_value_that_the_contract_did_not_promise_is_filled() -> None:
    contract, frame = meadow()
    whole = frame.ffill().bfill()
    fitted = build_features(contract, AUTO).fit(whole)
    blank = whole.iloc[:1].assign(**{"petal length (cm)": np.nan, "petal width (cm)": np.nan, "in bloom?": np.nan})
    assert np.isfinite(fitted.transform(blank.assign(picked=pd.NaT)).to_numpy()).all()


def test_rare_and_unknown_categories_share_or_vanish_without_a_warning() -> None:
    contract = Contract("t", "y", (Column("c", "category", "feature"), Column("y", "category", "target")))
    frame = pd.DataFrame({"c": np.array(["a"] * 60 + ["b"] * 38 + ["rare1", "rare2"], dtype=object)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = build_features(contract, FeatureOptions("auto", "standard", 20, 0.05)).fit(frame)
        answer = fitted.transform(pd.DataFrame({"c": np.array(["rare2", "never seen"], dtype=object)}))
    assert list(answer.columns) == ["c = a", "c = b", "c = (rare)"]
    assert answer["c = (rare)"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("value", ["(rare)", "'(rare)'", "(rare)'"])
def test_a_category_called_rare_stands_beside_the_rare_ones(value: str) -> None:
    contract = Contract("t", "y", (Column("c", "category", "feature"), Column("y", "category", "target")))
    frame = pd.DataFrame({"c": np.array([value] * 60 + ["(rare)"] * 38 + ["rare1", "rare2"], dtype=object)})
    prepared = build_features(contract, FeatureOptions("auto", "standard", 20, 0.05)).fit_transform(frame)
    assert prepared.columns.is_unique and prepared["c = (rare)"].sum() == 2
    assert prepared[f"c = '{value}'"].sum() == (98 if value == "(rare)" else 60)


def test_how_a_category_is_made_says_where_unknown_values_go() -> None:
    contract = Contract("t", "y", (Column("c", "category", "feature"), Column("y", "category", "target")))
    (how,) = (column.how for column in plan_columns(contract, AUTO))
    assert how.endswith("unknown ones count as rare where there are rare ones, else they are 0 everywhere")


def test_shares_are_shown_where_names_clash() -> None:
    random = np.random.default_rng(0)
    columns = (
        Column("age", "number", "feature", nullable=True),
        Column("age missing", "integer", "feature"),
        Column("colour", "category", "feature"),
        Column("colour = red", "category", "feature"),
        Column("y", "category", "target"),
    )
    labels = pd.Series(["a", "b"] * 30)
    frame = pd.DataFrame({"age": random.normal(size=60), "age missing": random.integers(0, 2, 60).astype(float)})
    frame["colour"] = np.array(["red", "blue", "blue"] * 20, dtype=object)
    frame["colour = red"] = np.where(labels == "a", "yes", "no").astype(object)
    plan = plan_features(Contract("t", "y", columns), AUTO)
    shown = show_features(plan, plan.build().fit_transform(frame), labels).table
    shares = shown.set_index(["feature", "kind"])["share between classes"].astype(float)
    assert shares.notna().all() and shares["colour = red", "category"] == 1 and shares["colour", "category"] < 0.1


def test_bars_of_features_with_one_beginning_lie_apart() -> None:
    names = ["protein expression level A", "protein expression level B", "z"]
    columns = [Column(name, "number", "feature") for name in names]
    contract = Contract("t", "y", (*columns, Column("y", "category", "target")))
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=names)
    plan = plan_features(contract, AUTO)
    labels = pd.Series(["a", "b"] * 20)
    bars = plot_features(plan, plan.build().fit_transform(frame), labels, ["a", "b"]).axes[0]
    assert sorted(bar.get_y() + bar.get_height() / 2 for bar in bars.patches) == [0, 1, 2]
    assert len(bars.get_yticklabels()) == 3


def test_polynomials_of_a_wide_table_are_made_no_further_than_asked() -> None:
    columns = [Column(f"c{place}", "number", "feature") for place in range(20_000)]
    assert polynomial_recipes(columns, 0, []) == []  # 200 million recipes would not fit in memory
    assert [r.name for r in polynomial_recipes(columns, 20_001, [])][-2:] == ["c19999²", "c0 × c1"]
    assert count_polynomials(columns) == 20_000 * 20_001 // 2


def test_a_large_category_takes_no_more_columns_than_allowed() -> None:
    contract = Contract("t", "y", (Column("c", "category", "feature"), Column("y", "category", "target")))
    frame = pd.DataFrame({"c": np.array([f"v{i % 50}" for i in range(500)], dtype=object)})
    assert build_features(contract, FeatureOptions("auto", "none", 7, 0.0)).fit_transform(frame).shape == (500, 7)


@pytest.mark.parametrize(
    ("names", "units", "made"),
    [
        (["petal_length", "petal_width"], ["cm", "cm"], ["petal area", "petal ratio"]),
        (["PetalLength", "PetalWidth"], ["cm", "cm"], ["petal area", "petal ratio"]),
        (["bill_length_mm", "bill_depth_mm"], ["mm", "mm"], ["bill area", "bill ratio"]),
        (["length", "width"], ["m", "m"], ["area", "ratio"]),
        (["petal_length", "petal_width"], ["cm", "mm"], []),
        (["petal_length", "sepal_width"], ["cm", "cm"], []),
        (["petal_length", "petal_width"], ["", ""], []),
        (["petal_length", "petal length"], ["cm", "cm"], []),
        (["petal_length", "petal_width", "petal area"], ["cm", "cm", "cm²"], ["petal area 2", "petal ratio"]),
    ],
)
def test_areas_and_ratios_where_names_and_units_agree(names: list[str], units: list[str], made: list[str]) -> None:
    columns = [Column(name, "number", "feature", unit=unit) for name, unit in zip(names, units, strict=True)]
    assert [recipe.name for recipe in find_recipes(columns)] == made


@pytest.mark.parametrize(
    "options",
    [("automatic", "standard", 20, 0.0), ("auto", "z", 20, 0.0), ("auto", "none", 1, 0.0), ("auto", "none", 2, 0.6)],
)
def test_options_out_of_range_are_refused(options: tuple[str, str, int, float]) -> None:
    with pytest.raises(ParameterError):
        FeatureOptions(*options)


def test_the_plan_survives_its_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    contract, _ = meadow()
    run = RunFolder(tmp_path)
    plan = plan_features(contract, AUTO)
    save_features(run, plan)

    class Data:
        pass

    data = Data()
    data.contract = contract  # type: ignore[attr-defined]
    assert load_features(run, data) == plan  # type: ignore[arg-type]
