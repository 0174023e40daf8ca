"""Tables by kind: what an output reads, and how it is laid out; the same in every format."""

from pipeline.report.tables.render import (
    FORMATS,
    groups,
    to_csv,
    to_fragment,
    to_html,
    to_latex,
    to_markdown,
    write,
)
from pipeline.report.tables.table import Table

__all__ = [
    "FORMATS", "Table", "groups", "to_csv", "to_fragment", "to_html", "to_latex", "to_markdown", "write",
]  # fmt: skip
