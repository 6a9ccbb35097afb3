"""Names of models: what they mean, and that nothing but what was registered is ever loaded."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, clean_environment
from hypothesis import given
from hypothesis import strategies as st
from team import connect_to, make_run, register, settings_of

from iris_nb.errors import InputError, ModelFileError, StoreError, UnknownModelError
from iris_nb.files import sha256_bytes, sha256_folder, write_json
from iris_nb.modelfile import load_model
from iris_nb.registry import (
    _local_folder,
    _plain,
    find_version,
    folder_faults,
    list_models,
    open_store,
    resolve_model,
    set_alias,
)
from iris_nb.settings import Settings, load_settings, setting_sources
from iris_nb.tracking import FILES_TAG, MANIFEST_TAG, SIGNATURE_TAG, Store, open_mirror, sign, signed_text

FILES = [
    "MLmodel",
    "conda.yaml",
    "data/model/contract.json",
    "data/model/manifest.json",
    "data/model/model.json",
    "data/model/model.skops",
    "python_env.yaml",
    "requirements.txt",
]
KEY = "a key that only the team knows"


@dataclass
class Registry:
    """A project with registered models."""

    settings: Settings
    store: Store
    pristine: Path  # a copy of the files of iris/1

    @property
    def stored(self) -> Path:
        """The files of iris/1 where MLflow keeps them."""
        folder = _local_folder(self.store.client.get_model_version_download_uri("iris", "1"))
        assert folder is not None
        return folder

    @property
    def copies(self) -> Path:
        """Where verified copies are kept."""
        return self.settings.data / "cache" / "registry"

    def tags(self, version: str = "1") -> dict[str, str]:
        """The tags of a version of iris."""
        return dict(self.store.client.get_model_version("iris", version).tags)

    def tag(self, key: str, value: str, version: str = "1") -> None:
        """Change a tag."""
        self.store.client.set_model_version_tag("iris", version, key, value)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Two versions of iris, one of wine; iris/1 is in production, both of the newest are in staging."""
    home = tmp_path_factory.mktemp("registry")
    settings = settings_of(home)
    store = connect_to(settings)
    register(store, home, "20261121T203015-iris-5f01", 1e-1)
    register(store, home, "20261122T203015-iris-5f02", 1e-2, passed=False)
    register(store, home, "20261123T203015-wine-5f03", 1e-3, table="wine")
    for name, alias, version in (("iris", "production", "1"), ("iris", "staging", "2"), ("wine", "staging", "1")):
        set_alias(store, name, alias, version)
    registry = Registry(settings, store, home / "pristine")
    shutil.copytree(registry.stored, registry.pristine)
    return registry


@pytest.fixture
def registry(once: Registry) -> Iterator[Registry]:
    """The same, put back in order afterwards."""
    before = once.tags()
    yield once
    shutil.rmtree(once.stored) if not once.stored.is_symlink() else once.stored.unlink()
    shutil.copytree(once.pristine, once.stored)
    shutil.rmtree(once.copies, ignore_errors=True)
    for key in once.tags().keys() - before.keys():
        once.store.client.delete_model_version_tag("iris", "1", key)
    for key, value in before.items():
        once.tag(key, value)


# what is registered


def test_a_version_says_what_it_is(registry: Registry) -> None:
    tags = registry.tags()
    assert json.loads(tags[FILES_TAG]) == sha256_folder(registry.pristine)
    assert sorted(json.loads(tags[FILES_TAG])) == FILES
    assert tags[MANIFEST_TAG] == json.loads(tags[FILES_TAG])["data/model/manifest.json"]
    assert tags["iris_nb.score.accuracy"] == "0.950 (0.900 to 1.000)" and tags["iris_nb.score.log_loss"] == "0.100"
    said = registry.store.client.get_model_version("iris", "1").description
    assert "Gaussian naive Bayes for the table iris" in said and "accuracy 0.950" in said and "gate passed" in said
    assert SIGNATURE_TAG not in tags


