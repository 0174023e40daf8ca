"""Laws of a run's record: it answers alone whether the run is whole, and what is not is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small import rewrite
from test_store import message

from pipeline.artifacts import store
from pipeline.artifacts.record import (
    PROVENANCE,
    Damaged,
    Record,
    Records,
    facts_of,
    read,
    record_of,
    recorded,
    verify,
    write,
)

NAMES = ["metrics.json", "weights.bin"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs of two files each, with their records."""
    for name in ("one", "two"):
        folder = tmp_path / name
        store.write_atomic(folder / "weights.bin", name.encode())
        store.write_json(folder / "metrics.json", {"name": name})
        write(folder, {"run": name}, NAMES, {"parent/file": "0" * 64}, seconds=1.5)
    return tmp_path


def known(folder: Path) -> Record:
    found = read(folder)
    assert found is not None
    return found


def test_what_was_written_is_read(runs: Path) -> None:
    found = known(runs / "one")
    assert found.files == {name: store.file_digest(runs / "one" / name) for name in NAMES}
    assert found.settings == {"run": "one"} and found.digest == store.digest({"run": "one"})
    assert found.parents == {"parent/file": "0" * 64}
    assert found.facts["seconds"] == 1.5 and facts_of(runs / "one") == found.facts
    for path in sorted(runs.glob("*/[mw]*")):
        assert recorded(path) == store.file_digest(path) == verify(path)
        assert verify(path, store.digest({"run": path.parent.name})) == recorded(path)
        assert Records(runs).recorded(f"{path.parent.name}/{path.name}") == recorded(path)


def test_the_form_on_disk_is_that_of_results_made_before(runs: Path) -> None:
    found = json.loads((runs / "one" / PROVENANCE).read_bytes())
    assert set(found) == {
        "files", "parents", "settings", "digest", "code", "host", "machine", "python", "versions",
        "finished", "seconds", "record",
    }  # fmt: skip
    assert found.pop("record") == store.digest(found)


def test_a_record_of_a_missing_file_is_not_written(tmp_path: Path) -> None:
    store.write_json(tmp_path / "a.json", 1)
    with pytest.raises(OSError, match=r"b\.json"):
        write(tmp_path, {}, ["a.json", "b.json"], {})
    assert not (tmp_path / PROVENANCE).exists()


# --- damage of the record --------------------------------------------------------------------


