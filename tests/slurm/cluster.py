"""A Slurm of its own on one machine: private folder and ports, pretended CPUs and GPUs.

``Cluster`` starts munged, slurmctld and slurmd, with accounting also MariaDB and slurmdbd, and stops
whatever it started, also when a step of the start fails.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

PACKAGES = (
    "slurmctld", "slurmd", "slurm-client", "munge", "slurmdbd", "slurm-wlm-mysql-plugin",
    "mariadb-server",
)  # fmt: skip
PROGRAMS = (
    "slurmctld", "slurmd", "sbatch", "sacct", "munged", "slurmdbd", "mariadbd", "mariadb-install-db",
)  # fmt: skip
SBIN = "/usr/sbin:/sbin:/usr/local/sbin"
CPUS, GPUS, SHARDS, MEMORY_MB = 16, 4, 8, 64000


class NotStarted(Exception):
    """A daemon did not come up in time; the text holds the end of its log."""


def missing() -> list[str]:
    """Programs of Slurm and MariaDB that this machine lacks."""
    path = f"{os.environ['PATH']}:{SBIN}"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def install() -> None:
    """Install the Debian packages.

    Raises:
        NotStarted: no rights to, or a package cannot be had.
    """
    if os.geteuid() != 0:
        raise NotStarted(f"as root: apt-get update && apt-get install {' '.join(PACKAGES)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    options = ["--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=60"]
    # Debian starts what it installs, unless this file says no: the test starts its own.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for command in (["apt-get", "update"], ["apt-get", "install", *options, *PACKAGES]):
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=300, check=False
            )
            if done.returncode:
                raise NotStarted(f"{' '.join(command)}: {done.stderr[-500:]}")
    finally:
        if ours:
            policy.unlink()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Cluster:
    """One controller and one node named like this host; a context that stops it all at the end."""

    def __init__(self, folder: Path, *, accounting: bool) -> None:
        self.folder, self.accounting = folder, accounting
        self.user, self.host = getpass.getuser(), socket.gethostname().split(".")[0]
        self._daemons: list[tuple[str, subprocess.Popen[bytes]]] = []
        ports = free_ports(4)
        self._controller, self._node, self._database, self._mysql = ports
        for name in ("etc", "log", "state", "spool", "gpus", "munge"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which Slurm's commands find this cluster."""
        path = f"{os.environ['PATH']}:{SBIN}"
        return {"SLURM_CONF": str(self.folder / "etc" / "slurm.conf"), "PATH": path}

    def __enter__(self) -> Self:
        try:
            self._start_munge()
            if self.accounting:
                self._start_database()
            self._write_configuration()
            self._start("slurmctld", ["slurmctld", "-D"])
            self._start("slurmd", ["slurmd", "-D", "-N", self.host])
            self._until("slurmctld", lambda: "idle" in self.command("sinfo", "-h", "-o", "%T"))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        self.stop()

    def command(self, *words: str, check: bool = False) -> str:
        """Standard output of one of Slurm's commands, run against this cluster."""
        done = subprocess.run(
            words, env=os.environ | self.environment, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """The controller's record of every job, running or ended."""
        records = []
        for line in self.command("scontrol", "show", "job", "-o", "-d").splitlines():
            pairs = (word.partition("=") for word in line.split())
            records.append({name: value for name, sep, value in pairs if sep})
        return [record for record in records if "JobId" in record]

    # -- start and stop --------------------------------------------------------------------

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            daemon = subprocess.Popen(
                command, env=os.environ | self.environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._daemons.append((name, daemon))

    def _until(self, name: str, ready: Callable[[], object], seconds: float = 40) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            dead = [n for n, daemon in self._daemons if daemon.poll() is not None]
            if dead:
                raise NotStarted(f"{dead[0]} ended: {self._log(dead[0])}")
            if ready():
                return
            time.sleep(0.2)
        raise NotStarted(f"{name} is not up after {seconds:.0f} s: {self._log(name)}")

    def _log(self, name: str) -> str:
        texts = [p.read_text(errors="replace") for p in (self.folder / "log").glob(f"{name}*")]
        return "\n".join(texts)[-1500:]

    def stop(self) -> None:
        """End all jobs, then all daemons, the last started first, and what jobs left behind."""
        if any(name == "slurmd" for name, _ in self._daemons):
            self.clear()
        for _, daemon in reversed(self._daemons):
            _end(daemon)
        self._daemons.clear()
        for process in self._left():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _left(self) -> list[int]:
        """Processes that carry this cluster's own configuration in their environment."""
        mark = f"SLURM_CONF={self.folder / 'etc' / 'slurm.conf'}".encode()  # or PIPELINE_SLURM_CONF
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if any(entry.endswith(mark) for entry in path.read_bytes().split(b"\0")):
                    found.append(int(path.parent.name))
        return found

    def clear(self) -> None:
        """Cancel all jobs and wait until they are gone."""
        self.command("scancel", "--user", self.user)
        end = time.monotonic() + 20
        while self.command("squeue", "-h") and time.monotonic() < end:
            time.sleep(0.3)

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        folder.chmod(0o711)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        # --force: the folders above may be writable by others, as those of temporary files are
        self._start(
            "munged",
            [
                "munged", "--foreground", "--force", f"--key-file={key}",
                f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}",
                f"--log-file={self.folder / 'log' / 'munged.log'}",
                f"--seed-file={folder / 'seed'}", "--num-threads=2",
            ],
        )  # fmt: skip
        self._until("munged", (folder / "socket").exists)

    def _start_database(self) -> None:
        data, socket_path = self.folder / "mysql", self.folder / "mysql.socket"
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--user={self.user}",
             "--auth-root-authentication-method=normal", "--skip-test-db"],
            env=os.environ | self.environment, capture_output=True, timeout=90, check=True,
        )  # fmt: skip
        self._start(
            "mariadbd",
            [
                "mariadbd", "--no-defaults", f"--datadir={data}", f"--user={self.user}",
                f"--socket={socket_path}", f"--port={self._mysql}", "--bind-address=127.0.0.1",
                f"--pid-file={self.folder / 'mysql.pid'}", "--innodb-buffer-pool-size=64M",
                "--innodb-flush-log-at-trx-commit=0",
            ],
        )  # fmt: skip

        def sql(text: str) -> bool:
            command = ["mariadb", "--no-defaults", f"--socket={socket_path}", "-u", "root", "-e"]
            environment = os.environ | self.environment
            done = subprocess.run(
                [*command, text], env=environment, capture_output=True, check=False
            )
            return done.returncode == 0

        self._until("mariadbd", lambda: sql("select 1"))
        sql("create user slurm@'127.0.0.1' identified by 'slurm'")
        sql("create user slurm@localhost identified by 'slurm'")
        sql("grant all on *.* to slurm@'127.0.0.1'; grant all on *.* to slurm@localhost")
        path = self.folder / "etc" / "slurmdbd.conf"
        path.write_text(
            f"AuthType=auth/munge\nAuthInfo=socket={self.folder}/munge/socket\n"
            f"DbdHost=localhost\nDbdAddr=127.0.0.1\nDbdPort={self._database}\n"
            f"SlurmUser={self.user}\nLogFile={self.folder}/log/slurmdbd.log\n"
            f"PidFile={self.folder}/slurmdbd.pid\nStorageType=accounting_storage/mysql\n"
            f"StorageHost=127.0.0.1\nStoragePort={self._mysql}\nStorageUser=slurm\n"
            "StoragePass=slurm\nStorageLoc=slurm_acct_db\n"
        )
        path.chmod(0o600)
        self._write_configuration()
        self._start("slurmdbd", ["slurmdbd", "-D"])
        self._until("slurmdbd", lambda: "Cluster" in self.command("sacctmgr", "show", "cluster"))
        self.command("sacctmgr", "-i", "add", "cluster", "test", check=True)
        self.command("sacctmgr", "-i", "add", "account", "lab", "cluster=test", check=True)
        self.command(
            "sacctmgr", "-i", "add", "user", self.user, "account=lab", "cluster=test", check=True
        )

    def _write_configuration(self) -> None:
        folder = self.folder
        # Slurm tells jobs of their GPUs (CUDA_VISIBLE_DEVICES) only where these are devices.
        files = f"/dev/tty[1-{GPUS}]"
        if not all(Path(f"/dev/tty{index + 1}").exists() for index in range(GPUS)):
            files = f"{folder}/gpus/gpu[0-{GPUS - 1}]"
            for index in range(GPUS):
                null = os.makedev(1, 3)
                os.mknod(folder / "gpus" / f"gpu{index}", stat.S_IFCHR | 0o600, null)
        (folder / "etc" / "gres.conf").write_text(
            f"AutoDetect=off\nName=gpu Type=pretended File={files} Flags=nvidia_gpu_env\n"
            f"Name=shard Count={SHARDS}\n"
        )
        # A controller that forgets nothing while the test runs, requeues without the two minutes
        # that a job's old credentials live, and starts jobs as soon as they are ready.
        lines = [
            "ClusterName=test",
            f"SlurmctldHost={self.host}(127.0.0.1)",
            f"SlurmUser={self.user}",
            f"SlurmdUser={self.user}",
            f"SlurmctldPort={self._controller}",
            f"SlurmdPort={self._node}",
            "AuthType=auth/munge",
            "CredType=cred/munge",
            f"AuthInfo=socket={folder}/munge/socket,cred_expire=5",
            f"StateSaveLocation={folder}/state",
            f"SlurmdSpoolDir={folder}/spool",
            f"SlurmctldPidFile={folder}/slurmctld.pid",
            f"SlurmdPidFile={folder}/slurmd.pid",
            f"SlurmctldLogFile={folder}/log/slurmctld.log",
            f"SlurmdLogFile={folder}/log/slurmd.log",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "SwitchType=switch/none",
            "MpiDefault=none",
            "ReturnToService=2",
            "SlurmdParameters=config_overrides",
            "SchedulerType=sched/backfill",
            "SchedulerParameters=bf_interval=2,sched_interval=2",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core_Memory",
            "GresTypes=gpu,shard",
            "MinJobAge=3600",
            "DefMemPerCPU=2000",
            "KillWait=10",
            "InactiveLimit=0",
            "JobRequeue=1",
            f"JobCompType=jobcomp/filetxt\nJobCompLoc={folder}/log/jobs.txt",
            f"NodeName={self.host} NodeAddr=127.0.0.1 CPUs={CPUS} RealMemory={MEMORY_MB} "
            f"Gres=gpu:pretended:{GPUS},shard:{SHARDS} State=UNKNOWN",
            f"PartitionName=gpu Nodes={self.host} Default=YES MaxTime=1-0 State=UP",
            f"PartitionName=cpu Nodes={self.host} MaxTime=1-0 State=UP",
        ]
        if self.accounting:
            lines += [
                "AccountingStorageType=accounting_storage/slurmdbd",
                "AccountingStorageHost=127.0.0.1",
                f"AccountingStoragePort={self._database}",
                f"AccountingStoragePass={folder}/munge/socket",
                "AccountingStorageTRES=gres/gpu,gres/gpu:pretended,gres/shard",
                "AccountingStorageEnforce=associations",
                "AccountingStoreFlags=job_comment",
                "JobAcctGatherType=jobacct_gather/linux",
            ]
        else:
            lines += ["AccountingStorageType=accounting_storage/none"]
        (folder / "etc" / "slurm.conf").write_text("\n".join(filter(None, lines)) + "\n")


def _end(daemon: subprocess.Popen[bytes], patience: float = 10) -> None:
    """SIGTERM, then SIGKILL to the daemon's own session."""
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
        if daemon.poll() is not None:
            return
        try:
            os.killpg(daemon.pid, number)
        except ProcessLookupError:
            return
        try:
            daemon.wait(seconds)
        except subprocess.TimeoutExpired:
            print(f"{daemon.args!r} outlived signal {number}", file=sys.stderr)
