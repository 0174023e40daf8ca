"""The modules of the program and what they import; ``python tests/house.py`` draws the map of it.

The picture in ``docs/images/house.svg`` shows the wings of ``src/pipeline`` in their layers, and an
arrow to each wing that another one needs, but for those it reaches by a detour.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PICTURE = ROOT / "docs" / "images" / "house.svg"


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its full name."""
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


def imports(path: Path, *, at_start: bool = False) -> Iterator[str]:
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
                yield name if name in modules() else str(node.module)
        waiting += ast.iter_child_nodes(node)


def wing(module: str) -> str:
    """First name below the package: a wing, or a module that stands alone."""
    return module.split(".")[1] if "." in module else module


def needs() -> dict[str, set[str]]:
    """The wings that each wing imports, at the start or inside functions."""
    found: dict[str, set[str]] = {}
    for module, path in modules().items():
        if module == "pipeline":
            continue
        own = found.setdefault(wing(module), set())
        own |= {wing(name) for name in imports(path) if name.startswith("pipeline.")}
    return {name: others - {name} for name, others in found.items()}


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that no detour over other arrows replaces."""

    @cache
    def below(name: str) -> frozenset[str]:
        return frozenset().union(*({other} | below(other) for other in graph[name]))

    return {
        name: {o for o in others if not any(o in below(p) for p in others - {o})}
        for name, others in graph.items()
    }


def heights(graph: dict[str, set[str]]) -> dict[str, int]:
    """How many wings lie below each, one on the other."""

    @cache
    def height(name: str) -> int:
        return 1 + max((height(other) for other in graph[name]), default=-1)

    return {name: height(name) for name in graph}


def picture() -> str:
    """The map as SVG: a row for each height, the top one first."""
    graph = {name: others for name, others in needs().items() if name != "__main__"}
    rows: dict[int, list[str]] = {}
    for name, height in sorted(heights(graph).items()):
        rows.setdefault(height, []).append(name)
    wide, high, gap = 142, 26, 44
    across = max(map(len, rows.values())) * (wide + 14)
    top = max(rows)
    place = {
        name: ((index + 0.5) * across / len(row), (top - height) * (high + gap) + 20)
        for height, row in rows.items()
        for index, name in enumerate(row)
    }
    total = (top + 1) * (high + gap)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {total}" '
        'font-family="sans-serif" font-size="13" text-anchor="middle">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#88929c"/></marker>',
    ]
    for name, others in sorted(reduced(graph).items()):
        for other in sorted(others):
            (x, y), (u, v) = place[name], place[other]
            lines.append(
                f'<path d="M{x:.0f} {y + high / 2:.0f} C{x:.0f} {y + high:.0f} {u:.0f} '
                f'{v - high:.0f} {u:.0f} {v - high / 2:.0f}" fill="none" stroke="#88929c" '
                'marker-end="url(#tip)"/>'
            )
    for name, (x, y) in sorted(place.items()):
        lines.append(
            f'<rect x="{x - wide / 2:.0f}" y="{y - high / 2:.0f}" width="{wide}" height="{high}" '
            f'rx="4" fill="#eef3f8" stroke="#33506b"/><text x="{x:.0f}" y="{y + 4.5:.0f}">{name}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
