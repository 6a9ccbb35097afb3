"""Model files: the same bytes for the same model, and refused when anything about them is not ours."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skops.io import dumps

from iris_nb import ensembles, legacy, modelfile
from iris_nb.calibrated import METHODS, fit_pipeline
from iris_nb.candidates import CANDIDATES, Candidate, candidate_named, fit_candidate
from iris_nb.contract import Contract, infer_contract
from iris_nb.errors import ModelFileError, SettingsError
from iris_nb.features import FeatureOptions, build_features
from iris_nb.files import sha256_bytes, sha256_file, sha256_folder, sign, signature_holds, write_json
from iris_nb.modelfile import (
    ALLOWED_TYPES,
    KNOWN_FILES,
    MODEL_FILES,
    audit,
    canonical,
    content_digest,
    dump_model,
    load_model,
    parse_model,
    read_verified,
    save_model,
)
from iris_nb.onnxfile import OnnxModel, export_onnx

OPTIONS = FeatureOptions(construct="auto", scale="standard", max_categories=20, rare=0.01)


def messy_table(rows: int = 90, classes: tuple[Any, ...] = ("ja", "nein", "vielleicht")) -> pd.DataFrame:
    """Every kind of column, with missing values and names that are hard to write."""
    rng = np.random.default_rng(0)
    target = np.resize(np.array(classes, dtype=object), rows)
    shift = np.resize(np.arange(len(classes)), rows)
    table = pd.DataFrame(
        {
            "petal length (cm)": rng.normal(shift, 1.0),
            "petal width (cm)": rng.normal(3, 1, rows),
            'a "quoted" größe': rng.integers(0, 9, rows) + 2 * shift,
            "in bloom?": rng.random(rows) < 0.5,
            "Farbe": rng.choice(np.array(["rot", "blau", "weiß"], dtype=object), rows),
            "picked": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), unit="D"),
            "answer": target,
        }
    )
    table.loc[::7, "petal length (cm)"] = np.nan
    table.loc[::11, "Farbe"] = None
    return table


def fit(
    candidate: Candidate, table: pd.DataFrame, seed: int = 0, options: FeatureOptions = OPTIONS
) -> tuple[Any, Contract]:
    """A fitted pipeline and its contract."""
    contract = infer_contract(table, "messy", "answer")
    X, y = contract.conform(table), contract.labels(table["answer"])
    return fit_candidate(candidate, build_features(contract, options), X, y, seed, "none"), contract


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that must not be changed."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    table = messy_table().drop(columns="picked")
    pipeline, contract = fit(CANDIDATES[1], table)
    exported = export_onnx(pipeline, contract, contract.conform(table))
    assert exported.data is not None
    info = {"candidate": "lda", "classes": list(contract.classes)}
    extras = {"parity": exported.parity, "conformal": {"any": "thing"}, "domain": {"any": "thing"}}
    save_model(folder, pipeline, info, contract, extras, exported.data)
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def seal(folder: Path) -> None:
    """Write a manifest that fits the folder as it is, as a forger would."""
    (folder / "manifest.json").unlink(missing_ok=True)
    write_json(folder / "manifest.json", sha256_folder(folder))


# --- the same model, the same bytes ---


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda c: c.name)
def test_every_candidate_is_saved_loaded_and_equal(candidate: Candidate, tmp_path: Path) -> None:
    table = messy_table()
    (pipeline, contract), (again, _) = fit(candidate, table), fit(candidate, table)
    info = {"candidate": candidate.name, "classes": list(contract.classes)}
    save_model(tmp_path / "one", pipeline, info, contract)
    save_model(tmp_path / "two", again, info, contract)
    assert content_digest(tmp_path / "one") == content_digest(tmp_path / "two")
    assert sha256_folder(tmp_path / "one") == sha256_folder(tmp_path / "two")
    loaded = load_model(tmp_path / "one")
    X = contract.conform(table)
    assert (loaded.pipeline.predict_proba(X) == pipeline.predict_proba(X)).all()
    assert loaded.contract == contract and loaded.classes == contract.classes


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda c: c.name)
def test_two_classes_and_other_options_are_allowed_too(candidate: Candidate) -> None:
    options = FeatureOptions(construct="none", scale="robust", max_categories=2, rare=0.0)
    pipeline, contract = fit(candidate, messy_table(classes=(True, False)), options=options)
    X = contract.conform(messy_table())
    assert (parse_model(dump_model(pipeline)).predict_proba(X) == pipeline.predict_proba(X)).all()


def test_another_seed_is_another_model() -> None:
    forest = next(candidate for candidate in CANDIDATES if candidate.name == "forest")
    one, two = (dump_model(fit(forest, messy_table(), seed)[0]) for seed in (0, 1))
    assert one != two


def test_another_process_writes_the_same_bytes() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_modelfile import *\n"
        "print(*(sha256_bytes(dump_model(fit(c, messy_table())[0])) for c in CANDIDATES))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", program, here], capture_output=True, text=True, check=True, env=environment
    )

    assert done.stdout.split() == [sha256_bytes(dump_model(fit(c, messy_table())[0])) for c in CANDIDATES]


def test_the_canonical_form_is_its_own_canonical_form(saved: Path) -> None:
    data = (saved / "model.skops").read_bytes()
    assert canonical(data) == data


def types_of(model: Any) -> set[str]:
    """Every type that a stored model names."""
    with ZipFile(io.BytesIO(dumps(model))) as file:
        schema = json.loads(file.read("schema.json"))
    return {f"{n['__module__']}.{n['__class__']}" for n in modelfile._nodes(schema)}


def test_the_list_of_types_is_no_longer_than_needed() -> None:
    used: set[str] = set()
    for classes, scale in ((("a", "b", "c"), "standard"), (("a", "b"), "robust")):
        select = "l1" if scale == "robust" else "none"
        options = FeatureOptions(construct="auto", scale=scale, max_categories=3, rare=0.05, select=select)
        for candidate in CANDIDATES:
            used |= types_of(fit(candidate, messy_table(classes=classes), options=options)[0])
    table = messy_table()
    contract = infer_contract(table, "messy", "answer")
    X, y = contract.conform(table), contract.labels(table["answer"])
    for method in METHODS:
        features = build_features(contract, OPTIONS)
        used |= types_of(fit_pipeline(candidate_named("lda"), features, X, y, None, 0, "none", method))
    assert used | {*ensembles.MODEL_TYPES, *legacy.MODEL_TYPES} == ALLOWED_TYPES  # theirs are used in their own tests


# --- written whole or not at all ---


def test_a_save_that_fails_leaves_what_was_there(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sha256_folder(model)
    monkeypatch.setattr(modelfile, "write_json", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_model(model, {"any": "object"}, {"classes": []}, load_model(model).contract)
    assert sha256_folder(model) == before
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_saving_again_replaces_and_leaves_no_rubbish(model: Path) -> None:
    old = load_model(model)
    sha256 = save_model(model, old.pipeline, {"classes": list(old.classes), "note": "new"}, old.contract)
    assert load_model(model, sha256).info["note"] == "new"
    assert sorted(path.name for path in model.iterdir()) == sorted([*MODEL_FILES, "manifest.json"])
    assert load_model(model).files == {} and load_model(model).extras == {}
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_model_records_what_made_it(saved: Path) -> None:
    info = load_model(saved).info
    assert info["format"] == 2 and set(info["versions"]) >= {
        "python",
        "numpy",
        "pandas",
        "scikit-learn",
        "skops",
        "iris_nb",
    }


# --- tampered with ---


def break_link(folder: Path, name: str = "model.skops") -> None:
    outside = folder.parent / f"outside {name}"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)


def make_folder(folder: Path) -> None:
    (folder / "model.json").unlink()
    (folder / "model.json").mkdir()


TAMPERINGS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "changed": ("model.json", lambda f: (f / "model.json").write_text("{}")),
    "appended": ("model.skops", lambda f: (f / "model.skops").open("ab").write(b"\0")),
    "removed": ("contract.json", lambda f: (f / "contract.json").unlink()),
    "added": ("helper.py", lambda f: (f / "helper.py").write_text("import os")),
    "added and hidden": (".hidden", lambda f: (f / ".hidden").write_text("")),
    "added folder": ("code", lambda f: (f / "code").mkdir()),
    "renamed": ("model.skops", lambda f: (f / "model.skops").rename(f / "model.pkl")),
    "linked": ("model.skops", break_link),
    "a folder instead": ("model.json", make_folder),
    "another ONNX file": ("model.onnx", lambda f: (f / "model.onnx").write_bytes(b"")),
    "parity that says otherwise": ("parity.json", lambda f: write_json(f / "parity.json", {"trusted": True})),
    "no ONNX file": ("model.onnx", lambda f: (f / "model.onnx").unlink()),
    "ONNX file renamed": ("model.onnx", lambda f: (f / "model.onnx").rename(f / "model.onnx.data")),
    "ONNX file linked": ("model.onnx", lambda f: break_link(f, "model.onnx")),
    "weights beside": ("weights.bin", lambda f: (f / "weights.bin").write_bytes(b"0")),
    "an MLmodel": ("MLmodel", lambda f: (f / "MLmodel").write_text("flavors: {python_function: {loader_module: os}}")),
    "no manifest": ("manifest.json", lambda f: (f / "manifest.json").unlink()),
    "damaged manifest": ("manifest.json", lambda f: (f / "manifest.json").write_text("{")),
    "manifest of another shape": ("manifest.json", lambda f: (f / "manifest.json").write_text("[]")),
    "empty manifest": ("contract.json", lambda f: (f / "manifest.json").write_text("{}")),
    "manifest that leads outside": (
        "../x",
        lambda f: write_json(f / "manifest.json", {"../x": "0", **json.loads((f / "manifest.json").read_text())}),
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampering_is_refused_and_the_file_named(tampering: str, model: Path) -> None:
    name, change = TAMPERINGS[tampering]
    change(model)
    with pytest.raises(ModelFileError, match=name.replace(".", r"\.")):
        load_model(model)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_refused(
    data: st.DataObject, saved: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Path(shutil.copytree(saved, tmp_path_factory.mktemp("flip") / "model"))
    expected = sha256_file(folder / "manifest.json")
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted([*KNOWN_FILES, "manifest.json"])
    file = folder / data.draw(st.sampled_from(names))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    with pytest.raises(ModelFileError, match=file.name):
        read_verified(folder, expected)


def test_a_forged_manifest_is_refused_where_its_hash_is_known(model: Path) -> None:
    expected = sha256_file(model / "manifest.json")
    info = json.loads((model / "model.json").read_text())
    write_json(model / "model.json", info | {"candidate": "forged"})
    seal(model)
    assert load_model(model).info["candidate"] == "forged"
    with pytest.raises(ModelFileError, match=r"manifest\.json .* not the one that was recorded"):
        load_model(model, expected)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no model folder"):
        load_model(tmp_path / "nowhere")


# --- forged, with a manifest that fits ---


def skops_bytes(schema: Any, compression: int = 0, twice: bool = False) -> bytes:
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", compression) as file:
        for _ in range(1 + twice):
            file.writestr("schema.json", schema if isinstance(schema, str) else json.dumps(schema))
    return buffer.getvalue()


def node(module: str, name: str, way: str, **more: Any) -> dict[str, Any]:
    return {"__module__": module, "__class__": name, "__loader__": way, "protocol": 2, **more}


class Bomb:
    """A pickle that leaves a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