def test_the_list_of_models(registry: Registry) -> None:
    listed = list_models(registry.settings)
    assert [(one.name, one.version, one.aliases, one.gate) for one in listed] == [
        ("iris", "2", ("staging",), "failed"),
        ("iris", "1", ("production",), "passed"),
        ("wine", "1", ("staging",), "passed"),
    ]
    assert [one.name for one in list_models(registry.settings, "wine")] == ["wine"]
    with pytest.raises(UnknownModelError, match=r"there is: iris \(versions 1 to 2.*did you mean 'wine'"):
        list_models(registry.settings, "vine")


def test_models_of_other_programs_are_not_ours(registry: Registry) -> None:
    client = registry.store.client
    client.create_registered_model("theirs")
    client.create_model_version("theirs", "https://example.org/model", await_creation_for=0)
    client.set_registered_model_alias("theirs", "production", "1")
    assert resolve_model("production", registry.settings).name == "iris"
    with pytest.raises(UnknownModelError, match="no registered model 'theirs'"):
        resolve_model("theirs/1", registry.settings)
    client.delete_registered_model("theirs")


def test_registering_again_completes_and_never_blesses(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    store = connect_to(settings)
    record = make_run(tmp_path, "20261122T203015-iris-5f0a", 1e-9)
    run_dir = tmp_path / "reports" / record["id"]
    open_mirror(store, run_dir, record)
    before = dict(store.client.get_model_version("iris", "1").tags)
    folder = _local_folder(store.client.get_model_version_download_uri("iris", "1"))
    assert folder is not None
    known = (folder / "MLmodel").read_bytes()
    (folder / "MLmodel").write_bytes(known + b"code: evil\n")
    open_mirror(store, run_dir, record)
    assert dict(store.client.get_model_version("iris", "1").tags) == before
    with pytest.raises(StoreError, match="iris version 1 were changed in the store; it is not signed"):
        open_mirror(replace(store, key=KEY), run_dir, record)
    (folder / "MLmodel").write_bytes(known)
    open_mirror(replace(store, key=KEY), run_dir, record)  # a key that came later
    assert resolve_model("iris/1", settings_of(tmp_path, key=KEY)).version == "1"
    store.client.delete_model_version_tag("iris", "1", FILES_TAG)  # as older versions of iris_nb left it
    with pytest.raises(ModelFileError, match=r"iris version 1 has no hashes in the registry.*sync --all"):
        resolve_model("iris/1", settings)
    (folder / "helper.py").write_text("")
    with pytest.raises(StoreError, match=r"'helper.py' among the files of iris version 1"):
        open_mirror(store, run_dir, record)
    (folder / "helper.py").unlink()
    (folder / "MLmodel").write_text("flavors: {python_function: {loader_module: os, data: data/model}}")
    with pytest.raises(StoreError, match="names another loader"):
        open_mirror(store, run_dir, record)
    (folder / "MLmodel").write_bytes(known)
    open_mirror(store, run_dir, record)
    assert resolve_model("iris/1", settings).sha256 == before[MANIFEST_TAG]


# what a word means


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("production", "iris/1"),
        ("models:/iris/2", "iris/2"),
        ("models:/iris@staging", "iris/2"),
        ("wine@staging", "wine/1"),
        ("iris/2", "iris/2"),
        (" iris/02 ", "iris/2"),
        ("20261121T203015-iris-5f01", "iris/1"),
        ("5f02", "iris/2"),
        ("20261123", "wine/1"),
        ("name-5f01", "iris/1"),
        ("latest", "wine/1"),
    ],
)
def test_words_that_mean_a_model(registry: Registry, asked: str, meant: str) -> None:
    found = resolve_model(asked, registry.settings)
    assert f"{found.name}/{found.version}" == meant and found.source == f"models:/{meant}"
    assert load_model(found.folder, found.sha256).sha256 == found.sha256
    assert found.folder.is_relative_to(registry.copies)


