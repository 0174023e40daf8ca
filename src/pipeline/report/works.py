"""Which target makes which table and figure of the works: a page of the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.report import published
from pipeline.study.config import Config, read
from pipeline.study.outputs import Output
from pipeline.study.strict_yaml import read_yaml

_NUMBERED = re.compile(r"(table|figure)_(\d+)((?:_\d+)*)([a-z]?)")
_MEASURES = ["test_accuracy_mean", "ensemble_accuracy", "disagreement", "kl", "js"]

_TEXT = """\
# Every number of the works and its target

{mark}

Each table and figure of the paper, of the thesis and of Sharma et al. (2024), and what makes it. \
The thesis prints many of the paper's under numbers of its own: one row, and both targets show the \
same runs. Under protocol \
`authors-code` they are made as the released code does.

```sh
snakemake table_5 -n --config study=paper
snakemake table_4_7 -n --config study=thesis protocol=authors-code
snakemake sharma_figure_3 -n --config study=sharma
```

{table}

Of Sharma et al. (what each asks, and what ours says: [the work on a page](../explanation/sharma.md)):

{curves}

A table with published numbers comes with a comparison (`<target>.comparison.md`), cell by cell: \
{cells} accuracies are known (`src/pipeline/report/published`), and every one names its table in both \
works, and so has a target. What the text says in words is judged by \
[claims](../evidence/claims-published.md). Figure 2 of the paper and Figures 2.1 to 2.5 and 3.4 of the \
thesis are diagrams or others' pictures: there is nothing to compute.
"""


@dataclass(frozen=True)
class Place:
    """A table or figure of a work: its name as a target, what it is called, and what it shows."""

    target: str
    number: str
    output: Output


def places(config: Config) -> Iterator[Place]:
    """The tables and figures of a study that a work numbers, and what appendices hold."""
    for name, output in config.outputs.items():
        numbered = _NUMBERED.fullmatch(name)
        if numbered:
            kind, first, rest, panel = numbered.groups()
            number = f"{kind.capitalize()} {first}{rest.replace('_', '.')}{panel}"
            yield Place(name, number, output)
        elif appendix := re.search(r"\((Appendix \w+)\)", output.title):
            yield Place(name, appendix[1], output)


def printed(output: Output) -> str:
    """How many numbers of a table were published."""
    if output.kind == "diversity":
        return f"{int(published.diversity()[_MEASURES].count().sum())} numbers"
    if output.published:
        return f"{len(published.table(output.published))} accuracies"
    return "settings" if output.kind == "hyperparameters" else ""


def rows(root: Path) -> Iterator[tuple[str, ...]]:
    """Paper, thesis, what, published numbers, target of the paper, target of the thesis."""
    paper, thesis = (read(root, {"study": study}) for study in ("paper", "thesis"))
    entries = read_yaml(root / "config" / "studies" / "thesis.yaml")["outputs"]
    other = {place.target: place for place in places(thesis)}
    for place in sorted(places(paper), key=_order):
        same = [other.pop(n) for n in [*other] if entries[n].get("extends") == place.target]
        yield _row([place], same)
    for place in sorted(other.values(), key=_order):
        yield _row([], [place])


def curves(root: Path) -> Iterator[tuple[str, ...]]:
    """Figure of Sharma et al. by number, what it shows, points that were read off it, target."""
    read_off = published.sharma()["figure"].value_counts()
    outputs = read(root, {"study": "sharma"}).outputs
    matches = (re.fullmatch(r"sharma_figure_(\d+)", name) for name in outputs)
    for numbered in sorted(filter(None, matches), key=lambda found: int(found[1])):
        name, number = numbered[0], numbered[1]
        points = read_off.get(number, 0)
        yield f"Figure {number}", outputs[name].title, f"{points or ''}", f"`{name}`"


def _order(place: Place) -> tuple[object, ...]:
    """Tables, then figures, then appendices, each by number."""
    kind, _, number = place.number.partition(" ")
    parts = [int(part) for part in re.findall(r"\d+", number)]
    return (["Table", "Figure", "Appendix"].index(kind), parts, number)


def _row(paper: list[Place], thesis: list[Place]) -> tuple[str, ...]:
    """What stands in both works; one figure of the paper may be several of the thesis."""
    shown = (paper or thesis)[0].output
    numbers = [", ".join(place.number for place in own) for own in (paper, thesis)]
    targets = [", ".join(f"`{place.target}`" for place in own) for own in (paper, thesis)]
    return *numbers, shown.title, printed(shown), *targets


def page(root: Path, mark: str) -> str:
    """The page; ``mark``: a line below the title."""
    head = ("paper", "thesis", "what", "published", "target, study `paper`", "study `thesis`")
    shown = ("figure", "what", "points read off it", "target, study `sharma`")
    return _TEXT.format(
        mark=mark,
        table=_table(head, rows(root)),
        curves=_table(shown, curves(root)),
        cells=len(published.cells()),
    )


def _table(head: tuple[str, ...], body: Iterator[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
