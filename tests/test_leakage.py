"""The leakage audit: what it must find, what it must leave in peace, and how it stops a study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from iris_nb.contract import infer_contract
from iris_nb.data import BUNDLED, load_table, prepare_data, save_data, show_leakage
from iris_nb.errors import InputError, ParameterError, StageError
from iris_nb.files import read_json
from iris_nb.folders import open_run
from iris_nb.leakage import (
    CODES,
    Audit,
    Evidence,
    LeakageError,
    audit_leakage,
    audit_table,
    column_score,
    find_overlaps,
    score_together,
)
from iris_nb.split import Split, equal_rows, split_rows


def audit(
    frame: pd.DataFrame, target: str = "y", seed: int = 0, silence: tuple[str, ...] = (), **words: object
) -> Audit:
    """The audit of a table, split by rows."""
    contract = infer_contract(frame, "table", target, **words)  # type: ignore[arg-type]
    features, labels = contract.conform(frame), contract.labels(frame[target])
    split = split_rows(labels, features, 0.2, seed)
    evidence = Evidence(features, labels, contract, split, np.arange(1, len(frame) + 1), seed, show_rows=True)
    return audit_leakage(evidence, equal_rows(features), silence)


def alarms(found: Audit) -> list[tuple[str, str, tuple[str, ...]]]:
    """Code, severity and columns of all but information."""
    return [(f.code, f.severity, f.columns) for f in found.findings if f.severity != "info"]


def table(rows: int = 600, seed: int = 0) -> pd.DataFrame:
    """Weak honest features of two classes."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, rows)
    honest = pd.DataFrame(random.normal(0, 1, (rows, 4)) + 0.5 * y[:, None], columns=[f"x{i}" for i in range(4)])
    return honest.assign(kind=random.choice(["a", "b", "c"], rows), y=np.where(y, "ill", "well"))


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_false_alarm_on_the_bundled_tables(name: str, seed: int) -> None:
    frame = load_table(name).frame
    target = "species" if name == "iris" else "class"
    found = audit(frame, target, seed).findings
    assert [f.code for f in found] == (["L001"] if name == "iris" else [])
    assert all(f.severity == "info" and "rows 102 and 143" in f.what for f in found)


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_copy_of_the_target_is_found(name: str, noise: float) -> None:
    frame = load_table(name).frame
    target = "species" if name == "iris" else "class"
    random = np.random.default_rng(1)
    codes = pd.factorize(frame[target])[0]
    classes = int(codes.max()) + 1
    copy = np.where(random.random(len(codes)) < noise, random.integers(0, classes, len(codes)), codes)
    for values in (copy * 7 + 3, np.array([f"v{i}" for i in range(classes)])[copy]):
        found = alarms(audit(frame.assign(leak=values), target))
        if noise and name == "wine":  # all other columns are as good: nothing is gained by the leak, nothing is said
            assert found == []
        else:
            assert found == [("L003", "error", ("leak",))]


