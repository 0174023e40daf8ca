"""The environment: one list of exact pins, whatever way it is installed, and its lock."""

from __future__ import annotations

import ast
import itertools
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SLOW
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONDA: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text())
PIN = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)==([0-9]+(?:\.[0-9]+)*)")
DIRECT: list[str] = PROJECT["project"]["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
#: A package of the lock: name, version, marker, hashes.
LOCKED = re.compile(
    r"([a-z0-9]+(?:-[a-z0-9]+)*)==(\S+)(?: ; (.+?))?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
)
#: Packages whose module has another name.
MODULES = {"pyyaml": "yaml", "scikit-learn": "sklearn"}
#: What the workflow runs or loads by name, and no module of ours imports.
NOT_IMPORTED = {"snakemake", "snakemake-executor-plugin-slurm", "pygments"}


def _pip() -> list[str]:
    (found,) = [entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict)]
    return list(found)


def _text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text()


def _lock(name: str) -> dict[str, tuple[str, str, str]]:
    """Version, marker and hashes of every package of a lock."""
    return {package: (*rest,) for package, *rest in LOCKED.findall(_text(name))}


def test_conda_and_pip_install_the_same() -> None:
    assert _pip() == DIRECT
    names = [requirement.split("==")[0] for requirement in _pip()]
    assert names == sorted(set(names))


@pytest.mark.parametrize("requirement", DIRECT)
def test_every_dependency_has_an_exact_pin(requirement: str) -> None:
    assert PIN.fullmatch(requirement)


def test_tools_of_development_are_pinned_but_for_stubs() -> None:
    for requirement in EXTRAS["dev"]:
        assert PIN.fullmatch(requirement) or requirement.startswith("types-")


@pytest.mark.parametrize("name", ["run", "dev"])
def test_a_lock_has_one_version_of_each_package_with_hashes_and_nothing_else(name: str) -> None:
    # so no registry and no path either
    assert re.fullmatch(rf"(?:#.*\n)+(?:{LOCKED.pattern})+", _text(name))
    assert [package for package, *_ in LOCKED.findall(_text(name))] == sorted(_lock(name))


def test_all_that_is_locked_for_running_is_locked_the_same_for_development() -> None:
    assert _lock("run").items() <= _lock("dev").items()


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _needs(requirement: Requirement) -> list[Requirement]:
    """What an installed package asks for on this machine, with the extras that are wanted of it."""
    asked = [Requirement(text) for text in metadata.requires(requirement.name) or ()]
    wanted = [{"extra": extra} for extra in ("", *requirement.extras)]
    return [r for r in asked if not r.marker or any(r.marker.evaluate(w) for w in wanted)]


@pytest.mark.parametrize("name", ["run", "dev"])
def test_a_lock_is_what_the_project_asks_for_and_all_that_this_needs(name: str) -> None:
    """Seen on what is installed here in the locked version; complete in an environment by ``make``."""
    lock = {
        package: version
        for package, (version, marker, _) in _lock(name).items()
        if not marker or Marker(marker).evaluate()
    }
    installed = {package for package in lock if _installed(package) == lock[package]}
    extras = EXTRAS if name == "dev" else {}
    waiting = [Requirement(text) for text in [*DIRECT, *itertools.chain(*extras.values())]]
    seen: dict[str, str] = {}
    for requirement in waiting:  # which grows
        package = canonicalize_name(requirement.name)
        assert package in lock, f"{requirement} is not locked: make lock"
        assert requirement.specifier.contains(lock[package]), f"{requirement}: make lock"
        if package in installed and str(requirement) not in seen:
            waiting += _needs(requirement)
        seen[str(requirement)] = package
    if installed == set(lock):
        assert set(seen.values()) == installed


def test_the_lock_builds_the_project() -> None:
    (asked,) = (Requirement(text) for text in PROJECT["build-system"]["requires"])
    assert asked.specifier.contains(_lock("run")[asked.name][0])


def test_python_of_the_environment_is_one_that_the_project_allows() -> None:
    (python,) = [e for e in CONDA["dependencies"] if isinstance(e, str) and e.startswith("python=")]
    least = PROJECT["project"]["requires-python"].removeprefix(">=")
    version = [int(part) for part in python.removeprefix("python=").split(".")]
    assert version >= [int(part) for part in least.split(".")]
    tools = PROJECT["tool"]
    assert tools["mypy"]["python_version"] == least
    assert tools["ruff"]["target-version"] == f"py{least.replace('.', '')}"


def test_conda_itself_installs_nothing_but_python_and_pip() -> None:
    plain = [entry.split("=")[0] for entry in CONDA["dependencies"] if isinstance(entry, str)]
    assert plain == ["python", "pip"]
    assert CONDA["name"] == PROJECT["project"]["name"]


def _imported() -> set[str]:
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow" / "scripts").glob("*.py")]
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"pipeline"}


def test_what_is_imported_is_declared_and_what_is_declared_is_used() -> None:
    declared = {requirement.split("==")[0] for requirement in DIRECT}
    modules = {MODULES.get(name, name) for name in declared - NOT_IMPORTED}
    optional = {Requirement(text).name for texts in EXTRAS.values() for text in texts}
    assert _imported() - optional == modules
    assert declared >= NOT_IMPORTED


def test_snakemake_is_no_older_than_the_workflow_asks() -> None:
    asked = re.search(r'min_version\("([0-9.]+)"\)', (ROOT / "Snakefile").read_text())
    pins = dict(requirement.split("==") for requirement in DIRECT)
    assert asked
    least, pinned = ([int(x) for x in v.split(".")] for v in (asked[1], pins["snakemake"]))
    assert least <= pinned


def test_licence_and_citation_agree_with_the_project() -> None:
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = PROJECT["project"]
    assert citation["license"] == project["license"] == "MIT"
    assert citation["version"] == project["version"]
    assert citation["cff-version"] and citation["authors"]
    titles = [entry["title"] for entry in citation["references"]]
    assert (
        sum("Aligning Lottery Ticket Masks using Weight Symmetry" in title for title in titles) == 2
    )


def test_the_version_is_told_in_one_place_only() -> None:
    import pipeline

    assert pipeline.__version__ == PROJECT["project"]["version"]


def test_the_slow_modules_exist() -> None:
    assert [name for name in SLOW if not (ROOT / "tests" / f"test_{name}.py").exists()] == []
