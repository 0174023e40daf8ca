"""Runs that travel: equal runs make one archive, it is believed only whole; by S3 to another machine."""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forks
import pytest
from micro import CELL, Checkout, environment, jobs
from small import contents, rewrite

from pipeline import snakemake_internals
from pipeline.artifacts import archive, record
from pipeline.artifacts.record import PROVENANCE
from pipeline.errors import UserError
from pipeline.study.exchange import Exchange

PACK = "s3://sparse/micro/cluster.tar"
#: Where an archive goes on, by its name.
FOLDER = "pulled/sparse-micro-cluster"


# -- archives ----------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A results folder of two runs, the second made from the first."""
    results = tmp_path / "results"
    for folder, name in (("dense/digits/one", "weights.safetensors"), ("mask/two", "mask.json")):
        stage, _, key = folder.partition("/")
        own = results / folder
        own.mkdir(parents=True)
        (own / name).write_bytes(os.urandom(2000))
        finish(own, {"stage": stage, "run": key})
    return results


def finish(folder: Path, settings: dict[str, object]) -> None:
    record.write(folder, settings, [path.name for path in folder.iterdir()], {})


def packed(results: Path, name: str = "a.tar") -> Path:
    path = results.parent / name
    found = results.rglob(PROVENANCE)
    archive.write(path, results, [one.parent.relative_to(results).as_posix() for one in found])
    return path


def test_an_archive_holds_the_runs_as_they_were_and_the_same_runs_give_the_same_bytes(
    runs: Path, tmp_path: Path
) -> None:
    first = packed(runs)
    (runs / "dense/digits/one/.lock").write_text("not of the run")
    for path in runs.rglob("*"):
        os.utime(path, (10**9, 10**9))
    assert packed(runs, "b.tar").read_bytes() == first.read_bytes()
    (runs / "dense/digits/one/.lock").unlink()
    assert archive.unpack(first, tmp_path / "there") == 2
    for folder in ("dense/digits/one", "mask/two"):
        assert contents(tmp_path / "there" / folder) == contents(runs / folder)


def test_what_is_there_already_stays(runs: Path, tmp_path: Path) -> None:
    first = packed(runs)
    before = first.read_bytes()
    with pytest.raises(UserError, match="is there, and stays"):
        packed(runs)
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="is there, and stays"):
        archive.unpack(first, tmp_path / "there")
    assert first.read_bytes() == before and not list((tmp_path / "there").iterdir())


