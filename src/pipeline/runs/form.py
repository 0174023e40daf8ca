"""The form of a path: one text for people, from which paths are written and read.

``<word>`` stands for a part of a run's name, as ``PARTS`` allows it; ``[...]`` is there only where
the parts in it are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LABEL = r"[A-Za-z0-9][A-Za-z0-9_.+=-]*"
_COUNT = r"[1-9][0-9]{0,14}"
_ROUNDS = r"[1-9][0-9]{0,3}"
_NUMBER = rf"(?:0|{_COUNT})"
_WHOLE = (_COUNT, _ROUNDS, _NUMBER)
#: Of a dense run; of a child the seed of its parent, the epoch of the state it starts from, its noise.
_SEED = rf"{_NUMBER}(?:t{_NUMBER}n{_ROUNDS})?"
_SEEDS = (
    " (a seed is 3, or 3t5n1: child 1 of seed 3 from epoch 5; children count from 1, and have none)"
)

#: What a part of a path may be; words that are not here stand for labels (data sets, recipes).
PARTS = {
    "model": r"[A-Za-z0-9_]+",
    "width": r"[0-9]{1,9}(?:\.[0-9]{1,9})?",
    "method": r"[A-Za-z0-9_-]+",
    "mask": r"shuffled",
    "target": rf"(?:S0\.[0-9]{{2,6}}|[PO]{_ROUNDS})",
    "s": _SEED,
    "a": _SEED,
    "b": _SEED,
    "k": _NUMBER,
    "t": _NUMBER,
    "n": _ROUNDS,
    "r": _COUNT,
    "epochs": _COUNT,
    "seeds": rf"(?:a{_SEED}-b{_SEED}|seeds{_SEED}(?:-{_SEED}){{2,99}})",
}

#: Of a path, by word: whole numbers as such, None in brackets that are not there.
Parts = Mapping[str, Any]

_WORD = re.compile(r"<(\w+)>")


def width_text(width: float) -> str:
    """Width multiplier as it stands in paths and tables: 1, 0.5."""
    return repr(float(width)).removesuffix(".0")


def sparsity_text(sparsity: float) -> str:
    """Sparsity as it stands in paths: two to six digits, 0.9 -> 0.90."""
    return f"{sparsity:.6f}"[:4] + f"{sparsity:.6f}"[4:].rstrip("0")


class Form:
    """A form, compiled: ``write`` gives the path of parts, ``read`` the parts of a path."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = _WORD.findall(text)
        pattern = re.escape(text).replace(r"\[", "(?:").replace(r"\]", ")?")
        pattern = _WORD.sub(lambda word: f"(?P<{word[1]}>{PARTS.get(word[1], LABEL)})", pattern)
        self._compiled = re.compile(pattern)

    def write(self, parts: Parts) -> str:
        """The path of parts; a bracket is left out where one of its parts is None."""

        def bracket(found: re.Match[str]) -> str:
            absent = any(parts[word] is None for word in _WORD.findall(found[1]))
            return "" if absent else found[1]

        text = re.sub(r"\[([^]]*)\]", bracket, self.text)
        return _WORD.sub(lambda word: str(parts[word[1]]), text)

    def fault(self, path: str) -> str:
        """Which part of a path is none of this form's, in a few words."""
        parts, forms = path.split("/"), self.text.split("/")
        for part, form in zip(parts, forms, strict=False):
            if Form(form).read(part) is None:
                child = re.search(r"\dt", part) and re.search("<(s|a|b|seeds)>", form)
                return f"{part[:80]!r} is no {form}" + (_SEEDS if child else "")
        if len(parts) < len(forms):
            return f"{forms[len(parts)]} is missing behind {parts[-1][:80]!r}"
        return f"{parts[len(forms)][:80]!r} is too much" if len(parts) > len(forms) else "misspelt"

    def read(self, path: str) -> Parts | None:
        """The parts of a path; None if it is none of this form.

        Width and sparsity must be spelled as `width_text` and `sparsity_text` do.
        """
        found = self._compiled.fullmatch(path)
        if found is None:
            return None
        width, target = (found.groupdict().get(word) for word in ("width", "target"))
        if width and (width_text(float(width)) != width or width == "0"):
            return None
        if target and target[0] == "S" and sparsity_text(float(target[1:])) != target[1:]:
            return None
        if target == "S0.00":
            return None
        return {
            word: int(text) if text and PARTS.get(word) in _WHOLE else text
            for word, text in found.groupdict().items()
        }
