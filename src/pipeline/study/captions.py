"""What the report says of each table and figure: name in the menu, category, caption."""

from __future__ import annotations

import re

from pipeline.study.config import Config
from pipeline.study.outputs import Linked, Output


def label(config: Config, name: str) -> str:
    """What the report's menu calls an output: its number, if its name has one, and title.

    Outputs of one title in one category are told apart by their names.
    """
    outputs = config.outputs
    title = outputs[name].title or name
    numbered = re.fullmatch(r"(table|figure)_(\d+)((?:_\d+)*[a-z]?)", name)
    if numbered:
        what, number, rest = numbered.groups()
        # A figure space before single digits: the menu sorts by letters.
        return (
            f"{what.capitalize()} {number.rjust(2, chr(0x2007))}{rest.replace('_', '.')}: {title}"
        )
    same = [n for n, o in outputs.items() if o.title == title and o.what == outputs[name].what]
    return title if same in ([], [name]) else f"{title} ({name})"


def category(config: Config, name: str) -> str:
    """Where the report shows a table."""
    return "Claims" if config.outputs[name].what == "claims" else "Tables"


def caption(config: Config, name: str) -> str:
    """What an output shows, under which protocol, with which seeds."""
    output = config.outputs[name]
    parts = [output.title, output.shows, output.note, f"Protocol: {protocol(config)}"]
    return " ".join(part.rstrip(".") + "." for part in [*parts, _seeds(config, output)] if part)


def protocol(config: Config) -> str:
    """The protocol as captions name it."""
    return config.protocol.title or config.main.protocol


def _seeds(config: Config, output: Output) -> str:
    """The seeds behind an output; empty for one that shows no runs."""
    outputs, experiments = config.outputs, config.experiments
    parts = [outputs[n] for n in output.outputs] if isinstance(output, Linked) else [output]
    pairs: dict[tuple[tuple[int, int], ...], None] = {}
    for part in parts:
        if next(iter(part.needs(experiments)), None) is None:
            continue
        for experiment in part.chosen(experiments):
            pairs[part.pairs(experiment)] = None
    if not pairs:
        return ""
    fewest, most = min(map(len, pairs)), max(map(len, pairs))
    number = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    listed = ""
    if len(pairs) == 1:
        listed = ": " + ", ".join(f"{a}–{b}" for a, b in next(iter(pairs)))
    return f"Seeds: {number} pair{'' if most == 1 else 's'} (a–b){listed}"
