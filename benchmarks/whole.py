"""Whole studies by this code beside an earlier commit's, in turn on the same machine.

``python benchmarks/whole.py --commit 6b8a0a6`` runs the commit's own ``demo`` and ``tiny`` with
both, each in a fresh copy of its tree, and prints wall-clock and processor seconds with their ratios.
Every process that the workflow leaves behind is waited for and counted.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: processes that lose their parent become ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default="6b8a0a6")
    parser.add_argument("--studies", nargs="+", default=["demo", "tiny"])
    parser.add_argument("--cores", default="2")
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    print(f"| study of {args.commit} | by | wall-clock seconds | processor seconds |")
    print("| --- | --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        then, now = Path(folder, "then"), Path(folder, "now")
        for tree, commit in ((then, args.commit), (now, "HEAD")):
            _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            for study in args.studies:
                own = f"config/studies/{study}.yaml"
                (now / own).write_bytes(_git("show", f"{args.commit}:{own}"))
                before, after = (_run(tree, study, args.cores) for tree in (then, now))
                for by, (wall, used) in ((args.commit, before), ("now", after)):
                    print(f"| {study} | {by} | {wall:.0f} | {used:.0f} |")
                ratios = (last / first for first, last in zip(before, after, strict=True))
                print(
                    f"| {study} | ratio | {' | '.join(f'{each:.2f}' for each in ratios)} |",
                    flush=True,
                )
        finally:
            for tree in (then, now):
                _git("worktree", "remove", "--force", str(tree))


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout


def _run(tree: Path, study: str, cores: str) -> tuple[float, float]:
    """Wall-clock and processor seconds of a study from nothing to its end."""
    started, used = time.monotonic(), _used()
    call = ["snakemake", f"-c{cores}", "--config", f"study={study}"]
    env = os.environ | {"PYTHONPATH": str(tree / "src")}
    done = subprocess.run(call, cwd=tree, env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)  # fmt: skip
    wall = time.monotonic() - started
    if done.returncode:
        sys.exit(f"{tree}: {' '.join(call)}: exit status {done.returncode}\n{done.stdout[-2000:]}")
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return wall, _used() - used


def _used() -> float:
    """Processor seconds of all processes that were waited for."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


if __name__ == "__main__":
    main()
