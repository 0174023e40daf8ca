"""A table as CSV (tidy), HTML, Markdown and LaTeX; the same table always gives the same bytes."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from pathlib import Path

import pandas as pd

from pipeline.artifacts.store import write_atomic
from pipeline.report.tables.table import ABSENT, SPAN, Table

_LONG = 40  # characters: a column with a longer text is one of sentences or lists

#: Cells that have a colour of their own.
VERDICTS = ("supported", "contradicted", "undecided")
#: How tables look on a page.
STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #1a1a1a; margin: 1.5rem; }
table {
  border-collapse: collapse; border-bottom: 2px solid #333; font-variant-numeric: tabular-nums;
}
caption {
  caption-side: top; text-align: left; font-weight: 600; font-size: 16px; padding-bottom: .6rem;
}
th, td { padding: .3rem .6rem; text-align: center; white-space: nowrap; vertical-align: top; }
th { font-weight: 600; }
tbody th, th.text { text-align: left; }
thead th { vertical-align: bottom; }
thead tr:first-child th { border-top: 2px solid #333; }
thead tr:last-child th, thead th[rowspan] { border-bottom: 1px solid #333; }
tbody tr.block > * { border-top: 1px solid #bbb; }
tbody tr:first-child > * { border-top: none; }
td.text { text-align: left; white-space: normal; min-width: 15rem; max-width: 34rem; }
td.absent { color: #767676; }
td.supported { background: #d9f0dd; }
td.contradicted { background: #f8d7d4; }
td.undecided { background: #f3efd9; }
.scroll { overflow-x: auto; }
.notes { max-width: 60rem; color: #444; }
""".strip()


def to_csv(table: Table) -> str:
    """The tidy cells, with what they are and their protocol; unknown values are empty."""
    said = {"protocol": table.protocol} | (table.legend.columns() if table.legend else {})
    new = {name: text for name, text in said.items() if name not in table.tidy}
    text: str = table.tidy.assign(**new).to_csv(
        index=False, lineterminator="\n", float_format="%.10g"
    )
    return text


