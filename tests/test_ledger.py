"""The ledger: append-only whoever writes, and the same on a file and on a team's server."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, clean_environment
from hypothesis import given
from hypothesis import strategies as st
from team import connect_to, mlflow_server, postgres, register, settings_of

from iris_nb.errors import InputError, LedgerError, ModelFileError, StoreError, UnknownModelError
from iris_nb.files import sha256_file
from iris_nb.ledger import (
    ENTRY_TAG,
    HEAD_TAG,
    Entry,
    _sealed,
    _write,
    append,
    disagreement,
    entry_hash,
    history,
    overview,
    parse_entry,
    read_ledger,
    replay,
    roll_back,
    sentence,
    verify_ledger,
    verify_ledgers,
    version_before,
    who_am_i,
)
from iris_nb.modelfile import load_model
from iris_nb.registry import alias_version, list_models, resolve_model, set_alias
from iris_nb.settings import Settings
from iris_nb.tracking import Store

KEY = "a key that only the team knows"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with three versions of iris and no ledger."""
    home = tmp_path_factory.mktemp("ledger") / "home"
    store = connect_to(settings_of(home))
    for number in (1, 2, 3):
        register(store, home, f"2026112{number}T203015-iris-5f0{number}", 10.0**-number)
    return home


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    """A project with that database; the models' files stay where they are."""
    shutil.copytree(template / "data" / "mlflow", tmp_path / "data" / "mlflow")
    return tmp_path


@pytest.fixture
def settings(home: Path) -> Settings:
    """Its settings."""
    return settings_of(home)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """Its store."""
    yield connect_to(settings)


def decide(store: Store, action: str, before: str, after: str, **more: Any) -> Entry:
    """Enter a decision and do it, as a promotion does."""
    seen = more.pop("seen", None)
    said = {"who": "anna", "action": action, "from": before, "to": after, "reasons": ["a reason"], **more}
    entry = append(store, "iris", said, seen)
    if entry.moves:
        set_alias(store, "iris", "production", after)
    return entry


def change(home: Path, statement: str, *values: Any) -> None:
    """Do something to the database behind everybody's back."""
    with sqlite3.connect(home / "data" / "mlflow" / "mlflow.db") as database:
        database.execute(statement, values)
    database.close()


# entries


def test_an_entry_says_everything(store: Store) -> None:
    evidence = {"run": "20261123T203015-iris-5f03", "sha256": "0" * 64}
    check = {"check": "power", "verdict": "HOLD", "found": 0.3, "wanted": 0.8, "sentence": "30 rows decide nothing"}
    entry = decide(store, "hold", "", "3", verdict="HOLD", reasons=[check, "and so it stays"], evidence=evidence)
    (again,) = read_ledger(store, "iris")
    assert again == entry and entry.number == 1 and entry.previous == "" and entry.hash == entry_hash(entry.to_dict())
    assert set(entry.to_dict()) == {
        "number", "time", "who", "model", "action", "from", "to", "verdict", "reasons", "evidence", "previous", "hash",
        "signature",
    }  # fmt: skip
    assert sentence(entry).endswith(
        "anna: version 3 stays on hold; verdict HOLD; 30 rows decide nothing; and so it stays"
    )
    stored = store.client.get_model_version("iris.ledger", "1")
    assert stored.description == sentence(entry) and json.loads(stored.tags[ENTRY_TAG]) == json.loads(
        json.dumps(entry.to_dict())
    )