def test_an_alias_of_several_models_wants_a_name(registry: Registry) -> None:
    with pytest.raises(UnknownModelError, match=r"say which: iris@staging \(version 2\), wine@staging \(version 1\)"):
        resolve_model("staging", registry.settings)
    assert resolve_model("staging", registry.settings, "wine").name == "wine"
    found = find_version(registry.store, "2", "iris")
    assert found is not None and found.version == "2"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("", "the name of the model is empty"),
        ("prodction", r"no model has the alias 'prodction'; there is: iris \(versions 1 to 2, staging = 2, prod"),
        ("iris@prodction", r"no version of 'iris' has the alias 'prodction'.*did you mean 'production'"),
        ("iris/9", r"'iris' has no version '9'; versions: '2', '1'"),
        ("iriss/1", "no registered model 'iriss'.*did you mean 'iris'"),
        ("models:/iris", r"write models:/iris/VERSION or models:/iris@ALIAS"),
        ("iris/", "'iris' has no version ''"),
        ("/etc/passwd", "no model has the alias '/etc/passwd'"),
        ("o'brien/1", r"no registered model 'o'brien'"),
        ("2026", "means 3 runs"),
    ],
)
def test_words_that_mean_nothing(registry: Registry, asked: str, said: str) -> None:
    with pytest.raises(UnknownModelError, match=said):
        resolve_model(asked, registry.settings)
    assert not registry.copies.exists()


