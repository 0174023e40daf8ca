"""The workflow on a real Slurm: ``python tests/slurm/run.py [STEP...]``.

Starts a Slurm of its own (see ``cluster``), runs the study nano there in every way that users do,
interrupts it in every way that clusters do, and compares all results with a local run. Exit status
0 when every check passed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import Cluster, install, missing
from workplace import Held, Workplace, finish, stop

#: Seconds for all steps together; also what a step may take.
LIMIT = float(os.environ.get("SLURM_TEST_SECONDS", "695"))
STUDY = ("--config", "study=nano")
TARGETS = ("tables", "figures")
SITE = """\
default-resources:
  slurm_partition: gpu
{account}set-resources:
  mask:
    slurm_partition: cpu
slurm-init-seconds-before-status-checks: 7
latency-wait: 10
{more}"""
CPU_RULES = ("mask",)


class Late(BaseException):
    """The time for all steps is over; no step catches this."""


class Checks:
    """Counts checks and prints a line for each."""

    def __init__(self) -> None:
        self.passed = self.failed = 0
        self.started = time.monotonic()

    def __call__(self, fine: object, what: str, detail: object = "") -> None:
        self.passed, self.failed = self.passed + bool(fine), self.failed + (not fine)
        spent = time.monotonic() - self.started
        line = f"{'ok  ' if fine else 'FAIL'} [{spent:4.0f} s] {what}"
        print(line if fine else f"{line}: {detail}", flush=True)

    def equal(self, place: Workplace, local: Workplace, how: str) -> None:
        """Every payload is the local run's, bit by bit."""
        different = place.differences(local)
        count = len(local.payloads())
        self(not different, f"{how}: {count} files equal those of the local run", different[:6])


