"""Laws of the data sets, their checks on disk, and the augmentation."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import urllib.error
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.catalog import datasets as catalog
from pipeline.catalog.datasets import INFO, DataInfo, parse_entry, status
from pipeline.data import DataSet, Split, load, withheld
from pipeline.data.augment import Augmenter, normalise
from pipeline.data.npz import write_digits_turned, write_npz
from pipeline.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
DIGITS_SHA256 = "d6ed6a79482fa5ad37267a2859bcc3901fda33cca6fd9bc1afe3f4defafeec51"
TORCHVISION = [name for name, info in INFO.items() if info.torchvision]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def message(call: Callable[[], Any]) -> str:
    """The message of the UserError that ``call`` must raise: a single line."""
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert text and "\n" not in text
    return text


# --- catalogue -------------------------------------------------------------------------------


def test_the_catalogue_imports_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, pipeline.catalog.datasets; heavy = {'torch', 'numpy', 'yaml', 'sklearn', "
        "'torchvision', 'scipy'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_the_checksums_are_those_of_torchvision() -> None:
    from torchvision import datasets

    for name, kind in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        listed = [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]]
        expected = {f"{kind.base_folder}/{file}": md5 for file, md5 in listed}
        assert {path: md5 for path, _, md5 in INFO[name].files} == expected
        assert [(path, md5) for path, _, md5 in INFO[name].archives] == [
            (kind.filename, kind.tgz_md5)
        ]
    assert [(path, md5) for path, _, md5 in INFO["svhn"].files] == [
        tuple(datasets.SVHN.split_list[split][1:]) for split in ("train", "test")
    ]
    for name, kind in (("mnist", datasets.MNIST), ("fashionmnist", datasets.FashionMNIST)):
        info, folder = INFO[name], f"{kind.__name__}/raw/"
        listed = [(path.removeprefix(folder), md5) for path, _, md5 in info.archives]
        assert listed == kind.resources
        assert [f"{path}.gz" for path, _, _ in info.files] == [path for path, _, _ in info.archives]


def test_every_entry_is_consistent() -> None:
    for name, info in INFO.items():
        assert info.name == name
        assert len(info.mean) == len(info.std) == info.channels
        assert (info.files == ()) == (info.kind == "sklearn")
        assert (info.kind == "torchvision") == bool(info.torchvision) == (not info.how_to_get)
    assert [name for name, info in INFO.items() if info.flip] == [
        "cifar10",
        "cifar100",
        "fashionmnist",
        "imagenet",
    ]


def test_an_unknown_data_set_is_named() -> None:
    text = message(lambda: load("cifar11", "."))
    assert "'cifar11'" in text and "did you mean 'cifar10'" in text and "svhn" in text


# --- digits ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load("digits", "nowhere")


def test_digits_are_those_of_scikit_learn(digits: DataSet) -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = sorted(range(1797), key=lambda i: (bunch.target[i], i))
    test = sorted(order[::5])
    train = sorted(set(order) - set(test))
    for split, index in ((digits.train, train), (digits.test, test)):
        assert split.images.dtype == torch.uint8 and split.labels.dtype == torch.int64
        assert split.images.shape == (len(index), 1, 8, 8)
        assert torch.equal(split.labels, torch.from_numpy(bunch.target[index]))
        exact = torch.from_numpy(bunch.images[index])[:, None] * 255 / 16
        assert (split.images - exact).abs().max() <= 0.5


def test_digits_split_sizes_and_class_balance(digits: DataSet) -> None:
    info = INFO["digits"]
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert (len(digits.train), len(digits.test)) == (info.train_images, info.test_images)
    total = torch.bincount(torch.cat([digits.train.labels, digits.test.labels])).double()
    share = torch.bincount(digits.test.labels) - total / 5
    assert share.abs().max() <= 1  # stratified to within one image


def test_digits_constants_are_those_of_the_training_split(digits: DataSet) -> None:
    pixels = digits.train.images.double() / 255
    assert round(pixels.mean().item(), 4) == digits.mean[0]
    assert round(pixels.std(correction=0).item(), 4) == digits.std[0]


def test_digits_keep_their_bits(digits: DataSet) -> None:
    content = b"".join(
        t.numpy().tobytes()
        for split in (digits.train, digits.test)
        for t in (split.images, split.labels)
    )
    assert hashlib.sha256(content).hexdigest() == DIGITS_SHA256


def test_digits_without_the_package_file_are_the_same(
    digits: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.data import digits as module

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    train, _ = module.read_digits()
    assert torch.equal(train.images, digits.train.images)
    assert torch.equal(train.labels, digits.train.labels)
    assert "pip install scikit-learn" in message(lambda: load("digits", "nowhere"))


# --- torchvision's sets, on small files in their layouts -------------------------------------


@dataclass
class Layout:
    """Small files in torchvision's layout, with the facts and checksums that describe them."""

    info: DataInfo
    root: Path
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]

    def paths(self) -> list[Path]:
        return [self.root / path for path, _, _ in self.info.files]


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def encode(name: str, train: tuple, test: tuple) -> dict[str, bytes]:
    """The files of a data set, by path, in the order of the catalogue."""

    def cifar(images: np.ndarray, labels: np.ndarray, key: str) -> bytes:
        return pickle.dumps({"data": images.reshape(-1, 3072), key: labels.tolist()}, protocol=2)

    def mat(images: np.ndarray, labels: np.ndarray) -> bytes:
        from scipy.io import savemat

        stream = io.BytesIO()
        tens = np.where(labels == 0, 10, labels)  # SVHN calls the digit zero 10
        savemat(stream, {"X": images.transpose(2, 3, 1, 0), "y": tens[:, None].astype(np.uint8)})
        return stream.getvalue()

    paths = [path for path, _, _ in INFO[name].files]
    if name == "cifar10":
        batches = [
            cifar(train[0][i::5], train[1][i::5], "labels") for i in range(5)
        ]  # interleaved; undone by the caller's order
        contents = [
            *batches,
            cifar(test[0], test[1], "labels"),
            pickle.dumps({"label_names": ["a"] * 10}),
        ]
    elif name == "cifar100":
        meta = pickle.dumps({"fine_label_names": ["a"] * 100})
        contents = [
            cifar(train[0], train[1], "fine_labels"),
            cifar(test[0], test[1], "fine_labels"),
            meta,
        ]
    elif name == "svhn":
        contents = [mat(*train), mat(*test)]
    else:
        contents = [idx(a) for images, labels in (train, test) for a in (images[:, 0], labels)]
    return dict(zip(paths, contents, strict=True))


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Layout]:
    def build(name: str) -> Layout:
        from torchvision import datasets

        random = np.random.default_rng(0)
        info = INFO[name]

        def split(count: int) -> tuple[np.ndarray, np.ndarray]:
            shape = (count, info.channels, info.size, info.size)
            labels = np.arange(count) % info.classes
            return random.integers(0, 256, shape, dtype=np.uint8), labels

        train, test = split(20), split(12)
        contents = encode(name, train, test)
        if name == "cifar10":
            order = np.concatenate([np.arange(20)[i::5] for i in range(5)])
            train = (train[0][order], train[1][order])
        for path, content in contents.items():
            place = tmp_path / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        files = tuple((path, len(content), md5(content)) for path, content in contents.items())
        sums = {path.split("/")[-1]: md5(content) for path, content in contents.items()}
        if name.startswith("cifar"):
            kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
            for part in ("train_list", "test_list"):
                listed = [[file, sums[file]] for file, _ in getattr(kind, part)]
                monkeypatch.setattr(kind, part, listed)
            monkeypatch.setattr(kind, "meta", kind.meta | {"md5": sums[kind.meta["filename"]]})
        elif name == "svhn":
            lists = {
                part: [url, file, sums.get(file)]
                for part, (url, file, _) in datasets.SVHN.split_list.items()
            }
            monkeypatch.setattr(datasets.SVHN, "split_list", lists)
        info = replace(info, train_images=20, test_images=12, files=files, archives=())
        return Layout(info, tmp_path, train, test)

    return build


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_files_are_read(name: str, layout: Callable[[str], Layout]) -> None:
    small = layout(name)
    assert status(small.info, small.root) is None
    data = load(small.info, small.root)
    for split, (images, labels) in ((data.train, small.train), (data.test, small.test)):
        assert split.images.dtype == torch.uint8 and split.images.is_contiguous()
        assert split.labels.dtype == torch.int64
        assert torch.equal(split.images, torch.from_numpy(images))
        assert torch.equal(split.labels, torch.from_numpy(labels))
    assert (data.channels, data.size) == (small.info.channels, small.info.size)
    assert (data.mean, data.std, data.pad) == (INFO[name].mean, INFO[name].std, INFO[name].pad)


