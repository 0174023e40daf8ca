"""Follow the tutorial to the letter in a fresh clone, with a clock: ``python tests/tutorial/run.py``.

Every block of commands of ``docs/tutorial.md`` is run in order by one shell command each, from the
install on; the study that it declares is written where its first line says. Ends with the minutes
of each step, and status 1 at the first command that fails. The clone is removed at the end, or kept
in the folder that is given.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
_STEP = re.compile(r"^## ([^\n]+)$|^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What ``source .venv/bin/activate`` does for the commands after it.
ACTIVE = "[ -e .venv/bin/activate ] && source .venv/bin/activate\nset -e\n"


def steps(text: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Headings of a page with their blocks (language, content)."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for heading, language, block in _STEP.findall(text):
        if heading:
            found.append((heading, []))
        elif found:
            found[-1][1].append((language, block))
    return [(heading, blocks) for heading, blocks in found if blocks]


def follow(folder: Path) -> list[tuple[str, float]]:
    """Run all steps in ``folder``; seconds of each."""
    spent = []
    for heading, blocks in steps(PAGE.read_text(encoding="utf-8")):
        print(f"== {heading}", flush=True)
        began = time.monotonic()
        for language, block in blocks:
            if language == "sh":
                subprocess.run(["bash", "-c", ACTIVE + block], cwd=folder, check=True)
            else:
                name = block.splitlines()[0].removeprefix("# ").strip()
                (folder / name).write_text(block, encoding="utf-8")
        spent.append((heading, time.monotonic() - began))
    return spent


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else place) / "clone"
        began = time.monotonic()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        spent = [("clone", time.monotonic() - began), *follow(folder)]
    for heading, seconds in [*spent, ("all of it", sum(seconds for _, seconds in spent))]:
        print(f"{seconds / 60:5.1f} min  {heading}")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {error}")
