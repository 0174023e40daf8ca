"""Imports run downwards only, and what every job parses stays light."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from house import PICTURE, ROOT, SOURCE, heights, imports, modules, needs, picture

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
    (
        "calibration",
        "evaluation",
        "pruning",
        "weights",
        "diversity",
        "connectivity",
        "training",
        "two_parameters",
    ),
    ("alignment", "interop", "stages"),
    ("results", "report.published", "report.statistics"),
    ("report.shown", "report.levels", "report.tables"),
    ("report.figures", "report.comparison", "report.claims", "report.tables.claims"),
    ("report",),
    ("commands", "__main__"),
)
HEAVY = ("torch", "numpy", "scipy", "pandas", "matplotlib", "torchvision", "sklearn", "snakemake")
#: What jobs that train never load: slow to start, and of no use to them.
NOT_FOR_TRAINING = ("pandas", "matplotlib", "torchvision", "sklearn", "snakemake")


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
            assert f"pipeline.{name}" in modules() or (SOURCE / "pipeline" / name).is_dir(), name


@pytest.mark.parametrize("module", modules())
def test_imports_run_downwards_only(module: str) -> None:
    front = module == "pipeline"  # names what it loads when it is asked for
    for name in imports(modules()[module], at_start=front):
        if name.split(".")[0] == "pipeline":
            assert _layer(name) <= _layer(module), f"{module} imports {name}, which lies above it"


def test_no_module_imports_itself_by_a_detour() -> None:
    needs = {
        module: {name for name in imports(path, at_start=True) if name in modules()} - {"pipeline"}
        for module, path in modules().items()
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
    for path in modules().values():
        assert not any(name.split(".")[0] == "snakemake" for name in imports(path)), path


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
    return {name for path in files for name in imports(path)}


def test_scripts_import_nothing_heavy_before_they_run() -> None:
    scripts = sorted((ROOT / "workflow" / "scripts").glob("*.py"))
    assert scripts
    for path in scripts:
        names = {name.split(".")[0] for name in imports(path, at_start=True)}
        assert names - set(sys.stdlib_module_names) <= {"pipeline"}, path


@pytest.mark.parametrize("package", ["torchvision", "sklearn"])
def test_what_is_slow_to_start_is_imported_inside_functions(package: str) -> None:
    for module, path in modules().items():
        names = {name.split(".")[0] for name in imports(path, at_start=True)}
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
    names = [m.removeprefix("pipeline.") for m in modules() if m.startswith("pipeline.stages.")]
    assert {"stages.dense", "stages.imp", "stages.sparse", "stages.match"} <= set(names)
    found = _loaded("training.loop", *names)
    assert not found & set(NOT_FOR_TRAINING)
    assert "torch" in found


def test_tables_and_the_page_load_neither_torch_nor_matplotlib() -> None:
    """But those that need them: diversity, and claims on what figures read."""
    found = _loaded(
        "report.page", "report.comparison", "report.claims", "report.tables.rewind_grid"
    )
    assert "pandas" in found and not found & {"torch", "matplotlib"}


def test_networks_and_their_groups_load_no_scipy() -> None:
    assert "scipy" not in _loaded(
        "symmetry.trace", "models.resnet", "models.vgg", "models.resnet50"
    )


# -- the map -----------------------------------------------------------------------------------


def test_no_wing_needs_itself_by_a_detour() -> None:
    heights(needs())  # or recursion without an end


def test_the_picture_of_the_house_is_up_to_date() -> None:
    """If not: ``python tests/house.py``."""
    assert PICTURE.read_text(encoding="utf-8") == picture()


def test_the_map_names_every_wing_and_no_other() -> None:
    page = (ROOT / "docs" / "explanation" / "design.md").read_text(encoding="utf-8")
    table = page.partition("| --- | --- |\n")[2].partition("\n\n")[0]
    named = [
        name for row in table.splitlines() for name in re.findall("`(\\w+)`", row.split("|")[1])
    ]
    assert sorted(named) == sorted(needs().keys() - {"__main__"})


def test_a_file_is_read_at_one_sitting() -> None:
    long = {m: n for m, p in modules().items() if (n := len(p.read_text().splitlines())) > 450}
    assert not long