@pytest.mark.parametrize("name", TORCHVISION)
def test_missing_files_are_told_in_one_line(name: str, tmp_path: Path, no_network: None) -> None:
    first = INFO[name].files[0][0]
    for text in (
        status(INFO[name], tmp_path) or "",
        message(lambda: load(name, tmp_path, download=False)),
        message(lambda: load(name, tmp_path)),
    ):
        assert str(tmp_path / first) in text  # where it looked, what it expected
        assert "download=True" in text and f"'{tmp_path}'" in text  # how to get it
        assert "\n" not in text
    assert "no network here" in text
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []  # nothing half-done stays


@pytest.mark.parametrize("name", TORCHVISION)
def test_one_missing_file_is_named(
    name: str, layout: Callable[[str], Layout], no_network: None
) -> None:
    small = layout(name)
    for place in small.paths():
        content = place.read_bytes()
        place.unlink()
        assert str(place) in (status(small.info, small.root) or "")
        assert str(place) in message(lambda: load(small.info, small.root))
        place.write_bytes(content)


@pytest.mark.parametrize("name", TORCHVISION)
def test_truncated_files_are_seen_without_hashing(
    name: str, layout: Callable[[str], Layout], no_network: None
) -> None:
    small = layout(name)
    for place in small.paths():
        content = place.read_bytes()
        place.write_bytes(content[:-1])
        text = status(small.info, small.root) or ""
        assert str(place) in text and "truncated" in text and f"{len(content):,} bytes" in text
        assert message(lambda: load(small.info, small.root)) == text
        place.write_bytes(content)


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_flipped_byte_is_named_and_nothing_is_loaded(
    name: str, layout: Callable[[str], Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = layout(name)
    opened: list[object] = []
    monkeypatch.setattr(
        "pipeline.data.torchvision_sets._construct", lambda *a, **k: opened.append(a)
    )
    for place in small.paths():
        content = bytearray(place.read_bytes())
        content[len(content) // 2] ^= 1
        original = place.read_bytes()
        place.write_bytes(bytes(content))
        assert status(small.info, small.root) is None  # the size is right
        for download in (False, True):
            text = message(partial(load, small.info, small.root, download=download))
            assert str(place) in text and "damaged" in text
        assert place.read_bytes() == bytes(content)  # what is there is never replaced
        place.write_bytes(original)
    assert opened == []


class Payload:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.place,))


def test_a_malicious_batch_is_not_unpickled(layout: Callable[[str], Layout]) -> None:
    small = layout("cifar10")
    mark = small.root / "ran"
    attack = pickle.dumps(Payload(mark))
    pickle.loads(attack)
    assert mark.exists()  # the attack works where a pickle is loaded
    mark.unlink()
    for place in small.paths():
        original = place.read_bytes()
        place.write_bytes(attack.ljust(len(original), b"\0"))
        message(lambda: load(small.info, small.root))
        place.write_bytes(original)
    assert not mark.exists()


def test_files_that_an_old_torchvision_processed_are_ignored(
    layout: Callable[[str], Layout],
) -> None:
    small = layout("fashionmnist")
    folder = small.root / "FashionMNIST" / "processed"
    folder.mkdir()
    for file in ("training.pt", "test.pt"):
        torch.save((torch.zeros(1, 28, 28, dtype=torch.uint8), torch.zeros(1)), folder / file)
    assert len(load(small.info, small.root).train) == 20


def test_archives_in_the_root_are_unpacked_without_network(
    layout: Callable[[str], Layout], no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    small = layout("cifar10")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for place in small.paths():
            tar.add(place, place.relative_to(small.root))
    content = stream.getvalue()
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(content))
    _unpack(small, {"cifar-10-python.tar.gz": content})


def test_fashionmnist_archives_are_unpacked_without_network(
    layout: Callable[[str], Layout], no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    small = layout("fashionmnist")
    contents = {
        f"{path}.gz": gzip.compress((small.root / path).read_bytes())
        for path, _, _ in small.info.files
    }
    monkeypatch.setattr(
        datasets.FashionMNIST,
        "resources",
        [(path.split("/")[-1], md5(content)) for path, content in contents.items()],
    )
    _unpack(small, contents)


def _unpack(small: Layout, archives: dict[str, bytes]) -> None:
    for place in small.paths():
        place.unlink()
    for path, content in archives.items():
        (small.root / path).write_bytes(content)
    info = replace(small.info, archives=tuple((p, len(c), md5(c)) for p, c in archives.items()))
    assert status(info, small.root) is not None
    data = load(info, small.root)
    assert torch.equal(data.train.images, torch.from_numpy(small.train[0]))
    assert status(info, small.root) is None
    assert all((small.root / path).read_bytes() == c for path, c in archives.items())
    assert list(small.root.glob(".download-*")) == []


def test_cifar10_itself_or_small_files_in_its_place(layout: Callable[[str], Layout]) -> None:
    """The real data set where the machine has it; its layout is tested either way."""
    roots = [os.environ.get("DATA_ROOT"), REPOSITORY / "data", REPOSITORY.parent / "shared/data"]
    real = [Path(root) for root in roots if root and status(INFO["cifar10"], root) is None]
    small = layout("cifar10") if not real else None
    data = load(small.info, small.root) if small else load("cifar10", real[0], download=False)
    info = small.info if small else INFO["cifar10"]
    for split, count in ((data.train, info.train_images), (data.test, info.test_images)):
        assert split.images.shape == (count, 3, 32, 32)
        balance = torch.bincount(split.labels, minlength=10).tolist()
        assert max(balance) - min(balance) <= (1 if small else 0)
    if real:  # the well-known means of the training images
        means = [data.train.images[:, c].double().mean().item() / 255 for c in range(3)]
        assert [round(m, 4) for m in means] == [0.4914, 0.4822, 0.4465]


# --- npz -------------------------------------------------------------------------------------


def entry(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "kind": "npz",
        "path": "own.npz",
        "classes": 3,
        "channels": 1,
        "size": 4,
        "train_images": 6,
        "test_images": 3,
        "mean": [0.5],
        "std": [0.25],
        "flip": False,
        "pad": 1,
    }
    return values | changes


def arrays(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(1)
    values: dict[str, Any] = {
        "x_train": random.integers(0, 256, (6, 1, 4, 4), dtype=np.uint8),
        "y_train": np.arange(6) % 3,
        "x_test": random.integers(0, 256, (3, 1, 4, 4), dtype=np.uint8),
        "y_test": np.arange(3),
    }
    return values | changes


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, lambda p, **a: write_npz(p, a)])
@pytest.mark.parametrize("label_type", [np.int64, np.uint8, np.dtype(">i4")])
def test_npz_is_read(tmp_path: Path, save: Callable[..., Any], label_type: Any) -> None:
    info = parse_entry("own", entry())
    values = arrays()
    stored = {k: v.astype(label_type) if k[0] == "y" else v for k, v in values.items()}
    save(tmp_path / "own.npz", **stored)
    for root, declared in (
        (tmp_path, info),
        (Path("elsewhere"), parse_entry("own", entry(path=str(tmp_path / "own.npz")))),
    ):
        assert status(declared, root) is None
        data = load(declared, root)
        assert (data.name, data.classes, data.flip, data.pad) == ("own", 3, False, 1)
        assert torch.equal(data.train.images, torch.from_numpy(values["x_train"]))
        assert torch.equal(data.test.labels, torch.from_numpy(values["y_test"]))


def test_npz_without_the_channel_axis(tmp_path: Path) -> None:
    values = arrays()
    np.savez(tmp_path / "own.npz", **(values | {"x_train": values["x_train"][:, 0]}))
    data = load(parse_entry("own", entry()), tmp_path)
    assert torch.equal(data.train.images, torch.from_numpy(values["x_train"]))


BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "wrong type": ({"x_train": np.zeros((6, 1, 4, 4))}, "x_train"),
    "wrong size": ({"x_test": np.zeros((3, 1, 4, 5), np.uint8)}, "x_test"),
    "channels last": ({"x_train": np.zeros((6, 4, 4, 1), np.uint8)}, "x_train"),
    "wrong number": ({"x_train": np.zeros((5, 1, 4, 4), np.uint8)}, "x_train"),
    "labels too few": ({"y_train": np.arange(5)}, "y_train"),
    "labels one-hot": ({"y_test": np.eye(3, dtype=np.int64)}, "y_test"),
    "labels float": ({"y_test": np.arange(3.0)}, "y_test"),
    "label too large": ({"y_test": np.array([0, 1, 3])}, "y_test"),
    "label negative": ({"y_test": np.array([0, 1, -1])}, "y_test"),
    "label huge": ({"y_test": np.array([0, 1, 2**64 - 1], dtype=np.uint64)}, "y_test"),
    "objects": ({"y_train": np.array([None] * 6)}, "y_train"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_npz_arrays_are_named(tmp_path: Path, case: str) -> None:
    changes, key = BAD_ARRAYS[case]
    np.savez(tmp_path / "own.npz", **arrays(**changes))
    text = message(lambda: load(parse_entry("own", entry()), tmp_path))
    assert key in text and "expected" in text and "own.npz" in text


def test_missing_npz_keys_and_files(tmp_path: Path) -> None:
    info = parse_entry("own", entry())
    assert str(tmp_path / "own.npz") in (status(info, tmp_path) or "")
    assert "x_train" in message(lambda: load(info, tmp_path))  # told what to write
    values = arrays()
    del values["x_test"], values["y_test"]
    np.savez(tmp_path / "own.npz", **values)
    assert "lacks x_test, y_test" in (status(info, tmp_path) or "")
    assert "lacks x_test, y_test" in message(lambda: load(info, tmp_path))


def test_truncated_or_foreign_npz(tmp_path: Path) -> None:
    info = parse_entry("own", entry())
    place = tmp_path / "own.npz"
    np.savez(place, **arrays())
    whole = place.read_bytes()
    foreign = [b"", b"not a zip", pickle.dumps([1]), gzip.compress(whole)]
    for content in [whole[:-1], whole[: len(whole) // 2], whole[:100], *foreign]:
        place.write_bytes(content)
        assert "own.npz" in (status(info, tmp_path) or "")
        assert "own.npz" in message(lambda: load(info, tmp_path))


def test_no_flipped_byte_of_an_npz_changes_what_is_loaded(tmp_path: Path) -> None:
    """Every byte in turn: the data are refused in one line or are those that were written."""
    info = parse_entry("own", entry())
    place = tmp_path / "own.npz"
    write_npz(place, arrays())
    whole = place.read_bytes()
    expected = load(info, tmp_path)
    refused = 0
    for position in range(0, len(whole), 3):
        place.write_bytes(
            whole[:position] + bytes([whole[position] ^ 0x11]) + whole[position + 1 :]
        )
        try:
            data = load(info, tmp_path)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        assert torch.equal(data.train.images, expected.train.images)
        assert torch.equal(data.test.labels, expected.test.labels)
    assert refused > len(whole) // 6


def test_a_malicious_npz_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    info = parse_entry("own", entry())
    for key in arrays():
        payload = np.array([Payload(mark)] * 3, dtype=object)
        np.savez(tmp_path / "own.npz", **arrays(**{key: payload}))
        assert key in message(lambda: load(info, tmp_path))
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:  # a bare pickle under that name
        for key in arrays():
            archive.writestr(f"{key}.npy", pickle.dumps(Payload(mark)))
    message(lambda: load(info, tmp_path))
    (tmp_path / "own.npz").write_bytes(pickle.dumps(Payload(mark)))
    message(lambda: load(info, tmp_path))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "raw", "told"),
    [
        ("own", entry(colour=1), "unknown key 'colour'"),
        ("own", entry(chanels=1), "did you mean 'channels'"),
        ("own", {k: v for k, v in entry().items() if k != "mean"}, "'mean' is missing"),
        ("own", entry(kind="csv"), "unknown kind 'csv'; allowed: image_folder, npz"),
        ("own", entry(path=3), "path: expected text"),
        ("own", entry(path=""), "path: '' is no name"),
        ("own", entry(classes=1), "classes: 1 is not allowed; expected a number of at least 2"),
        ("own", entry(classes=True), "classes: expected a whole number"),
        ("own", entry(channels="1"), "channels: expected a whole number"),
        ("own", entry(size=0), "size: 0 is not allowed"),
        ("own", entry(train_images=1.5), "train_images: expected a whole number"),
        ("own", entry(test_images=0), "test_images: 0 is not allowed"),
        ("own", entry(mean=0.5), "mean: expected a list"),
        ("own", entry(mean=[0.5, 0.5]), "mean: expected a number for each channel (1)"),
        ("own", entry(mean=[float("nan")]), "mean[0]: nan is not allowed"),
        ("own", entry(mean=["0.5"]), "mean[0]: expected a number"),
        ("own", entry(std=[0.0]), "std[0]: 0.0 is not allowed; expected a number above 0"),
        ("own", entry(flip=1), "flip: expected true or false"),
        ("own", entry(pad=-1), "pad: -1 is not allowed"),
        ("own", entry(pad=5), "pad: 5 must not exceed size = 4"),
        ("own", ["kind"], "expected a mapping"),
        ("cifar10", entry(), "the name of a built-in data set"),
        ("a/b", entry(), "letters, digits"),
        ("", entry(), "letters, digits"),
    ],
)
def test_bad_entries_are_told_in_one_line(name: str, raw: Any, told: str) -> None:
    text = message(lambda: parse_entry(name, raw))
    assert told in text and text.startswith("config/datasets.yaml: ") and name in text


@pytest.mark.parametrize("count", [1, 200, 1436])
def test_withheld_images_are_apart_from_the_training_images(digits: DataSet, count: int) -> None:
    info = catalog.INFO["digits"].without(count, "here")
    assert (info.name, info.train_images) == (f"digits+validation={count}", 1437 - count)
    assert info.whole == catalog.INFO["digits"] and info.without(0, "here") is info
    found = load(info, "nowhere")
    assert isinstance(found, DataSet) and found.validation and found.name == info.name
    assert (len(found.train), len(found.validation)) == (1437 - count, count)
    assert digits.validation is None
    assert torch.equal(found.test.images, digits.test.images)

    def pictures(*splits: Split) -> list[tuple[bytes, int]]:
        pairs = [zip(s.images.numpy(), s.labels.tolist(), strict=True) for s in splits]
        return sorted((image.tobytes(), label) for each in pairs for image, label in each)

    assert pictures(found.train, found.validation) == pictures(digits.train)
    again = load(info, "nowhere")
    assert isinstance(again, DataSet) and again.validation
    assert torch.equal(again.validation.images, found.validation.images)


def test_withheld_images_of_two_numbers_nest() -> None:
    few, many = (set(withheld(count, 1000)[1].tolist()) for count in (10, 100))
    assert few < many


@pytest.mark.parametrize("count", [1437, 5000])
def test_not_every_image_can_be_withheld(count: int) -> None:
    with pytest.raises(UserError, match=f"here: validation: {count:,} of the 1,437"):
        catalog.INFO["digits"].without(count, "here")


def test_digits_turned(tmp_path: Path, digits: DataSet) -> None:
    first, second = tmp_path / "a" / "turned.npz", tmp_path / "turned.npz"
    write_digits_turned(first)
    write_digits_turned(second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "turned.npz"]
    raw = entry(
        path="turned.npz",
        classes=10,
        size=8,
        train_images=1437,
        test_images=360,
        mean=[0.6942],
        std=[0.3761],
    )
    data = load(parse_entry("digits-turned", raw), tmp_path)
    for split, source in ((data.train, digits.train), (data.test, digits.test)):
        assert torch.equal(split.labels, source.labels)
        assert torch.equal(255 - split.images.rot90(-1, (2, 3)), source.images)
    pixels = data.train.images.double() / 255
    assert round(pixels.mean().item(), 4) == 0.6942
    assert round(pixels.std(correction=0).item(), 4) == 0.3761


# --- normalisation and augmentation ----------------------------------------------------------


def random_split(count: int, channels: int = 3, size: int = 8) -> Split:
    images = torch.randint(
        0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator(7)
    )
    return Split(images, torch.arange(count))  # the label tells which image it was


def crop(image: torch.Tensor, mirrored: int, row: int, column: int, pad: int) -> torch.Tensor:
    """One image, flipped, padded with zeros and cropped, step by step."""
    if mirrored:
        image = image.flip(-1)
    size = image.shape[-1]
    padded = torch.nn.functional.pad(image, (pad, pad, pad, pad))
    return padded[:, row : row + size, column : column + size]


def test_normalise_is_that_of_torchvision() -> None:
    from torchvision.transforms import functional

    images = random_split(5).images
    before = images.clone()
    mean, std = INFO["cifar10"].mean, INFO["cifar10"].std
    expected = functional.normalize(images.float() / 255, list(mean), list(std))
    assert torch.equal(normalise(images, mean, std), expected)
    assert torch.equal(images, before)
    half = normalise(images, mean, std, torch.bfloat16)
    assert half.dtype == torch.bfloat16 and torch.equal(half, expected.bfloat16())
    exact = normalise(images, mean, std, torch.float64)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact.float(), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("flip", "pad"), [(True, 4), (False, 4), (True, 0), (False, 1), (False, 0)]
)
@pytest.mark.parametrize(("channels", "size"), [(3, 8), (1, 5)])
def test_augmentation_equals_the_reference_image_by_image(
    device: str, flip: bool, pad: int, channels: int, size: int
) -> None:
    split = random_split(50, channels, size)
    augmenter = Augmenter(split.to(device), flip=flip, pad=pad)
    side = 2 * pad + 1
    for epoch in range(2):
        images, labels = augmenter.epoch(
            batch_size=16, order=generator(epoch), augmentation=generator(10 + epoch)
        )
        order = torch.randperm(50, generator=generator(epoch))[:48]
        draws = torch.randint((1 + flip) * side**2, (48,), generator=generator(10 + epoch))
        assert torch.equal(labels.cpu(), order)
        assert images.dtype == torch.uint8 and images.is_contiguous()
        for image, index, draw in zip(images.cpu(), order, draws.tolist(), strict=True):
            mirrored, row, column = draw // side**2, draw // side % side, draw % side
            assert torch.equal(image, crop(split.images[index], mirrored, row, column, pad))


def test_every_offset_and_flip_occurs_equally_often_and_on_its_own() -> None:
    """Read from the images alone: which flip and offset made each of them."""
    pad, count = 4, 20_000
    side = 2 * pad + 1
    source = random_split(1, 1, 8).images[0]
    split = Split(
        source.expand(count, -1, -1, -1).contiguous(), torch.zeros(count, dtype=torch.int64)
    )
    images, _ = Augmenter(split, flip=True, pad=pad).epoch(
        batch_size=100, order=None, augmentation=generator(3)
    )
    made = {
        crop(source, mirrored, row, column, pad).numpy().tobytes(): (mirrored, row, column)
        for mirrored in (0, 1)
        for row in range(side)
        for column in range(side)
    }
    assert len(made) == 2 * side**2
    seen = torch.tensor([made[image.tobytes()] for image in images.numpy()])
    flips, offsets = seen[:, 0], seen[:, 1] * side + seen[:, 2]
    assert abs(flips.double().mean().item() - 0.5) < 5 * 0.5 / count**0.5
    expected = count / side**2
    counts = torch.bincount(offsets, minlength=side**2)
    assert (counts > 0).all()  # every one of the (2 pad + 1)^2 offsets
    assert ((counts - expected) ** 2 / expected).sum() < 80 + 5 * (2 * 80) ** 0.5  # chi squared
    neighbours = (offsets[1:] == offsets[:-1]).double().mean().item()
    assert neighbours < 2 / side**2  # images of a batch do not share an offset


def test_same_generators_same_bits_other_epoch_other_bits() -> None:
    augmenter = Augmenter(random_split(64), flip=True, pad=2)

    def epoch(order: int, augmentation: int) -> tuple[torch.Tensor, torch.Tensor]:
        return augmenter.epoch(
            batch_size=8, order=generator(order), augmentation=generator(augmentation)
        )

    images, labels = epoch(1, 2)
    again, labels_again = epoch(1, 2)
    assert torch.equal(images, again) and torch.equal(labels, labels_again)
    _, other_labels = epoch(3, 2)
    assert not torch.equal(labels, other_labels)
    other_crops, same_labels = epoch(1, 4)
    assert torch.equal(labels, same_labels) and not torch.equal(images, other_crops)
    torch.manual_seed(0)  # the global generator has no say
    assert torch.equal(epoch(1, 2)[0], images)
    augmenter = Augmenter(augmenter.split, flip=True, pad=2)
    assert torch.equal(epoch(1, 2)[0], images)


def test_order_alone_permutes_and_nothing_leaves_in_place() -> None:
    split = random_split(50)
    augmenter = Augmenter(split, flip=True, pad=4)
    images, labels = augmenter.epoch(batch_size=16, order=generator(0), augmentation=None)
    assert len(images) == 48 and len(set(labels.tolist())) == 48
    assert torch.equal(images, split.images[labels])
    images, labels = augmenter.epoch(batch_size=16, order=None, augmentation=None, drop_last=False)
    assert torch.equal(images, split.images) and torch.equal(labels, split.labels)
    images, labels = augmenter.epoch(batch_size=16, order=None, augmentation=generator(0))
    assert torch.equal(labels, split.labels[:48])
    _, labels = augmenter.epoch(
        batch_size=64, order=generator(0), augmentation=generator(0), drop_last=False
    )
    assert sorted(labels.tolist()) == list(range(50))


def test_the_split_is_left_as_it_was() -> None:
    split = random_split(20)
    before = split.images.clone()
    images, _ = Augmenter(split, flip=True, pad=2).epoch(
        batch_size=4, order=generator(0), augmentation=generator(0)
    )
    images.zero_()
    assert torch.equal(split.images, before)


def test_a_batch_larger_than_the_split_is_a_users_mistake() -> None:
    augmenter = Augmenter(random_split(10), flip=False, pad=0)
    text = message(lambda: augmenter.epoch(batch_size=11, order=None, augmentation=None))
    assert "batch_size is 11" in text and "at most 10" in text
    images, _ = augmenter.epoch(batch_size=11, order=None, augmentation=None, drop_last=False)
    assert len(images) == 10
    assert "at least 1" in message(
        lambda: augmenter.epoch(batch_size=0, order=None, augmentation=None)
    )


def test_the_names_of_npz_arrays_stand_in_the_advice() -> None:
    info = parse_entry("own", entry())
    assert all(key in info.how_to_get for key in catalog.NPZ_ARRAYS)