def test_a_run_that_is_not_what_it_recorded_is_not_packed(runs: Path) -> None:
    (runs / "mask/two/mask.json").write_text("changed")
    with pytest.raises(UserError, match=r"mask\.json: content changed since it was written"):
        packed(runs)
    assert not (runs.parent / "a.tar").exists()


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change the members of an archive."""
    with tarfile.open(path) as old:
        members = {one.name: old.extractfile(one).read() for one in old}  # type: ignore[union-attr]
    change(members)
    with tarfile.open(path, "w") as new:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))


def add(name: str) -> Callable[[Path], None]:
    return lambda path: rewritten(path, lambda members: members.update({name: b"x"}))


def drop(name: str) -> Callable[[Path], None]:
    return lambda path: rewritten(path, lambda members: members.pop(name) and None)


def alter(name: str) -> Callable[[Path], None]:
    return lambda path: rewritten(path, lambda members: members.update({name: b"{}"}))


def move(path: Path) -> None:
    """The record and the file of a run under the name of another."""

    def change(members: dict[str, bytes]) -> None:
        for name in [one for one in members if one.startswith("mask/two/")]:
            members[name.replace("two", "three")] = members.pop(name)

    rewritten(path, change)


def cut(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


def of_kind(kind: bytes, target: str = "") -> Callable[[Path], None]:
    """A member that is no plain file."""

    def change(path: Path) -> None:
        with tarfile.open(path, "a") as tar:
            member = tarfile.TarInfo("mask/two/other")
            member.type, member.linkname = kind, target
            tar.addfile(member)

    return change


def twice(path: Path) -> None:
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("mask/two/mask.json"))


def bit(path: Path) -> None:
    """One bit of the weights."""
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        place = tar.getmember("dense/digits/one/weights.safetensors").offset_data + 100
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "bit": (bit, "weights.safetensors: content changed since it was written"),
    "empty": (cut(0), "no archive of runs, or damaged"),
    "half a record": (cut(700), "cut off|damaged"),
    "records alone": (cut(10 * 512), "missing|cut off|damaged"),
    "text": (lambda path: path.write_text("no archive" * 100) and None, "no archive of runs"),
    "no runs": (lambda path: rewritten(path, dict.clear), "it holds no runs"),
    "no record": (drop("mask/two/provenance.json"), "mask/two: provenance.json is missing"),
    "no file": (drop("mask/two/mask.json"), "mask/two/mask.json: missing"),
    "other file": (alter("mask/two/mask.json"), "mask.json: content changed"),
    "other record": (alter("mask/two/provenance.json"), "mask/two: provenance.json is damaged"),
    "one more": (add("mask/two/more"), "mask/two/more: not recorded"),
    "another's": (move, "mask/three: its provenance.json is of another run"),
    "up": (add("../out"), "'../out' is no name of a run's file"),
    "up inside": (add("mask/../../out"), "is no name of a run's file"),
    "absolute": (add("/tmp/out"), "is no name of a run's file"),
    "hidden": (add("mask/two/.resume.safetensors"), "is no name of a run's file"),
    "link": (of_kind(tarfile.SYMTYPE, "/etc/passwd"), "'mask/two/other' is no plain file"),
    "hard link": (of_kind(tarfile.LNKTYPE, "mask/two/mask.json"), "is no plain file"),
    "pipe": (of_kind(tarfile.FIFOTYPE), "is no plain file"),
    "twice": (twice, "mask/two/mask.json is in it twice"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_an_archive_that_is_not_what_was_written_is_refused_in_one_line(
    runs: Path, tmp_path: Path, name: str
) -> None:
    path = packed(runs)
    change, reason = DAMAGES[name]
    change(path)
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError, match=rf"a\.tar: not taken: .*(?:{reason})") as told:
        archive.unpack(path, tmp_path / "there")
    assert "\n" not in str(told.value) and set(tmp_path.iterdir()) == before


def test_an_archive_of_a_record_with_other_settings_is_refused(runs: Path, tmp_path: Path) -> None:
    """The seal of a record can be made anew; its settings have a digest of their own."""
    folder = runs / "mask/two"
    rewrite(folder, settings={"stage": "mask", "run": "two", "sparsity": 0.5})
    with pytest.raises(UserError, match=r"mask/two: its provenance.json is of another run"):
        archive.unpack(packed(runs), tmp_path / "there")


@pytest.mark.parametrize(
    "given",
    [{}, {"pack": 3}, {"pack": "cluster.tar"}, {"pack": "s3://b/x.zip"}, {"pack": "s3://bb/../x.tar"},
     {"pack": "s3://bb/{x}.tar"}, {"pack": PACK, "into": "a b"}, {"pack": PACK, "into": 1}],
)  # fmt: skip
def test_a_name_that_is_not_allowed_is_told(given: dict[str, object]) -> None:
    with pytest.raises(
        UserError, match=r"command line: (pack: expected s3|into: expected a folder)"
    ):
        Exchange.asked(given)


# -- through object storage --------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that speaks S3, on this machine."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


def storage(server: str) -> Any:
    """The bucket that all archives are in."""
    import boto3

    found = boto3.resource(
        "s3", endpoint_url=server, region_name="us-east-1", aws_access_key_id="someone",
        aws_secret_access_key="secret",
    )  # fmt: skip
    return found.Bucket("sparse")


def held(results: Path) -> dict[str, tuple[bytes, dict[str, str]]]:
    """The runs of a results folder: their records, and the digests of their files."""
    return {
        str(path.parent.relative_to(results)): (path.read_bytes(), contents(path.parent))
        for path in results.rglob(PROVENANCE)
    }


class Machine(Checkout):
    """A checkout on a machine that may use the storage."""

    server = ""

    def call(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run snakemake; without keys in the environment but the storage's own."""
        storage = {
            "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": self.server,
            "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "someone",
            "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        return forks.called(
            "snakemake", *words, folder=self.folder, environment=environment(**storage | more)
        )

    def exchange(self, rule: str, *given: str, **more: str) -> subprocess.CompletedProcess[str]:
        words = ("-s", "workflow/exchange.smk", "--storage-s3-retries", "0", "-c1", rule)
        return self.call(*words, "--config", "study=micro", *given, **more)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a call that ended on a user's mistake."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.workflow
