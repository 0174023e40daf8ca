"""Follow the how-to pages that extend the program on a copy of the tree, and run what they add.

Blocks of code whose first line names a file are written there, ``diff`` blocks are applied, YAML is
merged into the file that it names, and commands are run, page after page in one copy, so that what
one page has made serves the next. Each page may touch as many files of src and workflow as it says,
and nothing that was there may run again for it. Status 1 at the first thing that fails.
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

import yaml

ROOT = Path(__file__).resolve().parents[2]
HOW_TO = ROOT / "docs" / "how-to"
#: Headings of pages, and the most files of src and workflow that each may touch.
PAGES = {
    "stage.md": 3,
    "table.md#A table of a new kind": 2,
    "table.md#A figure of a new kind": 2,
    "matcher.md": 2,
    "model.md": 2,
    "method.md": 0,
}
STUDY = "nano"


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block of a page, or of one of its sections."""
    name, _, section = page.partition("#")
    text = (HOW_TO / name).read_text(encoding="utf-8")
    if section:
        text = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def merged(before: object, added: object) -> object:
    """Mappings merged at every depth."""
    if not (isinstance(before, dict) and isinstance(added, dict)):
        return added
    return before | {key: merged(before.get(key), value) for key, value in added.items()}


class Copy:
    """A copy of the tree as git has it, with results of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.split("\0")  # fmt: skip
        for name in filter(None, tracked):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        self.environment = os.environ | {"PYTHONPATH": str(folder / "src")}

    def call(self, command: str) -> str:
        """What a command of the shell says; the end of all where it fails."""
        done = subprocess.run(
            ["bash", "-ec", command], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{done.stdout[-6000:]}\nfailed: {command}")
        return done.stdout

    def follow(self, page: str) -> set[str]:
        """Do what a page says; the files of src and workflow that it touched."""
        touched = set()
        for language, block in blocks(page):
            if language == "sh":
                self.call(block)
                continue
            first, _, content = block.partition("\n")
            name = first.removeprefix("# ").strip()
            path = self.folder / name
            if language == "diff":
                self._change(path, content)
            elif language == "yaml":
                known = yaml.safe_load(path.read_text()) if path.exists() else {}
                path.write_text(
                    yaml.safe_dump(merged(known, yaml.safe_load(block)), sort_keys=False)
                )
            elif first.startswith("# ") and "/" in name:
                assert not path.exists(), f"{page}: {name} is there already"
                path.write_text(content)
            else:
                continue  # an illustration
            if name.startswith(("src/", "workflow/")):
                touched.add(name)
        return touched

    @staticmethod
    def _change(path: Path, change: str) -> None:
        """Put the lines with ``+``, and those with a space, in place of those with ``-``."""
        old = "".join(f"{line[1:]}\n" for line in change.splitlines() if line[0] in "- ")
        new = "".join(f"{line[1:]}\n" for line in change.splitlines() if line[0] in "+ ")
        text = path.read_text()
        assert text.count(old) == 1, f"{path}: {old!r} stands there {text.count(old)} times"
        path.write_text(text.replace(old, new))


def main() -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        copy = Copy(Path(place))
        copy.call(f"snakemake -c2 --config study={STUDY}")
        for page, most in PAGES.items():
            touched = copy.follow(page)
            print(f"{page}: {len(touched)} files: {', '.join(sorted(touched))}", flush=True)
            if len(touched) > most:
                sys.exit(f"{page}: touches more than {most} files of src and workflow")
            again = copy.call(f"snakemake -n all --config study={STUDY}")
            if "Nothing to be done" not in again:
                sys.exit(f"{again[-3000:]}\n{page}: makes runs that were there run again")
    print(f"{len(PAGES)} passed, 0 failed")
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)


main()