def test_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="no registered models yet; make one with: iris-nb run"):
        resolve_model("production", settings_of(tmp_path))
    assert not (tmp_path / "data").exists(), "to ask makes no store"
    dead = settings_of(tmp_path, "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="the server does not answer"):
        resolve_model("production", dead)


def test_a_run_of_ones_own_needs_no_store(tmp_path: Path) -> None:
    record = make_run(tmp_path, "20261122T203015-iris-5f0a", 1e-9)
    settings = settings_of(tmp_path, "http://127.0.0.1:9")
    found = resolve_model("latest", settings)
    assert found.folder == tmp_path / "reports" / record["id"] / "training" / "model"
    assert found.run == record["id"] and load_model(found.folder, found.sha256).classes == ("0", "1", "2")
    write_json(found.folder / "manifest.json", {})
    with pytest.raises(ModelFileError, match=r"manifest.json .* is not the one that was recorded"):
        load_model(found.folder, found.sha256)
    write_json(tmp_path / "reports" / record["id"] / "run.json", record | {"seal": "0" * 64})
    with pytest.raises(InputError, match="its seal does not fit"):
        resolve_model("5f0a", settings)


# tampering


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


CHANGES: dict[str, Callable[[Path], Any]] = {
    "is missing": lambda path: path.unlink(),
    "was changed": _flip,
    "is missing ": lambda path: path.rename(path.with_name(path.name + ".bak")),
}


@pytest.mark.parametrize("place", ["store", "copy"])
@pytest.mark.parametrize("path", FILES)
def test_every_file_is_guarded(registry: Registry, path: str, place: str) -> None:
    folder = registry.stored
    if place == "copy":
        folder = resolve_model("production", registry.settings).folder.parent.parent
    for said, change in CHANGES.items():
        change(folder / path)
        with pytest.raises(ModelFileError, match=f"{path} {said.strip()}"):
            resolve_model("production", registry.settings)
        shutil.rmtree(folder)
        shutil.copytree(registry.pristine, folder)
    if place == "store":
        assert not list(registry.copies.glob("*")), "nothing of what was refused has stayed"
    assert resolve_model("production", registry.settings).version == "1"


ADDED: dict[str, Callable[[Path], Any]] = {
    "evil.py was added": lambda f: (f / "evil.py").write_text(""),
    "data/model/helper.py was added": lambda f: (f / "data" / "model" / "helper.py").write_text(""),
    ".hidden was added": lambda f: (f / ".hidden").write_text(""),
    "code was added|code/x.py was added": lambda f: ((f / "code").mkdir(), (f / "code" / "x.py").write_text("")),
    "data/link is a link": lambda f: (f / "data" / "link").symlink_to("/etc"),
    "loop is a link": lambda f: (f / "loop").symlink_to(f),
    "data/model/model.json is a link": lambda f: (
        shutil.move(f / "data" / "model" / "model.json", f.parent / "outside.json"),
        (f / "data" / "model" / "model.json").symlink_to(f.parent / "outside.json"),
    ),
    "data is a link": lambda f: (
        shutil.move(f / "data", f.parent / "elsewhere"),
        (f / "data").symlink_to("../elsewhere"),
    ),
}


@pytest.mark.parametrize("place", ["store", "copy"])
@pytest.mark.parametrize("said", ADDED)
def test_what_was_added_or_leads_out_is_named(registry: Registry, said: str, place: str) -> None:
    folder = registry.stored
    if place == "copy":
        folder = resolve_model("production", registry.settings).folder.parent.parent
    ADDED[said](folder)
    with pytest.raises(ModelFileError, match=said):
        resolve_model("production", registry.settings)
    for left in ("outside.json", "elsewhere"):
        path = folder.parent / left
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.mark.parametrize("said", ["MLmodel was changed", "evil.py was added"])
def test_stored_files_are_guarded_where_there_is_a_copy(registry: Registry, said: str) -> None:
    """Without this, whoever trained a model would go on with a good copy of what nobody else can load."""
    assert resolve_model("production", registry.settings).version == "1"
    _flip(registry.stored / "MLmodel") if "changed" in said else ADDED[said](registry.stored)
    with pytest.raises(ModelFileError, match=f"the stored files of .*{said}"):
        resolve_model("production", registry.settings)


def test_a_copy_that_is_a_link_is_refused(registry: Registry) -> None:
    folder = resolve_model("production", registry.settings).folder.parent.parent
    shutil.move(folder, registry.settings.home / "moved")
    folder.symlink_to(registry.settings.home / "moved")
    with pytest.raises(ModelFileError, match="is not a folder"):
        resolve_model("production", registry.settings)
    shutil.rmtree(registry.settings.home / "moved")


def test_nothing_that_the_files_name_is_run(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every right in the store and no key in use, an attacker still cannot have anything executed."""
    (tmp_path / "evil_loader.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = registry.stored
    about = "flavors: {python_function: {loader_module: evil_loader, code: code, data: data/model}}"
    (folder / "MLmodel").write_text(about)

    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    model = folder / "data" / "model"
    (model / "model.skops").write_bytes(pickle.dumps(Evil()))
    write_json(model / "manifest.json", {k: v for k, v in sha256_folder(model).items() if k != "manifest.json"})
    with pytest.raises(ModelFileError, match=r"MLmodel was changed"):
        resolve_model("production", registry.settings)
    registry.tag(FILES_TAG, json.dumps(sha256_folder(folder)))
    with pytest.raises(ModelFileError, match=f"{FILES_TAG} and {MANIFEST_TAG} of iris version 1 name two different"):
        resolve_model("production", registry.settings)
    registry.tag(MANIFEST_TAG, sha256_folder(model)["manifest.json"])
    found = resolve_model("production", registry.settings)  # the database itself was rewritten: the hashes fit
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_model(found.folder, found.sha256)
    assert not (tmp_path / "ran").exists() and "evil_loader" not in sys.modules


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"MLmodel": 3}', '{"../up": "' + "0" * 64 + '"}'])
def test_a_damaged_list_of_hashes(registry: Registry, text: str) -> None:
    registry.tag(FILES_TAG, text or " ")
    with pytest.raises(ModelFileError, match=f"the tag {FILES_TAG} of iris version 1 is damaged"):
        resolve_model("production", registry.settings)


def test_a_key_wants_a_signature_that_holds(registry: Registry) -> None:
    keyed = Settings(home=registry.settings.home, tracking_uri="", signing_key=KEY)
    with pytest.raises(ModelFileError, match=rf"iris version 1 has no signature \(the tag {SIGNATURE_TAG}\)"):
        resolve_model("production", keyed)
    registry.tag(SIGNATURE_TAG, sign(signed_text("iris", "1", registry.tags()), KEY))
    assert resolve_model("production", keyed).version == "1"
    assert resolve_model("production", registry.settings).version == "1", "without a key nobody asks for one"
    for key, value in {
        "iris_nb.gate": "failed",
        "iris_nb.run": "20261122T203015-iris-5f02",
        FILES_TAG: registry.tags()[FILES_TAG].replace('"conda.yaml"', '"konda.yaml"'),
        SIGNATURE_TAG: sign(signed_text("iris", "1", registry.tags()), "another key"),
    }.items():
        before = registry.tags()[key]
        registry.tag(key, value)
        with pytest.raises(ModelFileError, match=r"the signature of iris version 1 .* does not hold"):
            resolve_model("production", keyed)
        registry.tag(key, before)
    registry.tag(SIGNATURE_TAG, registry.tags()[SIGNATURE_TAG], "2")  # moved to another version
    with pytest.raises(ModelFileError, match="the signature of iris version 2"):
        resolve_model("iris/2", keyed)
    registry.store.client.delete_model_version_tag("iris", "2", SIGNATURE_TAG)
    for what in (repr(keyed), repr(open_store(keyed)), repr(setting_sources(keyed))):
        assert KEY not in what


def test_a_run_signs_with_the_key_that_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path, key=KEY)
    store = connect_to(settings)
    register(store, tmp_path, "20261122T203015-iris-5f0a", 1e-9)
    assert resolve_model("iris/1", settings).version == "1"
    with pytest.raises(ModelFileError, match="does not hold"):
        resolve_model("iris/1", settings_of(tmp_path, key="another key"))
    monkeypatch.setenv("IRIS_NB_SIGNING_KEY", KEY)
    assert load_settings().signing_key.get_secret_value() == KEY


@given(st.text(max_size=30))
def test_paths_of_files_stay_below_their_folder(path: str) -> None:
    if _plain(path):
        joined = os.path.normpath(f"/copy/{path}")
        assert joined.startswith("/copy/") and "\\" not in path and ":" not in path and "\n" not in path


@pytest.mark.parametrize("path", ["..", "a/../b", "/etc", "a//b", "a/", "", ".", "a\\b", "C:x", "a\n", "a b"])
def test_paths_that_are_not_plain(path: str) -> None:
    assert not _plain(path)


def test_a_device_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    assert folder_faults(tmp_path, {"a": sha256_bytes(b"")}) == ["a is not an ordinary file"]


# several at once


def test_what_a_killed_download_left_is_no_copy(registry: Registry) -> None:
    (registry.copies / ".new-dead").mkdir(parents=True)
    (registry.copies / ".new-old").mkdir()
    os.utime(registry.copies / ".new-old", (0, 0))
    assert resolve_model("production", registry.settings).version == "1"
    assert sorted(p.name for p in registry.copies.glob(".new-*")) == [".new-dead"]


@pytest.mark.slow
def test_several_processes_fetch_at_once(registry: Registry) -> None:
    home = registry.settings.home
    program = (
        "import sys; from pathlib import Path; from iris_nb.settings import Settings\n"
        "from iris_nb.registry import resolve_model; from iris_nb.modelfile import load_model\n"
        "import mlflow; print('ready', flush=True); sys.stdin.readline()\n"
        f"found = resolve_model('production', Settings(home=Path({str(home)!r}), tracking_uri='', signing_key=''))\n"
        "print(load_model(found.folder, found.sha256).sha256, found.folder)"
    )
    pipe = subprocess.PIPE
    start = [sys.executable, "-c", program]
    processes = [subprocess.Popen(start, stdin=pipe, stdout=pipe, text=True, env=clean_environment()) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    said = {process.communicate("go\n")[0] for process in processes}
    assert len(said) == 1 and all(process.returncode == 0 for process in processes)
    assert len(list(registry.copies.iterdir())) == 1


def test_a_real_run_answers_to_its_names(studied: tuple[Project, dict[str, Any]]) -> None:
    project, result = studied
    settings = Settings(home=project.home, tracking_uri="", signing_key="")
    own, stored = resolve_model("first", settings), resolve_model("staging", settings)
    assert own.source == f"run {result['run']}" and stored.source == "models:/iris/1"
    assert own.sha256 == stored.sha256 and own.run == stored.run == result["run"]
    assert load_model(stored.folder, stored.sha256).info["table"] == "iris"
    (one,) = list_models(settings)
    assert one.metric == result["metric"] and one.score.startswith(f"{result['metrics'][one.metric]:.3f}")
    shutil.rmtree(settings.data / "cache" / "registry")
