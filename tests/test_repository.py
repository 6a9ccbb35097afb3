"""The repository's own rules: what design and style promise about notebooks and modules."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, clean_environment, notebook_paths, read

from iris_nb.folders import STAGES
from iris_nb.parameters import read_parameters
from iris_nb.seam import check_step, exported_cells, run_cells, stage_notebooks

NOTEBOOKS = notebook_paths()
CHAPTERS = [path for path in NOTEBOOKS if path.stem != "index"]
STAGE_PATHS = list(stage_notebooks(ROOT).values())
MODULES = sorted(path for path in (ROOT / "iris_nb").glob("*.py") if not path.stem.startswith("_"))


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def texts(cell: dict[str, Any]) -> str:
    """Every stored output of a cell as text; pictures left out."""
    parts = []
    for output in cell["outputs"]:
        parts.append("".join(output.get("text", "")))
        parts += ["".join(v) for k, v in output.get("data", {}).items() if k.startswith("text")]
    return "\n".join(parts)


def name_of(path: Path) -> str:
    return re.sub(r"^\d\d_", "", path.stem)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_title_names_the_notebook_and_its_module(path: Path) -> None:
    notebook = read(path)
    title = notebook["cells"][0]["source"].splitlines()
    assert title[0] == f"# {name_of(path)}"
    assert title[1] == "" and re.fullmatch(r"> .+\.", title[2]), "the second line of a title is one sentence"
    exports = [m[1] for c in notebook["cells"] if (m := re.search(r"^#\| default_exp (\S+)$", c["source"], re.M))]
    assert exports in ([name_of(path)], [])
    assert re.match(r"\d\d_", path.stem)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_clean(path: Path) -> None:
    for cell in code_cells(path):
        assert cell["execution_count"] is None
        assert not any(output["output_type"] == "error" for output in cell["outputs"]), "a stored error"
        stored = texts(cell)
        assert not re.search(r"\bat 0x[0-9a-f]{6,}", stored), "a memory address"
        assert not re.search(r"(?<![\w/.])/(home|root|tmp|work|Users|var)/", stored), "a machine's path"
    assert path.stat().st_size < 600_000


def shows(source: str) -> bool:
    """Whether a cell surely has an output: it prints, or ends with something that is no call."""
    body = ast.parse(re.sub(r"^[%!].*$", "", source, flags=re.M)).body
    if not body:
        return False
    calls = [line.value.func for line in body if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call)]
    printed = any(isinstance(called, ast.Name) and called.id in ("print", "display") for called in calls)
    ends = body[-1].value if isinstance(body[-1], ast.Expr) and not source.rstrip().endswith(";") else None
    return printed or (ends is not None and not isinstance(ends, ast.Call | ast.Constant | ast.Await))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_a_cell_shows_is_stored(path: Path) -> None:
    missing = [cell["source"] for cell in code_cells(path) if shows(cell["source"]) and not cell["outputs"]]
    assert not missing, f"{len(missing)} cells were stored without what they show; run the notebook:\n{missing[0]}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_cells_stay_small_and_are_told_about(path: Path) -> None:
    notebook = read(path)
    for source in exported_cells(notebook).values():
        lines = [line for line in source.splitlines() if line.strip()]
        assert len(lines) <= 40, f"an exported cell of {len(lines)} lines:\n{lines[0]}"
    prose = sum(cell["cell_type"] == "markdown" for cell in notebook["cells"])
    assert prose >= 0.3 * len(code_cells(path))
    assert len(notebook["cells"]) <= 90
    assert "import *" not in "".join(exported_cells(notebook).values())


@pytest.mark.parametrize("path", STAGE_PATHS, ids=lambda p: p.stem)
def test_run_section_only_calls(path: Path) -> None:
    notebook = read(path)
    headings = [c for c in notebook["cells"] if c["cell_type"] == "markdown" and re.match(r"## Run\b", c["source"])]
    assert len(headings) == 1
    code = [cell for cell in run_cells(notebook) if cell["cell_type"] == "code"]
    assert [c["metadata"].get("tags", []) for c in code] == [["parameters"]] + [[]] * (len(code) - 1)
    assert 4 <= len(code) <= 8
    imports = ast.parse(code[1]["source"]).body
    assert all(isinstance(node, ast.Import | ast.ImportFrom) for node in imports)
    assert any(getattr(node, "module", "") == f"iris_nb.{name_of(path)}" for node in imports), "its own module"
    forbidden = (
        ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.If, ast.IfExp, ast.For, ast.While, ast.Try,
        ast.With, ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp, ast.Match,
    )  # fmt: skip
    for cell in code:
        found = [type(node).__name__ for node in ast.walk(ast.parse(cell["source"])) if isinstance(node, forbidden)]
        assert not found, f"{found} below the seam"
        assert "#|" not in cell["source"], "papermill knows no directives"


@pytest.mark.parametrize("path", STAGE_PATHS, ids=lambda p: p.stem)
def test_run_section_uses_no_name_of_the_lesson(path: Path) -> None:
    known = set(dir(__builtins__)) if not isinstance(__builtins__, dict) else set(__builtins__)
    known |= {"display"}
    for cell in run_cells(read(path)):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse(cell["source"])
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                known |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                known.add(node.id)
        used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        assert used <= known, f"{used - known} come from above the seam"


def test_shared_parameters_have_one_default() -> None:
    seen: dict[str, Any] = {}
    for path in STAGE_PATHS:
        cell = next(c for c in run_cells(read(path)) if "parameters" in c["metadata"].get("tags", []))
        declared = read_parameters(cell["source"])
        assert declared[0].name == "run_dir" and declared[0].default == ""
        for parameter in declared:
            assert parameter.help, f"{path.stem}: {parameter.name} has no help"
            assert seen.setdefault(parameter.name, parameter) == parameter
    assert "seed" in seen


def test_stages_are_the_round_tens() -> None:
    assert [path.stem for path in STAGE_PATHS] == [f"{n}0_{stage}" for n, stage in enumerate(STAGES, start=1)]


def imported(path: Path) -> set[str]:
    """The library's modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            found.add(node.module)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("iris_nb."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("iris_nb.")}
    return found


