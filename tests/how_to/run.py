"""Follow the how-to pages that extend the program on a copy of the tree: ``python tests/how_to/run.py``.

Blocks whose first line names a file are written there, ``diff`` blocks are applied, YAML is pasted
at the end of the file that it names, other Python and commands are run: page after page in one copy, so that
what one page has made serves the next. Shown of each page: it touches no more files of src and
workflow than it says, what it adds runs in study ``nano``, no run that was there is made again, and
nothing is left to do, and its code is in the style of the house.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Pages or sections of them, and the most files of src and workflow that each may touch.
PAGES = {
    "stage.md": 3,
    "table.md#A table of a new kind": 2,
    "table.md#A figure of a new kind": 2,
    "matcher.md": 2,
    "fourth-work.md#Numbers and a table": 0,
    "fourth-work.md#A claim": 1,
    "model.md": 2,
    "method.md": 0,
    "data-set.md#Of torchvision": 1,
}
STUDY = "--config study=nano"
#: Seconds that a command may take.
LONGEST = 1200


class Failure(Exception):
    """A page does not do what it says."""


def blocks(root: Path, page: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block of a page, or of one of its sections."""
    name, _, section = page.partition("#")
    text = (root / "docs" / "how-to" / name).read_text(encoding="utf-8")
    if section:
        text = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def edited(known: str, language: str, content: str) -> str:
    """A file with what a block tells its reader to write into it.

    Of a diff, lines with a space stay, those with "-" go, those with "+" come; YAML is pasted at the
    end.

    Raises:
        Failure: the lines that a diff begins from do not stand there just once; or the file is there
            already.
    """
    if language == "diff":
        old, new = (
            "".join(line[1:] for line in content.splitlines(True) if line[0] in signs)
            for signs in ("- ", "+ ")
        )
        lines = "\n" + known
        if lines.count("\n" + old) != 1:
            raise Failure(f"stands there {lines.count(old)} times:\n{old}")
        return lines.replace("\n" + old, "\n" + new)[1:]
    if known and language != "yaml":
        raise Failure("is there already")
    return f"{known}\n{content}" if known else content


class Copy:
    """A copy of the tree as git has it, with results of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),
        }

    def call(self, *words: str) -> str:
        """What a command says.

        Raises:
            Failure: it fails.
        """
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LONGEST,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise Failure(f"{done.stdout[-6000:]}\nfailed: {' '.join(words)}")
        return done.stdout

    def runs(self) -> dict[Path, int]:
        """The runs that are there, and when each was made."""
        found = (self.folder / "results").rglob("provenance.json")
        return {path.parent: path.stat().st_mtime_ns for path in found}

    def follow(self, page: str) -> set[str]:
        """Do what a page says; the files of src and workflow that it touched."""
        touched = set()
        for language, block in blocks(self.folder, page):
            first, _, content = block.partition("\n")
            named = re.fullmatch(r"# (\S+/\S+)", first)
            if language == "sh":
                self.call("bash", "-ec", block)
            elif named:
                self._edit(self.folder / named[1], language, content)
                touched.add(named[1])
            elif language == "python":
                self.call("python", "-c", block)
        return {name for name in touched if name.startswith(("src/", "workflow/"))}

    def _edit(self, path: Path, language: str, content: str) -> None:
        known = path.read_text(encoding="utf-8") if path.exists() else ""
        try:
            text = edited(known, language, content)
        except Failure as failure:
            raise Failure(f"{path}: {failure}") from None
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def check(copy: Copy, page: str, most: int) -> str:
    """Follow a page; what it touched and made.

    Raises:
        Failure: it does not do what it says.
    """
    before = copy.runs()
    touched = copy.follow(page)
    after = copy.runs()
    if len(touched) > most:
        raise Failure(f"touches more than {most} files: {', '.join(sorted(touched))}")
    again = [str(folder) for folder, made in before.items() if after.get(folder) != made]
    if again:
        raise Failure(f"runs that were there are made again: {', '.join(again)}")
    left = copy.call("bash", "-ec", f"snakemake -n all {STUDY}")
    if "Nothing to be done" not in left:
        raise Failure(f"{left[-3000:]}\nsomething is left to do")
    copy.call("bash", "-ec", "ruff check . && ruff format --check .")
    return f"{len(touched)} files of src and workflow, {len(after) - len(before)} runs made"


def main() -> int:
    began = time.monotonic()
    passed = 0
    with tempfile.TemporaryDirectory() as place:
        copy = Copy(Path(place))
        copy.call("bash", "-ec", f"snakemake -c2 {STUDY}")
        for page, most in PAGES.items():
            try:
                print(f"ok: {page}: {check(copy, page, most)}", flush=True)
            except (Failure, subprocess.TimeoutExpired) as failure:
                print(f"{failure}\nFAILED: {page}; the pages after it are not followed")
                break
            passed += 1
    failed = len(PAGES) - passed
    print(f"{passed} passed, {failed} failed, in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
