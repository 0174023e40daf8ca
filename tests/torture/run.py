"""Kill a whole workflow again and again, go on each time, and compare: ``python tests/torture/run.py``.

Study ``nano`` runs once undisturbed and then with SIGKILL to its whole process group at random
moments, each time continued by the same command. Shown at the end: every table, metric and
weight is equal bit for bit, whatever else differed (one core or two, the folder, the locale); no
half-written file ever stood under a result's name; each kill cost at most one snapshot interval
per running job. Finished early, the study starts anew in an empty folder.

TORTURE_KILLS    how often with each seed (50)
TORTURE_SEED     of the moments: one, or several with commas between (drawn, and printed)
TORTURE_SECONDS  time limit for each seed (3600)

The run whose figure stands in docs/explanation/trust.md, 500 kills over ten seeds:
TORTURE_KILLS=50 TORTURE_SEED=0,1,2,3,4,5,6,7,8,9 make torture
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "slurm"))

import ledger  # noqa: E402
from workplace import Workplace, finish, stop  # noqa: E402

from pipeline.machine.warm import SERVE  # noqa: E402

INTERVAL = 0.5
STUDY = ("--config", "study=nano")
#: Pages that say when and how long.
NOT_COMPARED = ("nano/archive.html", "nano/report.html", "nano/about/provenance")
#: Another language, hash order and time zone for the undisturbed run.
ELSEWHERE = {"LC_ALL": "C", "PYTHONHASHSEED": "7", "TZ": "Pacific/Chatham"}
HERE_AND_NOW = {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "TZ": "UTC"}


class Failure(Exception):
    """A law did not hold."""


class Place(Workplace):
    """A copy of the workflow whose trainings keep a ledger."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.ledger = folder.with_name(f"{folder.name}.ledger")
        super().__init__(
            folder,
            variables
            | {
                "PYTHONPATH": f"{HERE / 'recorder'}:{os.environ.get('PYTHONPATH', '')}".rstrip(":"),
                "PIPELINE_TORTURE_LEDGER": str(self.ledger),
                "PIPELINE_SAVE_SECONDS": str(INTERVAL),
            },
        )

    def compared(self) -> dict[str, str]:
        """Digests of what must be equal, tables, figures, metrics and weights."""
        found = self.payloads()
        return {k: v for k, v in found.items() if not k.startswith(NOT_COMPARED)}

    def unfinished(self) -> list[str]:
        """Hidden files beside results: what a writer left that was killed."""
        results = self.folder / "results"
        names = (path.relative_to(results) for path in results.rglob(".*") if path.is_file())
        return sorted(
            str(name) for name in names
            if not name.parts[0].startswith(".") and name.name != ".lock"
        )  # fmt: skip

    def trained(self) -> dict[tuple[str, int], list[ledger.Attempt]]:
        return ledger.read(self.ledger, self.folder / "results")

    def anew(self) -> None:
        """Empty results, and no memory of what was run."""
        shutil.rmtree(self.folder / "results")
        shutil.rmtree(self.folder / ".snakemake")
        self.ledger.unlink()


def jobs(group: int) -> list[str]:
    """The runs that processes of a group are working on."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
            own = int((path / "stat").read_text().rpartition(")")[2].split()[2]) == group
        except (OSError, ValueError):
            continue
        script = any(word.endswith("scripts/run.py") for word in words[1:2])
        if own and script and words[2:3] != [SERVE]:
            found.append("/".join(words[2:4]))
    return sorted(found)


def survivors(folder: Path) -> list[int]:
    """Processes that still work in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cwd").readlink().is_relative_to(folder):
                found.append(int(path.name))
        except OSError:
            continue
    return found