def without(key: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        found = store.read_json(folder / PROVENANCE)
        del found[key], found["record"]
        store.write_json(folder / PROVENANCE, found | {"record": store.digest(found)})

    return change


def edited(folder: Path) -> None:
    store.write_json(folder / PROVENANCE, store.read_json(folder / PROVENANCE) | {"host": "x"})


def unsealed(folder: Path) -> None:
    """One letter of the seal's name is all it takes."""
    text = (folder / PROVENANCE).read_text()
    (folder / PROVENANCE).write_text(text.replace('"record"', '"rec ord"'))


DAMAGED: dict[str, Callable[[Path], object]] = {
    **{f"no {key}": without(key) for key in ("files", "parents", "settings", "digest")},
    "edited": edited,
    "unsealed": unsealed,
    "torn": lambda folder: (folder / PROVENANCE).write_text('{"files": '),
    "empty": lambda folder: (folder / PROVENANCE).write_text(""),
    "a list": lambda folder: (folder / PROVENANCE).write_text("[]"),
    "a folder": lambda folder: [(folder / PROVENANCE).unlink(), (folder / PROVENANCE).mkdir()],
    "files": lambda folder: rewrite(folder, files=["weights.bin"]),
    "digest of a file": lambda folder: rewrite(folder, files={"weights.bin": 1}),
    "file elsewhere": lambda folder: rewrite(folder, files={"../two/weights.bin": "0" * 64}),
    "parents": lambda folder: rewrite(folder, parents=None),
    "digest": lambda folder: rewrite(folder, digest=0),
    "settings": lambda folder: rewrite(folder, settings="none"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_record_is_told_from_none(runs: Path, damage: str) -> None:
    folder, path = runs / "one", runs / "one" / "weights.bin"
    assert read(runs / "three") is None and read(path) is None
    DAMAGED[damage](folder)
    for call in (lambda: read(folder), lambda: Records(runs).read("one")):
        with pytest.raises(Damaged, match=r"provenance\.json is damaged"):
            call()
    assert record_of(folder) is None and facts_of(folder) == {} and recorded(path) is None
    text = message(lambda: verify(path))
    assert text.startswith(f"{folder / PROVENANCE}: damaged; ") and f"rm '{path}' && " in text


# --- damage of files -------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES: list[tuple[str, Callable[[Path], object]]] = [
    ("content changed since it was written", flip),
    ("content changed", lambda path: path.write_bytes(path.read_bytes()[:-1])),
    ("content changed", lambda path: path.write_bytes(b"")),
    ("content changed", lambda path: path.write_bytes(
        (path.parents[1] / "two" / path.name).read_bytes()
    )),
    ("cannot be read", lambda path: [path.unlink(), path.mkdir()]),
    ("no such file", lambda path: path.unlink()),
    ("has no provenance.json", lambda path: (path.parent / PROVENANCE).unlink()),
    ("not recorded in provenance.json", lambda path: rewrite(path.parent, files={})),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("told", "damage"), DAMAGES)
def test_damage_is_found_and_told_with_its_remedy(
    runs: Path, told: str, damage: Callable[[Path], object], name: str
) -> None:
    path, settings = runs / "one" / name, store.digest({"run": "one"})
    assert known(path.parent).whole(path.parent, NAMES, settings)
    damage(path)
    text = message(lambda: verify(path))
    assert text.startswith(f"{path}: {told}")
    assert f"rm '{path}' && snakemake -c1 '{path}'" in text
    found = record_of(path.parent)
    assert found is None or not found.whole(path.parent, NAMES, settings)


def test_what_the_workflow_does_not_know_comes_back_with_the_run(runs: Path) -> None:
    path = runs / "one" / "weights.bin"
    flip(path)
    stands = path.with_name("metrics.json")
    for outputs, asked in ((("metrics.json",), stands), (("x", "weights.bin"), path)):
        text = message(lambda outputs=outputs: verify(path, outputs=outputs))  # type: ignore[misc]
        assert text.startswith(f"{path}: ") and f"rm '{asked}' && snakemake -c1 '{asked}'" in text


def test_a_run_swapped_as_a_whole_is_found(runs: Path) -> None:
    (runs / "one").rename(runs / "three")
    (runs / "two").rename(runs / "one")
    path = runs / "one" / "weights.bin"
    verify(path)  # true to itself
    text = message(lambda: verify(path, store.digest({"run": "one"})))
    assert "another run" in text and f"snakemake -c1 '{path}'" in text


# --- whether a run is whole ------------------------------------------------------------------


def changed(folder: Path) -> None:
    flip(folder / "metrics.json")


def gone(folder: Path) -> None:
    (folder / "metrics.json").unlink()


def thinned(folder: Path) -> None:
    (folder / "weights.bin").unlink()


@pytest.mark.parametrize(
    ("change", "looked_at", "read"),
    [(lambda folder: None, True, True), (changed, True, False), (gone, False, False),
     (thinned, True, True), (lambda folder: rewrite(folder, digest="old"), False, False)],
)  # fmt: skip
def test_a_run_is_whole_where_its_outputs_are(
    runs: Path, change: Callable[[Path], Any], looked_at: bool, read: bool
) -> None:
    """With and without a look at their content; what nobody asks for may be removed."""
    folder, settings = runs / "one", store.digest({"run": "one"})
    change(folder)
    found = known(folder)
    there = found.there(folder, ["metrics.json"])
    assert (there and found.digest == settings) == looked_at
    assert found.whole(folder, ["metrics.json"], settings) == read


@pytest.mark.parametrize(
    ("here", "others"), [("0" * 64, []), (None, []), ("1" * 64, ["parent/file"])]
)
def test_parents_of_another_version_are_named_and_removed_ones_do_not_count(
    runs: Path, here: str | None, others: list[str]
) -> None:
    assert known(runs / "one").other_parents(lambda name: here) == others


def test_a_results_folder_reads_each_record_once_until_it_forgets(runs: Path) -> None:
    records = Records(runs)
    before = records.recorded("one/metrics.json")
    rewrite(runs / "one", files={})
    assert records.recorded("one/metrics.json") == before
    records.forget("one")
    assert records.recorded("one/metrics.json") is None