def to_html(table: Table) -> str:
    """One self-contained page: title, table with merged headers, notes and protocol."""
    title = html.escape(table.title)
    lines = ["<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">']
    lines += [f"<title>{title}</title>", f"<style>\n{STYLE}\n</style>", "</head>", "<body>"]
    lines += [to_fragment(table, caption=True), "</body>", "</html>", ""]
    return "\n".join(lines)


def to_fragment(table: Table, *, caption: bool = False, runs: str = "") -> str:
    """A table and its notes as a part of a page.

    ``caption``: with its title. ``runs``: where on the page the runs of its cells are listed; every
    number leads to its own there (``runs``-n, the n-th of `groups`), or to all where its own are not
    known. Rows and cells carry their labels, for screens on which no row has room.
    """
    grid = _Grid(table)
    number = {behind: position for position, behind in enumerate(groups(table) if runs else ())}
    lines = ['<div class="scroll">', "<table>"]
    lines += [f"<caption>{html.escape(table.title)}</caption>"] if caption else []
    lines.append("<thead>")
    for depth, heads in enumerate(grid.head):
        lines.append("<tr>")
        if depth == 0:
            lines += [_tag("th", name, rowspan=len(grid.head)) for name in grid.names]
        lines += [_tag("th", cell.text, cell.kind, colspan=cell.span) for cell in heads]
        lines.append("</tr>")
    lines += ["</thead>", "<tbody>"]
    for row, (full, (labels, cells)) in enumerate(zip(grid.rows, grid.body, strict=True)):
        kind = ' class="block"' if _starts_block(labels) else ""
        lines.append(f'<tr{kind} data-row="{html.escape(full)}">')
        begun = (label for label in labels if label.span)
        lines += [_tag("th", label.text, scope="row", rowspan=label.span) for label in begun]
        column = 0
        for cell in cells:
            own = number.get(table.behind(row, column))
            href = f"#{runs}" if own is None else f"#{runs}-{own}"
            href = href if runs and any(map(str.isdigit, cell.text)) else ""
            given = {"colspan": cell.span, "data-column": grid.columns[column]}
            lines.append(_tag("td", cell.text, cell.kind, bold=cell.bold, href=href, **given))
            column += cell.span
        lines.append("</tr>")
    lines += ["</tbody>", "</table>", "</div>", '<div class="notes">']
    lines += [_tag("p", note) for note in _notes(table)]
    return "\n".join([*lines, "</div>"])


def groups(table: Table) -> dict[tuple[str, ...], list[str]]:
    """The runs behind each cell of a table, by their paths, and which cells show just them.

    A whole row is named once.
    """
    grid, found = _Grid(table), dict[tuple[str, ...], list[str]]()
    for row, (full, (_, cells)) in enumerate(zip(grid.rows, grid.body, strict=True)):
        starts = accumulate((cell.span for cell in cells[:-1]), initial=0)
        columns = {column: table.behind(row, column) for column in starts}
        whole = len(set(columns.values())) == 1 and table.layout.shape[1] > 1
        for column, behind in columns.items():
            named = found.setdefault(behind, [])
            name = full if whole else f"{full} · {grid.columns[column]}"
            named += [name] if name not in named else []
    found.pop((), None)
    return found


def _tag(
    name: str,
    text: str,
    kind: str = "",
    *,
    bold: bool = False,
    href: str = "",
    **attributes: object,
) -> str:
    """An element of a class and with attributes, those left out that say nothing."""
    given = {"class": kind, **attributes}
    shown = "".join(f' {key}="{value}"' for key, value in given.items() if value not in ("", 1))
    text = html.escape(text)
    text = f"<b>{text}</b>" if bold else text
    text = f'<a href="{html.escape(href)}">{text}</a>' if href else text
    return f"<{name}{shown}>{text}</{name}>"


def to_markdown(table: Table) -> str:
    """A GitHub-flavoured table under a heading; repeated row labels are left out."""
    grid = _Grid(table)
    heading, columns = _flat_columns(table.layout.columns)
    lines = [f"### {table.title}", ""]
    if heading:
        lines += [f"Columns: {heading}.", ""]
    lines.append(_markdown_row([*grid.names, *columns]))
    sides = ["---:" if numbers else "---" for numbers in grid.numbers]
    lines.append(_markdown_row([*(["---"] * len(grid.names)), *sides]))
    for labels, cells in grid.body:
        texts = [_pipe(label.text) if label.span else "" for label in labels]
        for cell in cells:
            text = _pipe(cell.text)
            texts += [f"**{text}**" if cell.bold else text, *[""] * (cell.span - 1)]
        lines.append(_markdown_row(texts))
    lines += ["", *(f"- {note}" for note in _notes(table)), ""]
    return "\n".join(lines)


def _flat_columns(columns: pd.Index) -> tuple[str, list[str]]:
    """One header line: (what stands above all columns, the columns' own labels)."""
    labels = _labels(columns)
    outer = {label[:-1] for label in labels}
    if len(outer) == 1:
        return ", ".join(outer.pop()), [label[-1] for label in labels]
    return "", [", ".join(label) for label in labels]


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _pipe(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def to_latex(table: Table) -> str:
    """A float with booktabs rules in the paper's layout; needs the package booktabs only."""
    grid = _Grid(table)
    depth = len(grid.names)
    lines = [
        "% Needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_tex(table.title)}}}",
        f"\\label{{tab:{table.name.replace('_', '-')}}}",
        "\\small",
        "\\setlength{\\tabcolsep}{4pt}",
        f"\\begin{{tabular}}{{{'l' * depth}{'c' * table.layout.shape[1]}}}",
        "\\toprule",
    ]
    for heads in grid.head[:-1]:
        merged = [_across(_tex(cell.text), cell.span) for cell in heads]
        lines.append(_latex_row([""] * depth + merged))
        edges = accumulate((cell.span for cell in heads), initial=depth + 1)
        lines += [f"\\cmidrule(lr){{{left}-{right - 1}}}" for left, right in pairwise(edges)]
    last = [*grid.names, *(cell.text for cell in grid.head[-1])]
    lines += [_latex_row(map(_tex, last)), "\\midrule"]
    for position, (labels, cells) in enumerate(grid.body):
        if position and _starts_block(labels):
            lines.append("\\midrule")
        texts = [_tex(label.text) if label.span else "" for label in labels]
        for cell in cells:
            text = f"\\textbf{{{_tex(cell.text)}}}" if cell.bold else _tex(cell.text)
            texts.append(_across(text, cell.span) if cell.span > 1 else text)
        lines.append(_latex_row(texts))
    lines += ["\\bottomrule", "\\end{tabular}"]
    lines += [f"\n\\smallskip\\noindent\\footnotesize {_tex(note)}" for note in _notes(table)]
    lines += ["\\end{table}", ""]
    return "\n".join(lines)


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _across(text: str, columns: int) -> str:
    return f"\\multicolumn{{{columns}}}{{c}}{{{text}}}"


_TEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "$<$",
    ">": "$>$", "|": "$|$", "±": "$\\pm$", "×": "$\\times$", "−": "$-$", "–": "--", "≤": "$\\leq$",
    "≥": "$\\geq$", "→": "$\\to$", "·": "$\\cdot$", "√": "$\\surd$", "²": "$^2$", "₁": "$_1$",
    "₂": "$_2$", "α": "$\\alpha$", "π": "$\\pi$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


@dataclass(frozen=True)
class _Cell:
    """One printed cell. span: its columns; of a row's label, its rows, 0 where that above goes on.

    kind: ``text`` in a column of sentences, which is set to the left, ``absent`` without a value.
    """

    text: str
    span: int = 1
    kind: str = ""
    bold: bool = False


class _Grid:
    """A table as every format prints it: neighbours that are one cell are merged.

    names: of the labels. head: lines from the outside in, the innermost never merged. body: labels
    and cells of each row. rows, columns: what each row and column of the layout is called in full.
    numbers: which columns hold numbers.
    """

    def __init__(self, table: Table) -> None:
        layout = table.layout.astype(str)
        kinds = ["text" if one.map(len).max() > _LONG else "" for _, one in layout.items()]
        self.numbers = [_of_numbers(one) for _, one in layout.items()]
        self.names = [str(name or "") for name in layout.index.names]
        *outer, inner = zip(*_labels(layout.columns), strict=True)
        self.head = [[_Cell(text, len(list(same))) for text, same in groupby(one)] for one in outer]
        self.head.append([_Cell(text, 1, kind) for text, kind in zip(inner, kinds, strict=True)])
        self.rows = [" · ".join(labels) for labels in _labels(layout.index)]
        self.columns = [" · ".join(labels) for labels in _labels(layout.columns)]
        self.body = []
        for row, labels in enumerate(_merged(layout.index)):
            texts = layout.iloc[row].tolist()
            starts = [c for c, text in enumerate(texts) if c == 0 or text != SPAN]
            cells = []
            for start, end in pairwise([*starts, len(texts)]):
                kind, bold = kinds[start] or _kind(texts[start]), table.is_bold(row, start)
                cells.append(_Cell(texts[start], end - start, kind, bold))
            self.body.append((labels, cells))


def _of_numbers(column: pd.Series) -> bool:
    """Whether the cells of a column that have a value begin with a number."""
    known = column[~column.isin([SPAN, ABSENT]) & ~column.map(_kind).eq("absent")]
    return bool(known.str.fullmatch(r"[<+−-]?\s*\d[\d,.]*(\s.*)?").all())


def _kind(text: str) -> str:
    """What a text of one or two words says to the eye."""
    if text.startswith(("missing", "diverged")):
        return "absent"
    return text if text in VERDICTS else ""


def _merged(index: pd.Index) -> list[list[_Cell]]:
    """The labels of every row; those of the innermost level are never merged."""
    rows, spans = _labels(index), []
    for level in range(1, index.nlevels):
        runs = (len(list(same)) for _, same in groupby(rows, key=lambda row: row[:level]))
        spans.append([span for run in runs for span in (run, *[0] * (run - 1))])
    spans.append([1] * len(rows))
    return [list(map(_Cell, *row)) for row in zip(rows, zip(*spans, strict=True), strict=True)]


def _starts_block(labels: Sequence[_Cell]) -> bool:
    """Whether a rule goes above a row: its outer labels differ from those of the row above."""
    return len(labels) > 1 and labels[-2].span > 0


def _labels(index: pd.Index) -> list[tuple[str, ...]]:
    """The labels of an index, a tuple of texts also where it has one level."""
    return [tuple(map(str, one if isinstance(one, tuple) else (one,))) for one in index]


def _notes(table: Table) -> list[str]:
    said = table.legend.sentences(table.tidy) if table.legend else []
    return [*said, *table.notes, f"Protocol: {table.protocol}."]


#: Ending of a file -> the text that is written.
FORMATS = {"csv": to_csv, "html": to_html, "md": to_markdown, "tex": to_latex}


def write(table: Table, stem: Path, formats: Iterable[str] = tuple(FORMATS)) -> list[Path]:
    """Write ``stem`` + .csv, .html, .md, .tex (those asked for), each whole or not at all."""
    paths = []
    for suffix in formats:
        path = stem.with_name(f"{stem.name}.{suffix}")
        write_atomic(path, FORMATS[suffix](table).encode())
        paths.append(path)
    return paths