PLAIN = node("builtins", "list", "ListNode", content=[])
FORGERIES: dict[str, bytes] = {
    "not a zip": b"PK\x03\x04 no",
    "empty": b"",
    "no schema": skops_bytes("{}").replace(b"schema.json", b"schema.jsom"),
    "not json": skops_bytes("{"),
    "not an object": skops_bytes("[]"),
    "deep": skops_bytes("[" * 100_000),
    "untrusted type": skops_bytes(node("subprocess", "Popen", "ObjectNode", content=None)),
    "function of the system": skops_bytes(node("posix", "system", "FunctionNode")),
    "type of the system": skops_bytes(node("posix", "system", "TypeNode")),
    "self-declared trust": skops_bytes(
        node(
            "builtins",
            "dict",
            "DictNode",
            trusted=["posix.system"],
            key_types=PLAIN,
            content={"a": node("posix", "system", "TypeNode")},
        )
    ),
    "method": skops_bytes(node("sklearn.pipeline", "Pipeline", "MethodNode", content={"func": "fit", "obj": PLAIN})),
    "constructor": skops_bytes(node("builtins", "str", "ConstructorFromReduceNode", content=PLAIN)),
    "old form": skops_bytes(PLAIN | {"protocol": 0}),
    "no form": skops_bytes({k: v for k, v in PLAIN.items() if k != "protocol"}),
    "form as text": skops_bytes(PLAIN | {"protocol": "2"}),
    "compressed": skops_bytes(PLAIN, ZIP_DEFLATED),
    "array that is not there": skops_bytes(node("numpy", "ndarray", "NdArrayNode", type="numpy", file="0.npy")),
    "half a node": skops_bytes({"__class__": "list", "protocol": 2}),
    "sklearn, but not ours": dumps(__import__("sklearn.linear_model").linear_model.SGDClassifier()),
    "partial": dumps(partial(int, base=2)),
    "operator": dumps(methodcaller("__class__")),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forgeries_are_refused(forgery: str, model: Path) -> None:
    (model / "model.skops").write_bytes(FORGERIES[forgery])
    seal(model)
    with pytest.raises(ModelFileError):
        load_model(model)


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib", "model.pt", "loader.py", "MLmodel", "model.onnx.data"])
def test_a_file_under_another_name_is_refused_even_if_the_manifest_lists_it(
    name: str, model: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "it ran"
    (model / name).write_bytes(pickle.dumps(Bomb(mark)))
    seal(model)
    with pytest.raises(ModelFileError, match=rf"{name.replace('.', r'[.]')} .* is no file of a model"):
        load_model(model)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["model.onnx", "parity.json", "conformal.json"])
def test_a_pickle_under_a_known_name_is_not_run(name: str, model: Path, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    (model / name).write_bytes(pickle.dumps(Bomb(mark)))
    seal(model)
    if name == "model.onnx":
        loaded = load_model(model)
        with pytest.raises(ModelFileError, match=r"model\.onnx cannot be read"):
            OnnxModel(loaded.files[name], loaded.contract, loaded.classes, {})
    else:
        with pytest.raises(ModelFileError, match=name.replace(".", r"\.")):
            load_model(model)
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_repeated_members_are_refused() -> None:
    with pytest.raises(ModelFileError, match="repeated"):
        parse_model(skops_bytes(PLAIN, twice=True))


def test_a_pickle_under_another_name_is_not_run(model: Path, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    (model / "model.skops").write_bytes(pickle.dumps(Bomb(mark)))
    seal(model)
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_model(model)
    assert not mark.exists()


def test_nothing_is_imported_from_the_folder(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "it ran"
    for name in ("sitecustomize.py", "sklearn.py", "conftest.py"):
        (model.parent / name).write_text(f"open({str(mark)!r}, 'w')")
    monkeypatch.chdir(model.parent)
    load_model(model)
    assert not mark.exists()


def test_the_onnx_file_is_read_once_and_the_same_bytes_are_used(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = (model / "model.onnx").read_bytes()
    loaded = load_model(model)
    (model / "model.onnx").write_bytes(b"swapped after loading")
    assert loaded.files["model.onnx"] == right and loaded.extras["parity"]["trusted"] is True
    X = loaded.contract.conform(messy_table())
    answers = OnnxModel(right, loaded.contract, loaded.classes, loaded.extras["parity"]).proba(
        {str(name): X[name].to_numpy() for name in X}
    )
    assert np.abs(answers - loaded.pipeline.predict_proba(X)).max() < 1e-12


def test_a_folder_of_format_1_is_still_read(model: Path) -> None:
    for name in ("model.onnx", "parity.json"):
        (model / name).unlink()
    write_json(model / "model.json", json.loads((model / "model.json").read_text()) | {"format": 1})
    seal(model)
    loaded = load_model(model)
    assert loaded.info["format"] == 1 and loaded.files == {} and "parity" not in loaded.extras


@given(text=st.text(), key=st.text(min_size=1), other=st.text())
def test_a_signature_holds_for_its_text_and_key_only(text: str, key: str, other: str) -> None:
    signature = sign(text, key)
    assert len(signature) == 64 and signature_holds(text, signature, key)
    assert signature_holds(other, signature, key) == (other == text)
    assert not signature_holds(text, other, key) or other == signature
    assert not signature_holds(text, signature, key + "x")


def test_a_signature_needs_a_key() -> None:
    with pytest.raises(SettingsError, match="IRIS_NB_SIGNING_KEY"):
        sign("text", "")


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(ModelFileError):
        parse_model(data)


@settings(max_examples=150, deadline=None)
@given(
    schema=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["__class__", "__module__", "__loader__", "content", "key_types", "file", "protocol", "type"]
                ),
                inner | st.sampled_from(["list", "builtins", "ListNode", "DictNode", "dict", "numpy", "NdArrayNode"]),
            )
        ),
        max_leaves=12,
    )
)
def test_any_schema_is_read_or_refused(schema: Any) -> None:
    try:
        parse_model(skops_bytes(schema if not isinstance(schema, dict) else schema | {"protocol": 2}))
    except ModelFileError as error:
        assert "\n" not in str(error)


def test_a_model_of_a_later_format_is_refused(model: Path) -> None:
    info = json.loads((model / "model.json").read_text())
    write_json(model / "model.json", info | {"format": 3})
    seal(model)
    with pytest.raises(ModelFileError, match="format 3"):
        load_model(model)


@pytest.mark.parametrize(
    "content", ["[]", "{", "\xff", '{"format": 1}', '{"format": 1, "classes": [1]}', '{"format": 1, "classes": "ab"}']
)
def test_damaged_information_is_refused(content: str, model: Path) -> None:
    (model / "model.json").write_bytes(content.encode("latin-1"))
    seal(model)
    with pytest.raises(ModelFileError, match=r"model\.json"):
        load_model(model)


@pytest.mark.parametrize("content", ["[]", "{", "{}"])
def test_a_damaged_contract_is_refused(content: str, model: Path) -> None:
    (model / "contract.json").write_text(content)
    seal(model)
    with pytest.raises(ModelFileError, match=r"contract\.json"):
        load_model(model)


@pytest.mark.filterwarnings("ignore:the model was made with")
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.json", {"format": 1, "classes": ["ja", "nein"], "versions": []}),
        ("model.json", {"format": 1, "classes": ["vielleicht", "nein", "ja"]}),
        ("contract.json", infer_contract(messy_table(classes=("ja", "nein")), "messy", "answer").to_dict()),
    ],
)
def test_parts_of_different_models_are_refused(file: str, content: Any, model: Path) -> None:
    write_json(model / file, content)
    seal(model)
    with pytest.raises(ModelFileError, match="not of one model"):
        load_model(model)


def test_an_object_that_is_no_model_is_refused(model: Path) -> None:
    (model / "model.skops").write_bytes(dump_model([1, 2]))
    seal(model)
    with pytest.raises(ModelFileError, match="not of one model"):
        load_model(model)


def test_other_versions_are_warned_about(model: Path) -> None:
    info = json.loads((model / "model.json").read_text())
    info["versions"]["scikit-learn"] = "1.0.2"
    write_json(model / "model.json", info)
    seal(model)
    with pytest.warns(UserWarning, match=r"made with scikit-learn 1\.0\.2"):
        load_model(model)


def test_the_audit_finds_a_node_however_deep() -> None:
    schema: Any = node("posix", "system", "TypeNode")
    for _ in range(50):
        schema = {"content": [{"anything": schema}]}
    with pytest.raises(ModelFileError, match=r"posix\.system"):
        audit(schema)