@pytest.mark.parametrize("said", [{"action": "bless"}, {"action": "hold", "who": 3}, {"action": "hold", "extra": ""}])
def test_what_is_no_entry_is_refused(store: Store, said: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no entry of a ledger: its action is one of 'promote', 'force'"):
        append(store, "iris", {"who": "anna"} | said)
    with pytest.raises(InputError, match="too long"):
        append(store, "iris", {"who": "anna", "action": "hold", "reasons": ["x" * 100_000]})
    with pytest.raises(UnknownModelError, match="no registered model 'vine'"):
        append(store, "vine", {"who": "anna", "action": "hold"})
    assert read_ledger(store, "iris") == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_anything_may_be_stored_and_is_no_entry(value: Any) -> None:
    text = json.dumps(value)
    assert parse_entry(text) is None and len(replay({1: text}, "iris").faults) == 1
    assert parse_entry("[" * 100_000) is None


# several at once


def test_threads_append_together(store: Store) -> None:
    def write(number: int) -> str:
        return append(store, "iris", {"who": f"person {number}", "action": "hold", "to": str(number)}).hash

    with ThreadPoolExecutor(6) as pool:
        hashes = list(pool.map(write, range(18)))
    entries = read_ledger(store, "iris")
    assert [entry.number for entry in entries] == list(range(1, 19))
    assert {entry.hash for entry in entries} == set(hashes) and verify_ledger(store, "iris") == []


WRITER = """
import sys
from iris_nb.tracking import connect
from iris_nb.ledger import append
uri, who, times = sys.argv[1:]
store = connect(uri, 20, "a key that only the team knows")
print("ready", flush=True); sys.stdin.readline()
for number in range(int(times)):
    append(store, "iris", {"who": who, "action": "hold", "to": str(number)})
"""


def append_together(uri: str, processes: int, times: int) -> None:
    """Several processes append at once, and all of it is there."""
    people, pipe = [f"person-{number}" for number in range(processes)], subprocess.PIPE
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, uri, who, str(times)],
            stdin=pipe,
            stdout=pipe,
            text=True,
            env=clean_environment(),
        )
        for who in people
    ]
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        process.communicate(timeout=300)
        assert process.returncode == 0
    settings = settings_of(Path("/nowhere"), uri, key=KEY)
    store = connect_to(settings)
    entries = [entry for entry in read_ledger(store, "iris") if entry.who.startswith("person")]
    for who in people:
        assert [entry.after for entry in entries if entry.who == who] == [str(n) for n in range(times)]
    assert len(entries) == processes * times and verify_ledger(store, "iris") == []


@pytest.mark.slow
def test_processes_append_together_on_a_file(home: Path) -> None:
    append_together(f"sqlite:///{home / 'data' / 'mlflow' / 'mlflow.db'}", 5, 8)


def test_of_two_who_promote_at_once_one_is_told(store: Store) -> None:
    seen = decide(store, "promote", "", "1").hash
    decide(store, "hold", "1", "3", seen=seen)  # moves nothing, so nobody's decision is stale

    def promote(to: str) -> str:
        try:
            return append(store, "iris", {"who": to, "action": "promote", "from": "1", "to": to}, seen).after
        except LedgerError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        said = sorted(pool.map(promote, "23"), key=len)
    assert said[0] in ("2", "3") and f"has put version {said[0]} of iris into production" in said[1]
    assert [entry.action for entry in read_ledger(store, "iris")] == ["promote", "hold", "promote"]
    with pytest.raises(LedgerError, match="meanwhile"):
        append(store, "iris", {"who": "c", "action": "promote", "to": "1"}, "")


def test_the_second_of_two_is_no_entry_for_anybody(store: Store) -> None:
    first = decide(store, "promote", "", "1")
    content = {"time": "2026-11-23T09:15:00.000+00:00", "who": "berta", "model": "iris", "action": "hold"}
    content |= {"from": "1", "to": "3", "verdict": "", "reasons": [], "evidence": {}}
    second = decide(store, "hold", "1", "2")
    _write(store, "iris", _sealed(content, first, ""))  # read before the second was there, written after it
    third = decide(store, "hold", "1", "3")
    assert read_ledger(store, "iris") == [first, second, third] and verify_ledger(store, "iris") == []


def test_a_store_that_fails_once_is_asked_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import iris_nb.ledger as module

    real, calls = module._write, []

    def lost_answer(*given: Any) -> None:
        real(*given)
        calls.append(1)
        if len(calls) == 1:
            raise store.mlflow.MlflowException("the connection was lost after the entry was written")

    monkeypatch.setattr(module, "_write", lost_answer)
    append(store, "iris", {"who": "anna", "action": "hold", "to": "1"})
    assert len(calls) == 1 and len(read_ledger(store, "iris")) == 1
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    calls.clear()
    monkeypatch.setattr(module, "read_ledger", lambda *given: (_ for _ in ()).throw(StoreError("database is locked")))
    with pytest.raises(StoreError, match="database is locked"):
        append(store, "iris", {"who": "anna", "action": "hold", "to": "1"})


