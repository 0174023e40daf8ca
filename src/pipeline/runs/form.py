"""The form of a path: one text for people, from which paths are written and read.

``<word>`` stands for a part of a run's name, as ``PARTS`` allows it; ``[...]`` is there only where
the parts in it are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

LABEL = r"[A-Za-z0-9][A-Za-z0-9_.+=-]*"
_COUNT = r"[1-9][0-9]{0,14}"
_ROUNDS = r"[1-9][0-9]{0,3}"
_NUMBER = rf"(?:0|{_COUNT})"

#: What a part of a path may be; words that are not here stand for labels (data sets, recipes).
PARTS = {
    "model": r"[A-Za-z0-9_]+",
    "width": r"[0-9]{1,9}(?:\.[0-9]{1,9})?",
    "method": r"[A-Za-z0-9_-]+",
    "target": rf"(?:S0\.[0-9]{{2,6}}|P{_ROUNDS})",
    "s": _NUMBER,
    "a": _NUMBER,
    "b": _NUMBER,
    "k": _NUMBER,
    "t": _NUMBER,
    "n": _ROUNDS,
    "r": _COUNT,
    "epochs": _COUNT,
}

Parts = Mapping[str, str]


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
        self._pieces = [
            (piece.strip("[]"), piece.startswith("["))
            for piece in re.findall(r"\[[^]]*\]|[^[]+", text)
        ]
        pattern = "".join(
            f"(?:{self._pattern(piece)})?" if optional else self._pattern(piece)
            for piece, optional in self._pieces
        )
        self._compiled = re.compile(pattern)

    @staticmethod
    def _pattern(piece: str) -> str:
        words = re.split(r"<(\w+)>", piece)  # text, word, text, word ... text
        found = [re.escape(words[0])]
        for word, text in zip(words[1::2], words[2::2], strict=True):
            found += [f"(?P<{word}>{PARTS.get(word, LABEL)})", re.escape(text)]
        return "".join(found)

    def write(self, parts: Mapping[str, object]) -> str:
        """The path of parts; a bracket is left out where one of its parts is None."""
        text = ""
        for piece, optional in self._pieces:
            words = re.findall(r"<(\w+)>", piece)
            if optional and any(parts[word] is None for word in words):
                continue
            text += re.sub(r"<(\w+)>", lambda found: str(parts[found[1]]), piece)
        return text

    def read(self, path: str) -> dict[str, str] | None:
        """The parts of a path, those of absent brackets left out; None if it is none of this form.

        Width and sparsity must be spelled as `width_text` and `sparsity_text` do.
        """
        found = self._compiled.fullmatch(path)
        if found is None:
            return None
        parts = {word: text for word, text in found.groupdict().items() if text is not None}
        width, target = parts.get("width", "1"), parts.get("target", "P1")
        if width_text(float(width)) != width or width == "0":
            return None
        if target[0] == "S" and sparsity_text(float(target[1:])) != target[1:]:
            return None
        return None if target == "S0.00" else parts