class Steps:
    """The steps in their order; each has a folder of its own and one cluster."""

    def __init__(self, folder: Path, check: Checks) -> None:
        self.folder, self.check = folder, check
        self.local = Workplace(folder / "local", {})

    # -- without Slurm ---------------------------------------------------------------------

    def reference(self) -> None:
        started = time.monotonic()
        status = self.local.run("snakemake", *TARGETS, "-c2", *STUDY, seconds=LIMIT)
        self.check(status == 0, "local run of study nano", self.local.tail())
        jobs = re.search(r"\d+/(\d+) jobs", text := self.local.tail(10**6))
        seconds = time.monotonic() - started
        few = jobs and int(jobs[1]) <= 25
        self.check(few, f"nano: {jobs and jobs[1]} jobs, {seconds:.0f} s locally", text[-1500:])

    # -- squeue only -----------------------------------------------------------------------

    def queue(self, cluster: Cluster) -> None:
        """Edited while jobs wait; one job cancelled, one requeued, one stopped by SIGTERM."""
        place = self.place("queue", cluster)
        scontrol = cluster.command
        scontrol("scontrol", "update", "PartitionName=gpu", "State=DOWN", check=True)
        command = ("snakemake", *TARGETS, *self.profiles(place), *STUDY)
        runs = {
            "timed out": "dense/.*seed0",
            "requeued": "dense/.*seed1",
            "cancelled": "sparse/.*lth",
            "terminated": "sparse/.*naive",
        }
        jobs: dict[str, str] = {}
        with place.hold(*runs.values()) as held, ended(place.start(*command)) as controller:
            self.wait(lambda: len(self.states(cluster, "dense", "PENDING")) == 2, "two jobs wait")
            edit(place)
            scontrol("scontrol", "update", "PartitionName=gpu", "State=UP", check=True)
            for how, pattern in runs.items():
                record = held.wait(pattern)
                name = record["key"].replace("/", "_")
                number = jobs[how] = job(self.of(cluster, record["stage"], name))
                if how == "cancelled":
                    scontrol("scancel", number, check=True)
                elif how == "requeued":
                    scontrol("scontrol", "requeue", number, check=True)
                elif how == "terminated":
                    scontrol("scancel", "--signal=TERM", number, check=True)
                    held.go_on(pattern)
                else:
                    limit = "TimeLimit=00:00:01"
                    scontrol("scontrol", "update", f"JobId={number}", limit, check=True)
            status = finish(controller, LIMIT)
        text = "squeue only: the workflow ends by itself, accounting being off"
        self.check(status == 0, text, place.tail())
        self.check.equal(
            place, self.local, "edited while waiting, cancelled, requeued, TERM, timeout"
        )
        provenance = place.provenance()
        ends = {"cancelled": "CANCELLED", "requeued": "COMPLETED", "terminated": "FAILED",
                "timed out": "TIMEOUT"}  # fmt: skip
        records = {record["JobId"]: record for record in cluster.jobs()}
        for how, number in jobs.items():
            run, last = next((r, p) for r, p in provenance.items() if re.search(runs[how], r))
            state, restarts = records[number]["JobState"], records[number]["Restarts"]
            same = last["job"] == number
            self.check(
                state == ends[how] and same == (how == "requeued") == (restarts == "1"),
                f"the {how} job " + ("came back under its id" if same else "was retried as a new one"),
                (state, restarts, number, last["job"]),
            )  # fmt: skip
            planned = 10 if run.startswith("dense") else 8
            self.check(
                last["epochs_executed"] < planned - 0.5,
                f"its run went on from what the {how} job had saved",
                f"{last['epochs_executed']} of {planned} epochs in the last attempt",
            )  # fmt: skip
        self.requests(cluster)

    def controller(self, cluster: Cluster) -> None:
        """The controller killed while a job runs; the documented command finishes the work."""
        place = self.place("controller", cluster)
        command = ("snakemake", *TARGETS, *self.profiles(place), *STUDY)
        known = {record["JobId"] for record in cluster.jobs()}
        run = "dense/.*seed0"
        with place.hold(run) as held:
            self.killed(cluster, place, command, known, held, run)
        self.check.equal(place, self.local, "after the controller was killed")

    def killed(
        self, cluster: Cluster, place: Workplace, command: tuple[str, ...], known: set[str],
        held: Held, run: str,
    ) -> None:  # fmt: skip
        with ended(place.start(*command)) as controller:
            first = held.wait(run)
            seen = place.output(
                "python", "-m", "pipeline", "watch", *TARGETS, "--once", "--study", "nano"
            )
            self.check(
                re.search(r"dense.*, \d+/10", seen) and "\x1b" not in seen,
                "watch: shows the run that a job of the cluster trains, and its epoch", seen,
            )  # fmt: skip
            os.kill(controller.pid, signal.SIGKILL)
            controller.wait(10)
        running = [r for r in self.of(cluster, "dense", "seed0") if r["JobId"] not in known]
        self.check(
            [r["JobState"] for r in running] == ["RUNNING"],
            "killed controller: its job runs on",
            running,
        )
        place.run("snakemake", "--unlock", *STUDY, seconds=60)
        with ended(place.start(*command)) as again:
            log = place.folder / "results" / "logs" / "dense" / f"{first['key']}.log"
            self.wait(
                lambda: (
                    log.exists() and "waiting for the process" in log.read_text(errors="replace")
                ),
                "the second job waits for the first",
            )
            held.go_on(run)
            status = finish(again, LIMIT)
        self.check(
            status == 0, "killed controller: unlock and the same command finish", place.tail()
        )
        self.check(
            "another process has finished this run" in log.read_text(errors="replace"),
            "the second job found the first one's results", log.read_text(errors="replace")[-300:],
        )  # fmt: skip
        record = place.provenance()[f"dense/{first['key']}"]
        self.check(
            record["job"] == running[0]["JobId"],
            "no two writers: the run is the first job's",
            record["job"],
        )

    def arrays(self, cluster: Cluster) -> None:
        """Sparse runs again: as a job array, on shards of GPUs."""
        place = self.place("arrays", cluster)
        shutil.copytree(self.local.folder / "results", place.folder / "results")
        shutil.copytree(self.local.folder / ".snakemake", place.folder / ".snakemake")
        shutil.rmtree(place.folder / "results" / "sparse")
        known = {record["JobId"] for record in cluster.jobs()}
        status = place.run(
            "snakemake", "table_nano", *self.profiles(place, more="slurm-array-jobs: sparse\n"),
            "--set-resources", "sparse:gpu=0", "sparse:gres=shard:1", *STUDY, seconds=LIMIT,
        )  # fmt: skip
        self.check(status == 0, "job array on shards", place.tail())
        records = [record for record in cluster.jobs() if record["JobId"] not in known]
        arrays = [
            r for r in records if "ArrayTaskId" in r and "shard:1" in r.get("TresPerNode", "")
        ]
        self.check(
            len(arrays) == 3 and not any("gpu" in r.get("TresPerJob", "") for r in records),
            "three tasks of one array, a shard each and no whole GPU", records,
        )  # fmt: skip
        self.check.equal(place, self.local, "job array on shards")

    def pilot(self, cluster: Cluster) -> None:
        """All in one allocation, side by side; interrupted once as before the time limit."""
        place = self.place("pilot", cluster)
        frozen = place.output("python", "-m", "pipeline", "freeze", "--study", "nano").strip()
        environment = {"PIPELINE_CONFIG": frozen, "PIPELINE_PER_GPU": "2"}
        place.run(
            "sbatch", "--gpus=2", "--cpus-per-task=4", "--mem=8000", "--time=10", "slurm/pilot.sbatch",
            *TARGETS, *STUDY, seconds=30, **environment,
        )  # fmt: skip
        edit(place)
        mine = [r for r in cluster.jobs() if r["JobName"] == "pipeline-pilot"]
        self.check(mine, "pilot: submitted", place.tail())
        number = mine[0]["JobId"]
        with place.hold("dense/.*seed0") as held:
            held.wait("dense/.*seed0")
            cluster.command("scancel", "--signal=USR1", "--batch", number, check=True)
            time.sleep(1)

        def pilot() -> dict[str, str]:
            return next(r for r in cluster.jobs() if r["JobId"] == number)

        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
        self.wait(lambda: pilot()["Restarts"] == "1", "the pilot is queued again", 90)
        self.wait(lambda: pilot()["JobState"] in ends, "the pilot ends", LIMIT)
        log = (place.folder / f"pilot-{number}.log").read_text(errors="replace")
        self.check(
            pilot()["JobState"] == "COMPLETED",
            "pilot: saved, requeued itself, finished",
            log[-1500:],
        )
        self.check.equal(place, self.local, "through the pilot")
        provenance = place.provenance()
        slots = {r["gpu_slot"] for r in provenance.values() if "gpu_slot" in r}
        self.check(
            {s.split(".")[0] for s in slots} == {"0", "1"} and any(s.endswith(".1") for s in slots),
            "pilot: both GPUs used, two trainings side by side on one", slots,
        )  # fmt: skip
        record = next(r for run, r in provenance.items() if re.search("dense/.*seed0", run))
        self.check(
            record["epochs_executed"] < 9.5, "pilot: the run went on from its saved state", record
        )

    # -- with accounting -------------------------------------------------------------------

    def accounting(self, cluster: Cluster) -> None:
        """The whole study with sacct, an account and a GPU type."""
        place = self.place("accounting", cluster)
        more = "slurm-status-command: sacct\n"
        site = self.profiles(place, account="lab", more=more)
        status = place.run("snakemake", *TARGETS, *site, *STUDY, seconds=LIMIT)
        self.check(
            status == 0, "with accounting, an account and a GPU type: finished", place.tail()
        )
        self.check.equal(place, self.local, "with accounting")
        rows = [
            line.split("|")
            for line in cluster.command(
                "sacct",
                "-X",
                "-n",
                "-P",
                "-S",
                "now-1hours",
                "-o",
                "Comment,ReqTRES,Account,State,Partition",
            ).splitlines()
        ]
        jobs = [(row[0].removeprefix("rule_").split("_wildcards")[0], row) for row in rows]
        wrong = [
            row for rule, row in jobs
            if ("gres/gpu:pretended=1" in row[1]) == (rule in CPU_RULES) or row[2] != "lab"
        ]  # fmt: skip
        self.check(
            len(jobs) == 11 and not wrong,
            f"sacct: {len(jobs)} jobs, GPUs asked for by all but masks",
            wrong,
        )
        partitions = {row[4] for rule, row in jobs if rule in CPU_RULES}
        self.check(partitions == {"cpu"}, "sacct: masks ran in the CPU partition", partitions)

    # -- helpers ---------------------------------------------------------------------------

    def place(self, name: str, cluster: Cluster) -> Workplace:
        """A copy of the workflow, used as documented for sites that need SLURM_CONF: this is one."""
        found, folder = cluster.environment, self.folder / name
        path = f"{folder}/slurm/with-slurm-conf:{found['PATH']}"
        environment = {"PIPELINE_SLURM_CONF": found["SLURM_CONF"], "PATH": path}
        return Workplace(folder, found | environment | {"PIPELINE_SAVE_SECONDS": "3600"})

    @staticmethod
    def profiles(place: Workplace, account: str = "", more: str = "") -> tuple[str, ...]:
        """The shipped profile, and a site's own beside it."""
        folder = place.folder / "my-site"
        folder.mkdir(exist_ok=True)
        text = ""
        if account:
            text = f"  slurm_account: {account}\n  gpu_model: pretended\n"
        site = SITE.format(account=text, more=more)
        if account:
            site = site.replace(
                "slurm_partition: cpu\n", "slurm_partition: cpu\n    gpu_model: \"''\"\n"
            )
        (folder / "profile.yaml").write_text(site)
        return ("--profile", "slurm", "--profile", "my-site")

    @staticmethod
    def of(cluster: Cluster, rule: str, pattern: str = "") -> list[dict[str, str]]:
        """Slurm's records of a rule's jobs, oldest first."""
        found = [
            r for r in cluster.jobs() if r.get("Comment", "").startswith(f"rule_{rule}_wildcards")
        ]
        return [r for r in found if re.search(pattern, r["Comment"])]

    def states(self, cluster: Cluster, rule: str, state: str) -> list[dict[str, str]]:
        return [r for r in self.of(cluster, rule) if r["JobState"] == state]

    def requests(self, cluster: Cluster) -> None:
        """From the controller's records: who asked for GPUs."""
        wrong, count = [], 0
        for record in cluster.jobs():
            found = re.match(r"rule_(\w+?)_wildcards", record.get("Comment", ""))
            if found:
                count += 1
                asked = "gpu:1" in record.get("TresPerJob", "")
                if asked == (found[1] in CPU_RULES):
                    wrong.append((record["Comment"], record.get("TresPerJob")))
        self.check(
            count and not wrong, f"scontrol: {count} jobs, GPUs asked for by all but masks", wrong
        )

    @staticmethod
    def wait(ready: Callable[[], object], what: str, seconds: float = 400) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if ready():
                return
            time.sleep(0.1)
        raise TimeoutError(f"not seen in {seconds:.0f} s: {what}")