def leaks(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns that give the target of `table` away, by the name of the way."""
    random = np.random.default_rng(2)
    ill = (frame["y"] == "ill").to_numpy()
    rows = len(frame)
    return {
        "days in hospital": pd.Series(np.where(ill, random.exponential(9, rows) + 0.5, 0)),
        "copy with gaps": pd.Series(np.where(random.random(rows) < 0.1, np.nan, ill * 1.0)),
        "interval": pd.Series(np.abs(random.normal(0, 1, rows)) + np.where(ill, 10, 0) * random.choice([-1, 1], rows)),
        "diagnosis": pd.Series(np.where(ill, random.choice(list("abcde"), rows), random.choice(list("vwxyz"), rows))),
        "closed": pd.Series(
            pd.Timestamp("2020-01-01") + pd.to_timedelta(np.where(ill, 400, 0) + random.integers(0, 300, rows), "D")
        ),
    }


@pytest.mark.parametrize("name", leaks(table(60)))
def test_columns_made_after_the_outcome_are_found(name: str) -> None:
    frame = table()
    found = audit(frame.assign(**{name: leaks(frame)[name]}))
    assert alarms(found) == [("L003", "error", (name,))]


@pytest.mark.parametrize("name", ["refund", "cost", "closed"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_leaks_are_found_where_a_class_is_small(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    ill = np.zeros(200, dtype=int)
    ill[random.choice(200, 20, replace=False)] = 1
    days = 400 * ill + random.integers(0, 300, 200)
    values = {
        "refund": np.where(ill, random.uniform(50, 500, 200).round(2), 0),
        "cost": 1000 * ill + random.normal(0, 1, 200),
        "closed": pd.Timestamp("2020-01-01") + pd.to_timedelta(days, "D"),
    }[name]
    honest = {"x": random.normal(size=200), "z": random.normal(size=200)}
    frame = pd.DataFrame({name: values, **honest, "y": np.where(ill, "ill", "well")})
    assert alarms(audit(frame)) == [("L003", "error", (name,))]


@pytest.mark.parametrize("far", [1e20, 1e308])
def test_one_wild_number_hides_no_leak(far: float) -> None:
    ill = np.arange(400) % 2
    cost = pd.Series(1000 * ill + np.random.default_rng(0).normal(0, 1, 400))
    cost[1] = far
    assert column_score(cost, ill, 0) > 0.985 and column_score(-cost, ill, 0) > 0.985


def test_a_rare_class_is_not_lost_among_many_rows() -> None:
    random = np.random.default_rng(4)
    fraud = np.zeros(20_000, dtype=int)
    fraud[random.choice(len(fraud), 6, replace=False)] = 1
    noise = pd.DataFrame({"x": random.normal(size=len(fraud))})
    scores = [score_together(noise, fraud, seed) for seed in range(4)]  # of 5,000 rows, one may be fraud, or none
    assert all(score < 0.9 for score in scores)


def test_two_leaks_do_not_hide_each_other() -> None:
    frame = table()
    both = frame.assign(code=(frame["y"] == "ill").astype(int), days=leaks(frame)["days in hospital"])
    assert {columns for _, _, columns in alarms(audit(both))} == {("code",), ("days",)}


def test_gaps_that_tell_the_class() -> None:
    frame = table()
    dates = pd.Series(pd.date_range("2020-01-01", periods=len(frame)))
    assert alarms(audit(frame.assign(discharged=dates.where(frame["y"] == "well")))) == [
        ("L007", "error", ("discharged",))
    ]
    some = frame.assign(x0=frame["x0"].mask((frame["y"] == "ill") & (np.arange(len(frame)) % 3 == 0)))
    assert alarms(audit(some)) == []


@pytest.mark.parametrize("strength", [1.0, 2.0, 3.0, 3.8])
def test_a_strong_honest_feature_passes(strength: float) -> None:
    frame = table()
    marker = np.random.default_rng(3).normal(0, 1, len(frame)) + strength * (frame["y"] == "ill")
    assert alarms(audit(frame.assign(marker=marker))) == []


def test_easy_problems_pass() -> None:
    from sklearn.datasets import make_blobs, make_classification

    for seed in range(3):
        points, y = make_blobs(300, n_features=4, centers=3, cluster_std=0.3, random_state=seed)
        easy = pd.DataFrame(points, columns=list("abcd")).assign(y=[f"c{i}" for i in y])
        assert alarms(audit(easy)) == []
        points, y = make_classification(500, 8, n_informative=4, class_sep=4, random_state=seed)
        assert alarms(audit(pd.DataFrame(points, columns=list("abcdefgh")).assign(y=[f"c{i}" for i in y]))) == []


def test_small_tables_are_not_judged() -> None:
    frame = pd.DataFrame({"x": range(20), "copy": [0, 1] * 10, "y": ["a", "b"] * 10}).assign(
        z=lambda t: t["x"] ** 2 % 7
    )
    found = audit(frame)
    assert alarms(found) == [] and "was not judged" in found.notes[0]


def test_the_target_is_never_looked_at_among_held_out_rows() -> None:
    frame = table()
    contract = infer_contract(frame, "table", "y")
    features, labels = contract.conform(frame), contract.labels(frame["y"])
    split = split_rows(labels, features, 0.3, 0)
    rows = np.arange(1, len(frame) + 1)
    turned = labels.where(~split.test, "ill")
    one, other = (
        audit_leakage(Evidence(features, y, contract, split, rows, 0), equal_rows(features), [])
        for y in (labels, turned)
    )
    assert one == other


@pytest.mark.parametrize("kind", ["zeros", "sheet", "walk", "cauchy", "rounded", "integers"])
def test_no_near_duplicates_by_chance(kind: str) -> None:
    random = np.random.default_rng(5)
    n = 1500
    flat = random.random((n, 2))
    cloud = {
        "zeros": np.where(random.random((n, 5)) < 0.7, 0, random.exponential(size=(n, 5))),
        "sheet": np.c_[flat, flat[:, 0] * flat[:, 1], flat.sum(1), np.sin(3 * flat)],
        "walk": np.cumsum(random.normal(size=(n, 4)), axis=0),
        "cauchy": random.standard_cauchy((n, 5)),
        "rounded": random.normal(size=(n, 4)).round(1),
        "integers": random.integers(0, 40, (n, 4)),
    }[kind]
    names = [f"x{i}" for i in range(cloud.shape[1])]
    found = audit(pd.DataFrame(cloud, columns=names).assign(y=random.choice(["p", "q"], n)))
    assert not [f for f in found.findings if f.code == "L002"]


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_near_duplicates_are_found(share: float) -> None:
    frame = table(800)
    shaken = frame.sample(frac=share, random_state=0)
    numbers = ["x0", "x1", "x2", "x3"]
    shaken[numbers] += np.random.default_rng(0).normal(0, 1e-3, (len(shaken), 4))
    assert ("L002", "warning", ()) in alarms(audit(pd.concat([frame, shaken], ignore_index=True)))


def test_ids_among_the_features() -> None:
    frame = table()
    random = np.random.default_rng(0)
    ids = frame.assign(customer_id=random.integers(0, 90, 600), plot=[f"p{i // 2}" for i in range(600)])
    assert {columns for code, _, columns in alarms(audit(ids, keep=["plot"])) if code == "L004"} == {
        ("customer_id",),
        ("plot",),
    }


def test_overlaps_are_seen_even_if_a_split_is_wrong() -> None:
    frame = table(40)
    contract = infer_contract(frame, "table", "y")
    test = np.arange(40) % 2 == 0
    split = Split(test, np.arange(40), True, 0, "", np.arange(40) // 4, np.arange(40))
    evidence = Evidence(contract.conform(frame), frame["y"], contract, split, np.arange(1, 41), 0, "plant", "day")
    assert [(f.code, f.severity) for f in find_overlaps(evidence)] == [("L005", "error"), ("L006", "warning")]


def csv(folder: Path, frame: pd.DataFrame) -> str:
    path = folder / "ward.csv"
    frame.to_csv(path, index=False)
    return str(path)


def test_an_error_stops_the_stage_and_leaves_the_evidence(tmp_path: Path) -> None:
    frame = table()
    source = csv(tmp_path, frame.assign(outcome=(frame["y"] == "ill").astype(int)))
    words = (source, "y", [], [], "", "", "", "", "", 0.2, 0, "no")
    study, run = prepare_data(*words), open_run("")  # type: ignore[arg-type]
    with pytest.raises(LeakageError, match=r"L003.*'outcome'.*drop=.outcome.*silence=.L003:outcome") as caught:
        save_data(run, study)
    assert isinstance(caught.value, StageError) and not isinstance(caught.value, InputError)
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
    assert read_json(run.path / "data" / "leakage.json")["counts"]["error"] == 1 and not run.has("data", "data.json")
    for silence in (["L003"], ["l003:outcome"]):
        silenced = prepare_data(*words, silence=silence)  # type: ignore[arg-type]
        save_data(run, silenced)
        assert read_json(run.path / "data" / "leakage.json")["counts"] == {
            "error": 0,
            "warning": 0,
            "info": 0,
            "silenced": 1,
        }
        assert "error (silenced)" in repr(show_leakage(silenced))
    with pytest.raises(LeakageError):
        save_data(run, prepare_data(*words, silence=["L003:x0", "L004"]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("silence", "words"),
    [
        ("L03", "did you mean 'L003'"),
        ("leak", "the codes are L001"),
        ("L003:specie", "no column 'specie'.*did you mean 'species'"),
    ],
)
def test_silence_that_means_nothing_is_refused(silence: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        prepare_data("iris", "", [], [], "", "", "", "", "", 0.2, 0, "auto", silence=[silence])


def test_rows_of_private_tables_are_counted_and_not_named(tmp_path: Path) -> None:
    frame = load_table("iris").frame
    for show, named in (("no", False), ("yes", True)):
        study = prepare_data(csv(tmp_path, frame), "species", [], [], "", "", "", "", "", 0.2, 0, show)
        assert ("102" in study.audit.findings[0].what) == named


def test_awkward_names_can_be_silenced_as_the_message_says(tmp_path: Path) -> None:
    import shlex

    import yaml

    frame = table()
    name = 'it\'s, [the] outcome: "code"'
    leaking = frame.assign(**{name: (frame["y"] == "ill").astype(int)})
    (finding,) = audit(leaking).findings
    drop = shlex.split(finding.remedy)[-1].removeprefix("drop=")
    assert yaml.safe_load(drop) == [name]
    assert audit(leaking, silence=(f"L003:{name}",)).findings[0].silenced


def test_every_finding_can_be_shown() -> None:
    frame = table()
    found = audit(frame.assign(code=(frame["y"] == "ill").astype(int), customer_id=np.arange(600) // 4))
    shown = audit_table(found)
    assert set(shown["code"]) <= set(CODES) and not (shown == "").any().any()
    assert found.to_dict()["findings"][0]["title"] == CODES["L003"]


def test_wild_numbers_do_no_harm() -> None:
    frame = table()
    random = np.random.default_rng(0)
    wild = np.where(random.random(600) < 0.1, 1e308, random.normal(size=600))
    frame = frame.assign(
        wild=wild, low=-wild, tiny=5e-324 * random.integers(0, 9, 600), code=(frame["y"] == "ill") * 1e300
    )
    assert alarms(audit(frame)) == [("L003", "error", ("code",))]