# what was done to it afterwards


@pytest.fixture
def kept(store: Store) -> Store:
    """A ledger of five entries, signed from the second on."""
    decide(store, "promote", "", "1")
    keyed = replace(store, key=KEY)
    for before, after in (("1", "2"), ("2", "3"), ("3", "2"), ("2", "3")):
        decide(keyed, "promote", before, after)
    assert verify_ledger(keyed, "iris") == []
    return keyed


ENTRY = "update model_version_tags set value = replace(value, ?, ?) where name = 'iris.ledger' and version = ?"


@pytest.mark.parametrize(
    ("statement", "values", "said"),
    [
        (ENTRY, ('"who": "anna"', '"who": "berta"', 3), "entry 3 was changed after it was written"),
        (ENTRY, ('"a reason"', '"none"', 1), "entry 1 was changed after it was written"),
        (ENTRY, ('"signature": "', '"signature": "0', 2), "the signature of entry 2 does not hold"),
        (ENTRY, ('"number": 4', '"number": 7', 4), "entries 4 to 6 are missing before entry 7"),
        (ENTRY, ('"who": "anna"', '"who": "\\ud800"', 2), "version 2 of iris.ledger holds no entry that can be read"),
        (ENTRY, ('"from": "2"', '"from": "x1"', 3), "version 3 of iris.ledger holds no entry that can be read"),
        (ENTRY, ('{"number"', '{"numero"', 2), "version 2 of iris.ledger holds no entry that can be read"),
        ("delete from model_version_tags where name = ? and version = ?", ("iris.ledger", 3), "version 3 of iris.ledger holds no"),
    ],
)  # fmt: skip
def test_every_change_is_named(home: Path, kept: Store, statement: str, values: Any, said: str) -> None:
    change(home, statement, *values)
    faults = verify_ledger(kept, "iris")
    assert any(said in fault for fault in faults), faults
    assert append(kept, "iris", {"who": "anna", "action": "hold", "to": "1"}).number >= 6, "life goes on"
    assert any(said in fault for fault in verify_ledger(kept, "iris")), "and the fault stays"


@pytest.mark.parametrize("version", range(1, 6))
def test_every_deletion_is_named(kept: Store, version: int) -> None:
    kept.client.delete_model_version("iris.ledger", str(version))
    faults = verify_ledger(kept, "iris")
    said = "ended with entry 5" if version == 5 else f"version {version} of iris.ledger was deleted"
    assert any(said in fault for fault in faults), faults
    decide(kept, "hold", "3", "1")
    assert any(f"version {version} of iris.ledger was deleted" in fault for fault in verify_ledger(kept, "iris"))


def test_a_ledger_that_is_gone_is_missed(kept: Store) -> None:
    kept.client.delete_registered_model("iris.ledger")
    faults = verify_ledger(kept, "iris")
    assert "the ledger once ended with entry 5" in faults[0] and "the ledger has no entry" in faults[1]


def test_a_note_of_the_end_that_is_gone_is_missed(kept: Store) -> None:
    kept.client.delete_registered_model_tag("iris", HEAD_TAG)
    (fault,) = verify_ledger(kept, "iris")
    assert "no note of its ledger's last entry" in fault
    decide(kept, "hold", "3", "1")
    assert verify_ledger(kept, "iris") == []


def test_evidence_that_was_changed_is_named(settings: Settings, store: Store) -> None:
    path = settings.reports / "20261122T203015-iris-5f0a" / "promotions" / "one.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    evidence = {"run": "20261122T203015-iris-5f0a", "sha256": sha256_file(path)}
    append(store, "iris", {"who": "anna", "action": "hold", "to": "1", "evidence": evidence})
    assert verify_ledgers(settings)["iris"] == []
    path.write_text("{ }")
    (fault,) = verify_ledgers(settings)["iris"]
    assert "promotions/one.json is not what any entry names" in fault