def job(records: list[dict[str, str]]) -> str:
    """Id of the newest of some jobs."""
    return max((record["JobId"] for record in records), key=int)


def edit(place: Workplace) -> None:
    """Change study and recipes on disk, as somebody does while jobs wait."""
    for name, old, new in (
        ("recipes.yaml", "epochs: 10", "epochs: 3"),
        ("studies/nano.yaml", "sparsities: [0.50]", "sparsities: [0.60]"),
    ):
        path = place.folder / "config" / name
        text = path.read_text()
        assert old in text, (name, old)
        path.write_text(text.replace(old, new))


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A controller that does not outlive the block."""
    try:
        yield process
    finally:
        stop(process)


def main(wanted: list[str]) -> int:
    check = Checks()
    started = time.monotonic()

    def late(signum: int, frame: object) -> None:
        raise Late(f"the steps took more than {LIMIT:.0f} s")

    signal.signal(signal.SIGALRM, late)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.alarm(int(LIMIT))
    with tempfile.TemporaryDirectory(prefix="slurm-test-") as name:
        folder = Path(name)
        try:
            if missing():
                install()
            steps = Steps(folder, check)
            steps.reference()
            for accounting, names in (
                (False, ("queue", "controller", "pilot", "arrays")),
                (True, ("accounting",)),
            ):
                chosen = [n for n in names if not wanted or n in wanted]
                if not chosen:
                    continue
                with Cluster(folder / f"slurm-{accounting}", accounting=accounting) as cluster:
                    check(
                        True,
                        "Slurm is up" + (", with accounting" if accounting else ", squeue only"),
                    )
                    for step in chosen:
                        attempt(getattr(steps, step), cluster, check)
        except (Late, Exception) as error:
            check(False, "all steps are done", f"{type(error).__name__}: {error}")
        finally:
            signal.alarm(0)
    spent = time.monotonic() - started
    print(f"all steps took {spent:.0f} s")
    print(f"{check.passed} passed, {check.failed} failed")
    return int(check.failed > 0 or not check.passed)


def attempt(step: Callable[[Cluster], None], cluster: Cluster, check: Checks) -> None:
    """A step that breaks off is a failed check; the others go on."""
    try:
        step(cluster)
    except Exception as error:
        check(False, step.__name__, f"{type(error).__name__}: {error}")
    finally:
        cluster.command("scontrol", "update", "PartitionName=gpu", "State=UP")
        cluster.clear()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
