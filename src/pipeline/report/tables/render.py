"""A table as CSV (tidy), HTML, Markdown and LaTeX; the same table always gives the same bytes."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from pipeline.artifacts.store import write_atomic
from pipeline.report.tables.table import SPAN, Table

FORMATS = ("csv", "html", "md", "tex")

_STYLE = """
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
.scroll { overflow-x: auto; }
.notes { max-width: 60rem; color: #444; }
""".strip()


def write(table: Table, stem: Path, formats: Iterable[str] = FORMATS) -> list[Path]:
    """Write ``stem`` + .csv, .html, .md, .tex (those asked for), each whole or not at all."""
    writers = {"csv": to_csv, "html": to_html, "md": to_markdown, "tex": to_latex}
    paths = []
    for suffix in formats:
        path = stem.with_name(f"{stem.name}.{suffix}")
        write_atomic(path, writers[suffix](table).encode())
        paths.append(path)
    return paths


def to_csv(table: Table) -> str:
    """The tidy cells; unknown values are empty."""
    text: str = table.tidy.to_csv(index=False, lineterminator="\n", float_format="%.10g")
    return text


def to_html(table: Table) -> str:
    """One self-contained page: title, table with merged headers, notes and protocol."""
    layout = table.layout
    title = html.escape(table.title)
    lines = ["<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">']
    lines += [f"<title>{title}</title>", f"<style>\n{_STYLE}\n</style>", "</head>", "<body>"]
    lines += ['<div class="scroll">', "<table>", f"<caption>{title}</caption>", "<thead>"]
    lines += _html_head(layout)
    lines += ["</thead>", "<tbody>"]
    rows = _index_rows(layout)
    height = _row_spans(rows)
    for position, labels in enumerate(rows):
        block = _starts_block(rows, position)
        lines.append('<tr class="block">' if block else "<tr>")
        for level, label in enumerate(labels):
            span = height[position][level]
            if span:
                attribute = f' rowspan="{span}"' if span > 1 else ""
                lines.append(f'<th scope="row"{attribute}>{html.escape(label)}</th>')
        for start, width in _spans(layout, position):
            lines.append(_html_cell(table, position, start, width))
        lines.append("</tr>")
    lines += ["</tbody>", "</table>", "</div>", '<div class="notes">']
    lines += [f"<p>{html.escape(note)}</p>" for note in _notes(table)]
    lines += ["</div>", "</body>", "</html>", ""]
    return "\n".join(lines)


def to_markdown(table: Table) -> str:
    """A GitHub-flavoured table under a heading; repeated row labels are left out."""
    layout = table.layout
    heading, columns = _flat_columns(layout)
    lines = [f"### {table.title}", ""]
    if heading:
        lines += [f"Columns: {heading}.", ""]
    index_names = _index_names(layout)
    lines.append(_markdown_row([*index_names, *columns]))
    lines.append(_markdown_row([*(["---"] * len(index_names)), *(["---:"] * len(columns))]))
    rows = _index_rows(layout)
    height = _row_spans(rows)
    for position, labels in enumerate(rows):
        shown = [label if height[position][level] else "" for level, label in enumerate(labels)]
        cells = [""] * layout.shape[1]
        for start, _ in _spans(layout, position):
            text = _pipe(str(layout.iat[position, start]))
            cells[start] = f"**{text}**" if table.is_bold(position, start) else text
        lines.append(_markdown_row([*(_pipe(label) for label in shown), *cells]))
    lines += ["", *(f"- {note}" for note in _notes(table)), ""]
    return "\n".join(lines)


def to_latex(table: Table) -> str:
    """A float with booktabs rules in the paper's layout; needs the package booktabs only."""
    layout = table.layout
    depth, width = len(_index_names(layout)), layout.shape[1]
    lines = [
        "% Needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_tex(table.title)}}}",
        f"\\label{{tab:{table.name.replace('_', '-')}}}",
        "\\small",
        "\\setlength{\\tabcolsep}{4pt}",
        f"\\begin{{tabular}}{{{'l' * depth}{'c' * width}}}",
        "\\toprule",
        *_latex_head(layout),
        "\\midrule",
    ]
    rows = _index_rows(layout)
    height = _row_spans(rows)
    for position, labels in enumerate(rows):
        if position and _starts_block(rows, position):
            lines.append("\\midrule")
        cells = [
            _tex(label) if height[position][level] else "" for level, label in enumerate(labels)
        ]
        for start, span in _spans(layout, position):
            text = _tex(str(layout.iat[position, start]))
            if table.is_bold(position, start):
                text = f"\\textbf{{{text}}}"
            cells.append(f"\\multicolumn{{{span}}}{{c}}{{{text}}}" if span > 1 else text)
        lines.append(" & ".join(cells) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    lines += [f"\n\\smallskip\\noindent\\footnotesize {_tex(note)}" for note in _notes(table)]
    lines += ["\\end{table}", ""]
    return "\n".join(lines)


def _notes(table: Table) -> list[str]:
    return [*table.notes, f"Protocol: {table.protocol}."]


def _index_names(layout: pd.DataFrame) -> list[str]:
    return [str(name or "") for name in layout.index.names]


def _index_rows(layout: pd.DataFrame) -> list[tuple[str, ...]]:
    if isinstance(layout.index, pd.MultiIndex):
        return [tuple(str(label) for label in labels) for labels in layout.index]
    return [(str(label),) for label in layout.index]


def _row_spans(rows: list[tuple[str, ...]]) -> list[list[int]]:
    """For each row and index level: over how many rows its label runs, 0 inside such a run.

    The innermost level is never merged.
    """
    spans = [[1] * len(labels) for labels in rows]
    if not rows:
        return spans
    for level in range(len(rows[0]) - 1):
        start = 0
        for position in range(1, len(rows)):
            if rows[position][: level + 1] == rows[start][: level + 1]:
                spans[start][level] += 1
                spans[position][level] = 0
            else:
                start = position
    return spans


def _starts_block(rows: list[tuple[str, ...]], position: int) -> bool:
    """Whether a rule goes above this row: its outer labels differ from those of the row above."""
    if len(rows[position]) < 2:
        return False
    return position == 0 or rows[position][:-1] != rows[position - 1][:-1]


def _spans(layout: pd.DataFrame, row: int) -> Iterator[tuple[int, int]]:
    """(first column, number of columns) of every cell of a row, `SPAN` cells merged."""
    values = [str(value) for value in layout.iloc[row]]
    start = 0
    for column in range(1, len(values) + 1):
        if column == len(values) or values[column] != SPAN:
            yield start, column - start
            start = column


def _column_levels(layout: pd.DataFrame) -> list[list[str]]:
    """Header lines from the outside in."""
    columns = layout.columns
    if isinstance(columns, pd.MultiIndex):
        return [[str(label[level]) for label in columns] for level in range(columns.nlevels)]
    return [[str(label) for label in columns]]


def _runs(labels: list[str]) -> Iterator[tuple[str, int]]:
    start = 0
    for position in range(1, len(labels) + 1):
        if position == len(labels) or labels[position] != labels[start]:
            yield labels[start], position - start
            start = position


def _flat_columns(layout: pd.DataFrame) -> tuple[str, list[str]]:
    """One header line: (what stands above all columns, the columns' own labels)."""
    levels = _column_levels(layout)
    if len(levels) == 1:
        return "", levels[0]
    if len(set(levels[0])) == 1:
        return levels[0][0], levels[1]
    return "", [f"{outer}, {inner}" for outer, inner in zip(levels[0], levels[1], strict=True)]


def _html_head(layout: pd.DataFrame) -> list[str]:
    levels = _column_levels(layout)
    lines = []
    for depth, labels in enumerate(levels):
        lines.append("<tr>")
        if depth == 0:
            span = f' rowspan="{len(levels)}"' if len(levels) > 1 else ""
            lines += [f"<th{span}>{html.escape(name)}</th>" for name in _index_names(layout)]
        innermost = depth == len(levels) - 1
        if innermost:
            kinds = [' class="text"' if _is_text(layout, c) else "" for c in range(len(labels))]
            pairs = zip(labels, kinds, strict=True)
            lines += [f"<th{kind}>{html.escape(label)}</th>" for label, kind in pairs]
        else:
            for label, width in _runs(labels):
                span = f' colspan="{width}"' if width > 1 else ""
                lines.append(f"<th{span}>{html.escape(label)}</th>")
        lines.append("</tr>")
    return lines


def _html_cell(table: Table, row: int, column: int, width: int) -> str:
    raw = str(table.layout.iat[row, column])
    text = html.escape(raw)
    if table.is_bold(row, column):
        text = f"<b>{text}</b>"
    kind = ""
    if _is_text(table.layout, column):
        kind = ' class="text"'
    elif raw.startswith(("missing", "diverged")):
        kind = ' class="absent"'
    span = f' colspan="{width}"' if width > 1 else ""
    return f"<td{kind}{span}>{text}</td>"


def _is_text(layout: pd.DataFrame, column: int) -> bool:
    """Whether a column holds sentences or lists rather than numbers: it is then set to the left."""
    return any(len(str(value)) > 40 for value in layout.iloc[:, column])


def _latex_head(layout: pd.DataFrame) -> list[str]:
    levels = _column_levels(layout)
    names = [_tex(name) for name in _index_names(layout)]
    lines = []
    for depth, labels in enumerate(levels):
        innermost = depth == len(levels) - 1
        cells = names if innermost else [""] * len(names)
        if innermost:
            cells = [*cells, *(_tex(label) for label in labels)]
        else:
            cells = [
                *cells,
                *(f"\\multicolumn{{{n}}}{{c}}{{{_tex(label)}}}" for label, n in _runs(labels)),
            ]
        lines.append(" & ".join(cells) + " \\\\")
        if not innermost:
            start = len(names) + 1
            for _, width in _runs(labels):
                lines.append(f"\\cmidrule(lr){{{start}-{start + width - 1}}}")
                start += width
    return lines


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _pipe(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


_TEX = {
    "\\": "\\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": "$\\pm$",
    "×": "$\\times$",
    "−": "$-$",
    "–": "--",
    "≤": "$\\leq$",
    "≥": "$\\geq$",
    "→": "$\\to$",
    "·": "$\\cdot$",
    "√": "$\\surd$",
    "²": "$^2$",
    "₁": "$_1$",
    "₂": "$_2$",
    "α": "$\\alpha$",
    "π": "$\\pi$",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