def test_a_chain_that_was_written_anew_wants_the_key(home: Path, kept: Store) -> None:
    """Somebody with every right in the database, but without the key, tells another story from entry 2 on."""
    entries, last = read_ledger(kept, "iris"), None
    for entry in entries:
        content = entry.to_dict() | ({"who": "mallory"} if entry.number > 1 else {})
        last = _sealed({k: v for k, v in content.items() if k not in ("hash", "signature", "previous")}, last, "")
        change(
            home,
            "update model_version_tags set value = ? where name = 'iris.ledger' and version = ? and key = ?",
            *(json.dumps(last.to_dict()), entry.number, ENTRY_TAG),
        )
    assert last is not None
    change(home, "update registered_model_tags set value = ? where name = 'iris'", f"5 {last.hash}")
    assert verify_ledger(replace(kept, key=""), "iris") == [], "without a key the story is whole"
    (fault,) = verify_ledger(kept, "iris")
    assert "no entry is signed, and a signing key is set" in fault
    decide(kept, "hold", "3", "1")
    append(replace(kept, key=""), "iris", {"who": "mallory", "action": "hold", "to": "1"})
    assert verify_ledger(kept, "iris") == ["entry 7 is not signed, and entry 6 before it is"]
    assert any("does not hold" in fault for fault in verify_ledger(replace(kept, key="another"), "iris"))


def test_an_alias_that_was_moved_by_hand_is_reported(settings: Settings, store: Store) -> None:
    assert history(settings) == [{"model": "iris", "production": "", "entries": [], "remarks": []}]
    set_alias(store, "iris", "production", "2")
    assert "the ledger has no entry that put anything there" in verify_ledger(store, "iris")[0]
    decide(store, "promote", "2", "3")
    store.client.delete_registered_model_alias("iris", "production")
    assert (
        "MLflow has no alias production of iris, and entry 1 (promote) put version 3 there"
        in history(settings)[0]["remarks"][0]
    )
    set_alias(store, "iris", "production", "1")
    assert verify_ledgers(settings) == {"iris": verify_ledger(store, "iris")}
    assert "points to version 1, and entry 1 (promote) put version 3 there" in verify_ledger(store, "iris")[0]
    decide(store, "promote", "1", "2")  # the ledger says what is so again; history remembers
    assert verify_ledger(store, "iris") == []
    (told,) = history(settings, "iris")
    assert told["remarks"] == ["between entries 1 and 2 the alias was moved by hand from version 3 to 1"]
    with pytest.raises(UnknownModelError, match="no registered model 'irs'; there is: 'iris'; did you mean 'iris'"):
        history(settings, "irs")


def test_what_is_in_production_and_since_when(settings: Settings, store: Store) -> None:
    entry = decide(store, "promote", "", "2")
    rows = overview(settings)
    assert [(row["version"], row["aliases"], bool(row["since"])) for row in rows] == [
        ("3", [], False),
        ("2", ["production"], True),
        ("1", [], False),
    ]
    assert rows[1]["since"][:19] == entry.time[:19] and rows[1]["score"] == "0.950 (0.900 to 1.000)"
    set_alias(store, "iris", "production", "3")
    assert overview(settings)[0]["since"] == "", "nobody wrote down since when"
    with pytest.raises(UnknownModelError):
        overview(settings, "wine")


# the way back


def test_back_and_back_again(settings: Settings, store: Store) -> None:
    for before, after in (("", "1"), ("1", "2"), ("2", "3")):
        decide(store, "promote", before, after)
    back = roll_back(settings, "", "", "it was slow")
    assert (back.action, back.before, back.after, back.who, back.reasons) == (
        "rollback",
        "3",
        "2",
        "anna",
        ("it was slow",),
    )
    assert alias_version(store, "iris", "production") == "2" and resolve_model("production", settings).version == "2"
    assert roll_back(settings, "iris", "", "this too").after == "1"
    with pytest.raises(LedgerError, match="version 1 of iris is in production, and the ledger knows of none before it"):
        roll_back(settings, "iris", "", "further")
    assert roll_back(settings, "iris", "iris/3", "it was not slow after all").after == "3"
    assert verify_ledger(store, "iris") == [] and len(read_ledger(store, "iris")) == 6


