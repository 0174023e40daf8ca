"""Imports run downwards only, and what every job parses stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"

#: From the bottom to the top: a module imports its own layer and those above it in this list.
#: A package stands for all its modules that are not named themselves.
LAYERS = (
    ("errors", "streams", "cli", "machine", "snakemake_internals"),
    ("catalog.schema", "artifacts"),
    ("catalog",),
    ("runs",),
    ("progress",),
    ("study",),
    ("forward",),
    ("symmetry",),
    ("models", "data"),
    ("kernels",),
    ("evaluation", "pruning", "weights", "diversity", "connectivity", "training"),
    ("interop", "stages"),
    ("results", "report.published"),
    ("report.shown", "report.tables"),
    ("report.figures", "report.comparison", "report.claims", "report.tables.claims"),
    ("report",),
    ("commands", "__main__"),
)
HEAVY = ("torch", "numpy", "scipy", "pandas", "matplotlib", "torchvision", "sklearn", "snakemake")
#: What jobs that train never load: slow to start, and of no use to them.
NOT_FOR_TRAINING = ("pandas", "matplotlib", "torchvision", "sklearn", "snakemake")


@cache
def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def _tree(path: Path) -> ast.Module:
    """A file of Python; of the Snakefile and its rules, which are more, the imports alone."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        lines = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
        text = "\n".join(lines)
    return ast.parse(text)


def _imports(path: Path, *, at_start: bool = False) -> Iterator[str]:
    """Full names of what a file imports; ``at_start``: only what importing it imports too."""
    waiting: list[ast.AST] = [_tree(path)]
    while waiting:
        node = waiting.pop()
        if at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_start and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in _modules() else str(node.module)
        waiting += ast.iter_child_nodes(node)


def _layer(module: str) -> int:
    """Number of a module's layer: that of the longest name in ``LAYERS`` that begins its own."""
    if module == "pipeline":
        return 0
    name = module.removeprefix("pipeline.")
    while name:
        for number, names in enumerate(LAYERS):
            if name in names:
                return number
        name = name.rpartition(".")[0]
    raise AssertionError(f"{module} stands in no layer: add it to LAYERS")


def test_every_layer_names_modules_that_exist() -> None:
    for names in LAYERS:
        for name in names:
            assert f"pipeline.{name}" in _modules() or (SOURCE / "pipeline" / name).is_dir(), name


@pytest.mark.parametrize("module", _modules())
def test_imports_run_downwards_only(module: str) -> None:
    for name in _imports(_modules()[module]):
        if name.split(".")[0] == "pipeline":
            assert _layer(name) <= _layer(module), f"{module} imports {name}, which lies above it"


def test_no_module_imports_itself_by_a_detour() -> None:
    needs = {
        module: {name for name in _imports(path, at_start=True) if name in _modules()}
        - {"pipeline"}
        for module, path in _modules().items()
    }
    while free := [module for module, own in needs.items() if not own & needs.keys()]:
        for module in free:
            del needs[module]
    # A package and its parts may name each other: the package is only their shared front.
    loops = {module: own & needs.keys() for module, own in needs.items()}
    for module, own in loops.items():
        package = module.split(".")[1]
        assert all(name.split(".")[1] == package for name in own), (module, own)


def test_nothing_of_ours_imports_snakemake() -> None:
    for path in _modules().values():
        assert not any(name.split(".")[0] == "snakemake" for name in _imports(path)), path


def test_the_workflow_imports_the_graph_alone() -> None:
    allowed = {"errors", "machine", "runs", "snakemake_internals", "study"}
    for name in _workflow():
        package, _, rest = name.partition(".")
        if package == "pipeline":
            assert rest.split(".")[0] in allowed, name
        else:
            assert package in sys.stdlib_module_names or name == "snakemake.utils", name


def _workflow() -> set[str]:
    """Full names of what the Snakefile and its rules import."""
    files = [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]
    return {name for path in files for name in _imports(path)}


def test_scripts_import_nothing_heavy_before_they_run() -> None:
    scripts = sorted((ROOT / "workflow" / "scripts").glob("*.py"))
    assert scripts
    for path in scripts:
        names = {name.split(".")[0] for name in _imports(path, at_start=True)}
        assert names - set(sys.stdlib_module_names) <= {"pipeline"}, path


@pytest.mark.parametrize("package", ["torchvision", "sklearn"])
def test_what_is_slow_to_start_is_imported_inside_functions(package: str) -> None:
    for module, path in _modules().items():
        names = {name.split(".")[0] for name in _imports(path, at_start=True)}
        assert package not in names, module


def _loaded(*modules: str) -> set[str]:
    """Which heavy packages a fresh Python holds after importing modules."""
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module('pipeline.' + name)\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    command = [sys.executable, "-c", code]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_the_graph_loads_neither_torch_nor_numpy_nor_pandas() -> None:
    ours = {name.removeprefix("pipeline.") for name in _workflow() if name.startswith("pipeline.")}
    assert {"study.call", "study.targets"} <= ours
    assert not _loaded(*ours, "study.state", "commands.plan")


def test_jobs_load_no_more_than_they_need() -> None:
    names = [m.removeprefix("pipeline.") for m in _modules() if m.startswith("pipeline.stages.")]
    assert {"stages.dense", "stages.imp", "stages.sparse", "stages.match"} <= set(names)
    found = _loaded("training.loop", *names)
    assert not found & set(NOT_FOR_TRAINING)
    assert "torch" in found


def test_networks_and_their_groups_load_no_scipy() -> None:
    assert "scipy" not in _loaded(
        "symmetry.trace", "models.resnet", "models.vgg", "models.resnet50"
    )
