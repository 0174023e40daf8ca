"""Study ``cifar10-cells`` in miniature, as it runs on lent GPUs: ``python tests/cells/run.py``.

The same study on digits (``cells-digits``), in slices of seconds: one machine makes what all cells
share, two others each go on with cells of their own from a copy of its results, and the workflow at
home takes over what they bring and makes the rest. Shown at the end: nothing is left to do, nine
cells of three pairs stand beside the published ones, and every number is that of a run which was
taken over or made here.

CELLS_MINUTES    length of a slice (0.5)
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "slurm"))

from workplace import Workplace  # noqa: E402

MINUTES = os.environ.get("CELLS_MINUTES", "0.5")
STUDY = "study=cells-digits"
AGAIN = 75
#: Seconds that a slice may take beyond its minutes, for starting and saving.
SLACK = 90
LONGEST = 1800


class Failure(Exception):
    """A step did not do what it is there for."""


def check(fine: bool, what: str, place: Workplace) -> None:
    if not fine:
        raise Failure(f"{what}\n{place.tail(3000)}")
    print(f"ok: {what}", flush=True)


def slices(place: Workplace, *targets: str, most: int = 100) -> tuple[int, int]:
    """Call the slice until its targets are there, ``most`` times; how often, and the last status."""
    words = ("node/slice.sh", MINUTES, *targets, "--cores", "2", "--config", STUDY)
    calls, status = 0, AGAIN
    while status == AGAIN and calls < most:
        status = place.run(*words, seconds=60 * float(MINUTES) + SLACK, PIPELINE_SAVE_SECONDS="1")
        calls += 1
    return calls, status


def sparse(home: Workplace, sparsity: str) -> list[str]:
    """Paths of the sparse runs at one sparsity, as targets."""
    code = (
        "from pathlib import Path\n"
        "from pipeline.study.config import read\n"
        f"study = read(Path('.'), {{'study': '{STUDY.partition('=')[2]}'}})\n"
        f"for cell in study.experiments['cells'].cells(({sparsity},)):\n"
        "    print(f'results/{cell.run.path()}')\n"
    )
    return home.output(sys.executable, "-c", code).split()


def brought_home(home: Workplace, machines: list[Workplace]) -> None:
    for number, machine in enumerate(machines, 1):
        shutil.copytree(machine.folder / "results", home.folder / "slices" / str(number))


def main() -> None:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        home, first, second, third = (
            Workplace(root / name, {}) for name in ("home", "first", "second", "third")
        )

        calls, status = slices(first, "figure_masks", "figure_matching")
        check(status == 0, f"machine 1 made what all cells share, in {calls} slices", first)
        for machine, sparsity in ((second, "0.90"), (third, "0.95")):
            shutil.copytree(first.folder / "results", machine.folder / "results", symlinks=True)
            targets = sparse(home, sparsity)
            calls, status = slices(machine, *targets, most=1)
            check(
                status in (0, AGAIN), f"a slice of {len(targets)} runs at S = {sparsity}", machine
            )

        brought_home(home, [second, third])
        whole = ("--config", STUDY, "slices=slices")
        status = home.run("snakemake", "-c2", *whole, seconds=LONGEST)
        said = home.log.read_text(errors="replace")
        taken = [line for line in said.splitlines() if line.startswith("taken over from slices")]
        check(status == 0 and bool(taken), f"at home: {taken[0] if taken else 'nothing'}", home)
        check(" 0 runs" not in taken[0], "runs of the slices were taken over", home)
        again = home.output("snakemake", "-n", "-c2", "--config", STUDY)
        check("Nothing to be done" in again, "nothing is left to do", home)

        page = home.folder / "evidence"
        study = STUDY.partition("=")[2]
        home.output(sys.executable, "-m", "pipeline", "evidence", str(page), "--study", study)
        with (page / "table_cells.comparison.csv").open(newline="") as handle:
            cells = list(csv.DictReader(handle))
        fine = len(cells) == 9 and all(
            float(cell["ours_n"]) == 3 and float(cell["published_mean"]) > 80 for cell in cells
        )
        check(fine, "nine cells of three pairs stand beside the published ones", home)
        fine = "runs are missing" not in (page / "README.md").read_text()
        check(fine, "the page of evidence lacks nothing", home)
    print(f"done in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"failed: {failure}")