def test_what_was_put_there_by_hand_is_entered(settings: Settings, store: Store) -> None:
    decide(store, "promote", "", "1")
    decide(store, "promote", "1", "2")
    set_alias(store, "iris", "production", "1")
    assert "enter it with: iris-nb rollback iris --to 1" in verify_ledger(store, "iris")[0]
    with pytest.raises(InputError, match="the ledger does not say so; enter it first"):
        roll_back(settings, "iris", "", "it was slow")
    entry = roll_back(settings, "iris", "1", "the night shift went back")
    assert (entry.before, entry.after) == ("2", "1") and alias_version(store, "iris", "production") == "1"
    assert verify_ledger(store, "iris") == []


def test_a_reason_that_is_no_text_is_kept_readable(settings: Settings, store: Store) -> None:
    decide(store, "promote", "", "1")
    decide(store, "promote", "1", "2")
    assert roll_back(settings, "iris", "", "zur\udcfcck").reasons == ("zur\\udcfcck",)


@pytest.mark.parametrize(
    ("name", "to", "reason", "said"),
    [
        ("iris", "", " ", "going back needs a reason"),
        ("iris", "2", "r", "version 2 of iris is in production already"),
        ("iris", "3", "r", r"version 3 of iris has never been in production \(these have: '1', '2'\)"),
        ("iris", "9", "r", "'iris' has no version '9'"),
        ("iris", "x", "r", "'iris' has no version 'x'"),
        ("wine", "", "r", "no version of wine is in production|no registered model 'wine'"),
    ],
)
def test_a_way_back_that_is_none(settings: Settings, store: Store, name: str, to: str, reason: str, said: str) -> None:
    decide(store, "promote", "", "1")
    decide(store, "promote", "1", "2")
    with pytest.raises(InputError, match=said):
        roll_back(settings, name, to, reason)
    assert alias_version(store, "iris", "production") == "2" and len(read_ledger(store, "iris")) == 2


def test_nothing_in_production(settings: Settings, store: Store) -> None:
    with pytest.raises(UnknownModelError, match="no model has a version in production"):
        roll_back(settings, "", "", "r")
    with pytest.raises(
        LedgerError, match="no version of iris is in production, and the ledger knows of none before it"
    ):
        roll_back(settings, "iris", "", "r")


def test_a_version_that_was_tampered_with_is_no_way_back(settings: Settings, store: Store) -> None:
    decide(store, "promote", "", "1")
    decide(store, "promote", "1", "2")
    store.client.set_model_version_tag("iris", "1", "iris_nb.manifest_sha256", "0" * 64)
    with pytest.raises(ModelFileError, match=r"manifest\.json"):
        roll_back(settings, "iris", "", "r")
    assert alias_version(store, "iris", "production") == "2" and len(read_ledger(store, "iris")) == 2