def test_chapters_import_only_from_their_decade_or_lower() -> None:
    decade = {name_of(path): int(path.stem[0]) for path in CHAPTERS}
    wrong = [
        f"{module.stem} imports {other}"
        for module in MODULES
        for other in imported(module)
        if module.stem in decade and decade[other] > decade[module.stem]
    ]
    assert not wrong


def test_imports_make_no_circle() -> None:
    graph = {module.stem: imported(module) for module in MODULES}
    while graph:
        free = [name for name, others in graph.items() if not others & graph.keys()]
        assert free, f"a circle among {sorted(graph)}"
        for name in free:
            del graph[name]


@pytest.mark.parametrize("module", MODULES, ids=lambda p: p.stem)
def test_modules_import_lightly(module: Path) -> None:
    heavy = {
        "mlflow",
        "matplotlib",
        "seaborn",
        "plotly",
        "dask",
        "nbdev",
        "fastcore",
        "IPython",
        "papermill",
        "nbconvert",
    }
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [(node.module or "").split(".")[0]]
        assert not heavy & set(names), f"line {node.lineno}"


def test_no_module_prints_or_writes_at_import() -> None:
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef, ast.If)
    for module in MODULES:
        for node in ast.parse(module.read_text(encoding="utf-8")).body:
            documentation = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            registration = isinstance(node, ast.Expr) and ast.unparse(node).startswith("app.add_typer")
            assert isinstance(node, allowed) or documentation or registration, f"{module.name}:{node.lineno}"


def public_functions(module: Path) -> list[ast.FunctionDef]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return [n for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]


@pytest.mark.parametrize("module", [m for m in MODULES if m.stem != "cli"], ids=lambda p: p.stem)
def test_public_parameters_are_documented(module: Path) -> None:
    lines = module.read_text(encoding="utf-8").splitlines()
    for function in public_functions(module):
        assert ast.get_docstring(function), f"{function.name} has no docstring"
        assert "\n" not in (ast.get_docstring(function) or ""), f"the docstring of {function.name} is one line"
        everything = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        for argument in everything:
            assert argument.annotation is not None, f"{function.name}({argument.arg})"
            assert "  # " in lines[argument.end_lineno - 1], f"{function.name}({argument.arg}) says nothing of itself"
        assert function.returns is not None


def test_library_is_in_step() -> None:
    check_step(ROOT)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources in a git repository of their own."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("nbs", "iris_nb"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("settings.ini", "pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "copy"],
    ):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def changed(folder: Path) -> str:
    return subprocess.run(
        ["git", "status", "--porcelain"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("command", ["nbdev_export", "nbdev_clean"])
def test_export_and_clean_change_nothing(copy: Path, command: str) -> None:
    tool = Path(sys.executable).with_name(command)
    subprocess.run([str(tool)], cwd=copy, check=True, capture_output=True, env=clean_environment())
    assert changed(copy) == ""


def test_cleaning_leaves_the_parameters_tag(copy: Path) -> None:
    for path in stage_notebooks(copy).values():
        assert any("parameters" in c["metadata"].get("tags", []) for c in read(path)["cells"])


def test_readme_is_the_index() -> None:
    from nbconvert import MarkdownExporter

    body, _ = MarkdownExporter().from_filename(str(ROOT / "nbs" / "index.ipynb"))
    expected = body.replace("](images/", "](nbs/images/").strip() + "\n"
    assert (ROOT / "README.md").read_text(encoding="utf-8") == expected


def test_every_requirement_is_locked() -> None:
    lock = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    asked = re.findall(r'^\s+"([A-Za-z0-9_-]+)', (ROOT / "setup.py").read_text(), re.M)
    assert len(asked) > 20
    assert {name.lower().replace("_", "-") for name in asked} <= lock


@pytest.mark.parametrize(
    "tool", [["ruff", "check", "."], ["ruff", "format", "--check", "nbs", "tests", "setup.py"], ["mypy"]], ids=" ".join
)
def test_linters_and_types(tool: list[str]) -> None:
    command = [str(Path(sys.executable).with_name(tool[0])), *tool[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
