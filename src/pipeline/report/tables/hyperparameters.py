"""The settings of the recipes that run: paper Tables 2, 3 and 4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from pipeline.report.tables.table import ABSENT, Table, spec_notes


def build(
    name: str,
    spec: Mapping[str, Any],
    rows: Iterable[tuple[str, str, Any]],
    *,
    protocol: str = "paper",
) -> Table:
    """A row per hyperparameter, a column per group (Table 4 has two); one group: ``Value``.

    ``rows`` are (group, name, value) in the order to print; a name that a group lacks shows –.
    Settings: title, note.
    """
    tidy = pd.DataFrame(
        [(group, key, _text(value)) for group, key, value in rows],
        columns=["group", "name", "value"],
    )
    groups = list(dict.fromkeys(tidy["group"]))
    keys = list(dict.fromkeys(tidy["name"]))
    values = {(row.group, row.name): row.value for row in tidy.itertuples(index=False)}
    layout = pd.DataFrame(
        [[values.get((group, key), ABSENT) for group in groups] for key in keys],
        index=pd.Index(keys, name="Hyperparameter"),
        columns=["Value"] if len(groups) == 1 else groups,
    )
    return Table(name, spec.get("title", name), tidy, layout, spec_notes(spec), protocol)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return str(value)