def test_a_way_back_that_was_cut_off_is_found_and_completed(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import iris_nb.ledger as module

    decide(store, "promote", "", "1")
    decide(store, "promote", "1", "2")

    def killed(*given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "set_alias", killed)
        roll_back(settings, "iris", "", "it was slow")
    assert "points to version 2, and entry 3 (rollback) put version 1 there" in verify_ledger(store, "iris")[0]
    assert roll_back(settings, "iris", "", "it was slow").after == "1"
    assert verify_ledger(store, "iris") == [] and alias_version(store, "iris", "production") == "1"


def steps(*moves: tuple[str, str, str]) -> list[Entry]:
    """Entries of these moves."""
    blank = {"time": "", "who": "", "model": "iris", "verdict": "", "reasons": [], "evidence": {}}
    return [_sealed(blank | {"action": a, "from": b, "to": c}, None, "") for a, b, c in moves]


@pytest.mark.parametrize(
    ("moves", "present", "before"),
    [
        ([], "", ""),
        ([("promote", "", "1")], "1", ""),
        ([("promote", "", "1"), ("promote", "1", "2")], "2", "1"),
        ([("promote", "4", "5")], "5", "4"),  # production was set by hand before there was a ledger
        ([("promote", "", "1"), ("promote", "1", "2"), ("rollback", "2", "1"), ("promote", "1", "3")], "3", "1"),
        ([("promote", "", "1"), ("promote", "1", "2"), ("promote", "1", "2")], "2", "1"),  # said again after a crash
        ([("promote", "", "1"), ("hold", "1", "2"), ("reject", "1", "3")], "1", ""),
        ([("promote", "", "1"), ("force", "1", "2"), ("promote", "2", "1")], "1", "2"),
        ([("promote", "", "1"), ("promote", "1", "2")], "", "2"),  # the alias was deleted by hand
    ],
)
def test_what_was_before(moves: list[tuple[str, str, str]], present: str, before: str) -> None:
    assert version_before(steps(*moves), present) == before


def test_disagreement_is_a_sentence() -> None:
    assert disagreement([], "", "iris") == []
    assert disagreement(steps(("promote", "", "1"), ("hold", "1", "2")), "1", "iris") == []


def test_who(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert who_am_i(settings_of(tmp_path, who=" Anna\n Beispiel ")) == "Anna Beispiel"
    monkeypatch.setenv("LOGNAME", "anna")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "config", "user.name", "Anna Beispiel"], cwd=tmp_path, check=True)
    assert who_am_i(settings_of(tmp_path, who="")) == "anna (Anna Beispiel)"


# a team's server


@pytest.mark.slow
def test_a_team_on_a_server_with_postgresql(project: Project, tmp_path: Path) -> None:
    """A run, its model, the ledger and the way back, with one setting; then several people at once."""
    with postgres() as database, mlflow_server(database, tmp_path / "server") as uri:
        place = {"MLFLOW_TRACKING_URI": uri, "IRIS_NB_SIGNING_KEY": KEY}
        first = project.json("run", "--profile", "quick", "-p", "candidates=[lda]", **place)
        settings = settings_of(project.home, uri, key=KEY)
        store = connect_to(settings)
        colleague = "20261123T203015-iris-5f0b"
        assert [first["model"]["version"], register(store, tmp_path, colleague, 1e-9)] == ["1", "2"]
        listed = list_models(settings)
        assert [(one.version, one.signed, one.run) for one in listed] == [
            ("2", True, colleague),
            ("1", True, first["run"]),
        ]
        decide(store, "promote", "", "1")
        decide(store, "promote", "1", "2")
        found = resolve_model("production", settings)
        assert found.version == "2" and load_model(found.folder, found.sha256).sha256 == found.sha256
        shutil.rmtree(project.reports)  # as on a colleague's machine
        assert resolve_model(first["run"], settings).source == "models:/iris/1"
        with pytest.raises(ModelFileError, match="does not hold"):
            resolve_model("production", settings_of(tmp_path, uri, key="another"))
        assert roll_back(settings, "", "", "the second was slow").after == "1"
        assert verify_ledgers(settings) == {"iris": []}
        append_together(uri, 4, 5)
        with pytest.raises(UnknownModelError, match="'iris' has no version '7'"):
            resolve_model("iris/7", settings)
        artifacts = next((tmp_path / "server" / "artifacts").rglob("models/*/artifacts/MLmodel"))
        artifacts.write_text("flavors: {python_function: {loader_module: os}}")
        with pytest.raises(ModelFileError, match="MLmodel was changed"):
            for version in ("1", "2"):
                resolve_model(f"iris/{version}", settings_of(tmp_path / "elsewhere", uri, key=KEY))
    with pytest.raises(StoreError, match="the server does not answer"):
        verify_ledgers(settings)


@pytest.mark.slow
def test_several_on_postgresql_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # without a server, MLflow keeps its files where the program was started
    with postgres() as database:
        settings = settings_of(tmp_path, database)
        store = connect_to(settings)
        register(store, tmp_path, "20261122T203015-iris-5f0a", 1e-9)
        append_together(database, 4, 5)