class Torture:
    """The tortured copy beside the undisturbed one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.draws = folder, random.Random()
        self.running: subprocess.Popen[bytes] | None = None
        self.place = Place(folder / "tortured", HERE_AND_NOW)
        self.expected: dict[str, str] = {}
        self.epochs = self.took = 0.0
        # Over all rounds and seeds: kills, jobs killed, epochs lost, and the most that they may be.
        self.kills = self.hit = 0
        self.lost = self.allowed = 0.0
        self._round_hit = 0

    def reference(self) -> None:
        """One undisturbed run on one core, elsewhere."""
        place = Place(self.folder / "undisturbed, elsewhere", ELSEWHERE)
        began = time.monotonic()
        if place.run("snakemake", "-c1", *STUDY, seconds=900):
            raise Failure(f"the undisturbed run failed: {place.tail()}")
        self.took = time.monotonic() - began
        self.expected, self.epochs = place.compared(), ledger.epochs(place.trained())
        print(
            f"undisturbed, on one core: {len(self.expected)} files, {self.epochs:.1f} epochs, "
            f"{self.took:.0f} s",
            flush=True,
        )

    def attempt(self, kill: bool) -> bool:
        """Call the workflow, and kill it at a random moment; whether it ended by itself."""
        self.running = process = self.place.start("snakemake", "-c2", *STUDY)
        if not kill:
            self._ended(finish(process, 900))
            return True
        began = time.monotonic()
        # One kill in five while Snakemake itself starts, the others from its first job on.
        early = self.draws.random() < 0.2
        moment = self.draws.uniform(0, 3.0 if early else self.took / 5)
        while not early and not jobs(process.pid) and process.poll() is None:
            if time.monotonic() - began > 300:
                raise Failure(f"no job has begun: {self.place.tail()}")
            time.sleep(0.05)
        try:
            self._ended(process.wait(moment))
            return True
        except subprocess.TimeoutExpired:
            pass
        hit = jobs(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._gone()
        self.kills += 1
        self.hit += len(hit)
        self._round_hit += len(hit)
        there = self._whole()
        print(
            f"kill {self.kills}: after {time.monotonic() - began:4.1f} s, {there} results there, "
            f"killed: {', '.join(hit) or 'no job'}",
            flush=True,
        )
        return False

    def _ended(self, status: int) -> None:
        if status:
            raise Failure(f"the workflow ended with status {status}: {self.place.tail(4000)}")

    def _gone(self) -> None:
        """Nothing that the workflow had started outlives the kill of its group."""
        end = time.monotonic() + 10
        while left := survivors(self.place.folder):
            if time.monotonic() > end:
                for number in left:
                    os.kill(number, signal.SIGKILL)
                raise Failure(f"processes outlived the kill of their group: {left}")
            time.sleep(0.02)

    def _whole(self) -> int:
        """Every file under a result's name is the whole result; how many there are."""
        found = self.place.compared()
        wrong = [name for name, digest in found.items() if self.expected.get(name) != digest]
        if wrong:
            raise Failure(f"after a kill, these are not what they should be: {wrong}")
        return len(found)

    def compare(self) -> None:
        """The end of a round: the same files with the same bytes, and what the kills cost."""
        found = self.place.compared()
        if left := self.place.unfinished():
            raise Failure(f"half-written files that no start has cleared: {left[:9]}")
        wrong = [k for k in sorted(found | self.expected) if found.get(k) != self.expected.get(k)]
        if wrong:
            raise Failure(f"{len(wrong)} results differ from the undisturbed run's: {wrong[:9]}")
        trainings = self.place.trained()
        repeated = ledger.losses(trainings)
        for loss in repeated:
            if loss.steps < 0:
                raise Failure(f"{loss.before.run}: steps were left out")
            if loss.span >= INTERVAL:
                raise Failure(
                    f"{loss.before.run}: {loss.epochs:.2f} epochs, {loss.span:.2f} s, done twice"
                )
        executed, lost = ledger.epochs(trainings), sum(loss.epochs for loss in repeated)
        allowed = self._round_hit * ledger.in_one_interval(trainings, INTERVAL)
        if abs(executed - self.epochs - lost) > 1e-6 or lost > allowed + 1e-6:
            raise Failure(
                f"{executed:.2f} epochs instead of {self.epochs:.2f}; allowed {allowed:.2f} more"
            )
        print(
            f"equal: {len(found)} files; {executed:.2f} epochs executed, {lost:.2f} of them again "
            f"(at most {allowed:.2f} allowed: {self._round_hit} jobs killed)",
            flush=True,
        )
        self.lost, self.allowed = self.lost + lost, self.allowed + allowed
        self._round_hit = 0

    def run(self, kills: int, seed: int) -> None:
        """So many kills at moments of a seed, to the end of the study."""
        self.draws = random.Random(seed)
        end = self.kills + kills
        while self.kills < end:
            if self.attempt(kill=True):
                self.compare()
                self.place.anew()
        self.attempt(kill=False)
        self.compare()
        self.place.log.unlink()
        self._ended(self.place.run("snakemake", "-n", *STUDY, seconds=120))
        if "Nothing to be done" not in self.place.tail():
            raise Failure(f"after the end there is still something to be done: {self.place.tail()}")

    def end(self) -> None:
        """Leave no process behind."""
        if self.running:
            stop(self.running)


def main() -> int:
    kills = int(os.environ.get("TORTURE_KILLS", "50"))
    drawn = str(random.SystemRandom().randrange(10**6))
    seeds = [int(word) for word in (os.environ.get("TORTURE_SEED") or drawn).split(",")]
    limit = int(os.environ.get("TORTURE_SECONDS", "3600"))

    def late(signum: int, frame: object) -> None:
        raise Failure(f"took more than {limit} s")

    signal.signal(signal.SIGALRM, late)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True) as name:
        torture = Torture(Path(name).resolve())
        try:
            signal.alarm(limit)
            torture.reference()
            for seed in seeds:
                signal.alarm(limit)
                print(f"{kills} kills at moments of seed {seed}, snapshots every {INTERVAL} s")
                torture.run(kills, seed)
                torture.place.anew()
        except Failure as failure:
            print(f"FAILED: {failure}", file=sys.stderr)
            return 1
        finally:
            signal.alarm(0)
            torture.end()
    print(
        f"{torture.kills} kills over {len(seeds)} seeds hit {torture.hit} running jobs and cost "
        f"{torture.lost:.2f} epochs (at most {torture.allowed:.2f}); all results equal bit for bit; "
        f"{time.monotonic() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