def test_what_a_cluster_has_made_a_laptop_does_not_make_again(
    micro: Checkout, server: str, tmp_path: Path
) -> None:
    cluster, laptop = Machine.at(tmp_path / "cluster"), Machine(tmp_path / "laptop").tried(micro)
    shutil.copytree(micro.folder, cluster.folder, symlinks=True)
    cluster.server = laptop.server = server
    shutil.rmtree(cluster.folder / "results" / CELL)  # not made yet
    done = cluster.exchange("push", f"pack={PACK}")
    assert done.returncode == 0, done.stdout + done.stderr
    bucket = storage(server)
    sent = bucket.Object("micro/cluster.tar").get()["Body"].read()
    assert "is there, and stays" in said(cluster.exchange("push", f"pack={PACK}"))
    assert bucket.Object("micro/cluster.tar").get()["Body"].read() == sent

    done = laptop.exchange("pull", f"pack={PACK}")
    assert done.returncode == 0, done.stdout + done.stderr
    made = held(cluster.folder / "results")
    assert held(laptop.folder / FOLDER) == made
    target = f"results/{CELL}/metrics.json"
    done = laptop.call("-c2", target, "--config", "study=micro", "slices=pulled")
    assert f"taken over from slices: {len(made)} runs, 0 unfinished" in done.stderr, done.stderr
    logs = (laptop.folder / ".snakemake" / "log").glob("*.snakemake.log")
    assert jobs(max(logs, key=lambda path: path.stat().st_mtime_ns).read_text()) == {"sparse": 1}


@pytest.mark.workflow
def test_a_push_of_nothing_and_a_damaged_object_are_refused(server: str, tmp_path: Path) -> None:
    laptop = Machine(tmp_path / "laptop")
    laptop.server = server
    told = said(laptop.exchange("push", f"pack={PACK}"))
    assert re.fullmatch(r"error: results: none of the \d+ runs of this study is finished", told)
    bucket = storage(server)
    bucket.create()
    bucket.put_object(Key="bad.tar", Body=b"no archive" * 1000)
    told = said(laptop.exchange("pull", "pack=s3://sparse/bad.tar"))
    assert "bad.tar: not taken: no archive of runs, or damaged" in told
    assert not (laptop.folder / "pulled").exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"access_key": "someone", "secret_key": "secret"}, None),
        ({}, "Unable to locate credentials"),
        ({"access_key": "a", "secret_key": "b", "endpoint_url": "http://127.0.0.1:9"}, "connect"),
    ],
)
def test_an_object_is_missing_or_nothing_is_known_of_it(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str],
    reason: str | None,
) -> None:  # fmt: skip
    """The plugin's own objects: without keys or a server, it says that there is no object."""
    from snakemake_storage_plugin_s3 import StorageProvider, StorageProviderSettings

    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    given = StorageProviderSettings(**{"endpoint_url": server, "retries": 0} | settings)
    provider = StorageProvider(
        local_prefix=tmp_path, logger=logging.getLogger(), settings=given, keep_local=False
    )
    file = SimpleNamespace(flags={"storage_object": provider.object("s3://elsewhere/no.tar")})
    if reason is None:
        assert not snakemake_internals.stored(file)
        return
    with pytest.raises(UserError, match=rf"^s3://elsewhere/no\.tar: at http.*{reason}") as told:
        snakemake_internals.stored(file)
    assert "\n" not in str(told.value)
