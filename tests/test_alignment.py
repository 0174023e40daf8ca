"""Laws of the library face: permutations act as a group, merging ends at the ends, files keep bits."""

from __future__ import annotations

import copy
import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from small import REPOSITORY, fit, same, seeded
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pipeline
from pipeline import Alignment, align, align_all, symmetry
from pipeline.alignment import SPLIT
from pipeline.artifacts.store import canonical, write_tensors
from pipeline.errors import UserError
from pipeline.models import prunable_parameters

Batches = list[tuple[Tensor, Tensor]]


def convolutional() -> nn.Module:
    head = [nn.Flatten(), nn.Linear(12 * 4, 24), nn.ReLU(), nn.Linear(24, 10)]
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.MaxPool2d(2), *head,
    )  # fmt: skip


def perceptron() -> nn.Module:
    """Of inputs [N, 64], no images."""
    return nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 10)
    )


KINDS = {"convolutional": convolutional, "perceptron": perceptron}


@functools.cache
def batches(kind: str) -> Batches:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (torch.from_numpy(data.images).float()[:800] - 4.88) / 6.02
    images = images[:, None] if kind == "convolutional" else images.flatten(1)
    labels = torch.from_numpy(data.target)[:800]
    return list(zip(images.split(100), labels.split(100), strict=True))


@functools.cache
def trained(kind: str, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = KINDS[kind]()
    images, labels = (torch.cat(part) for part in zip(*batches(kind), strict=True))
    order = torch.cat([torch.randperm(800, generator=seeded(seed + e)) for e in range(8)])
    fit(model, torch.optim.Adam(model.parameters(), 3e-3), images, labels, order.split(50))
    with torch.no_grad():
        assert (model(images).argmax(1) == labels).float().mean() > 0.8
    return model


@functools.cache
def found(kind: str, a: int = 0, b: int = 1) -> Alignment:
    return align(trained(kind, a), trained(kind, b), batches(kind))


def by_kind() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", KINDS)


@by_kind()
def test_the_inverse_undoes_what_is_applied(kind: str) -> None:
    state = trained(kind, 0).state_dict()
    there, back = found(kind), found(kind).inverse()
    assert not same(there.apply(state), state)
    assert same(back.apply(there.apply(state)), state)
    assert back.networks == (trained(kind, 1), trained(kind, 0))
    again = align(trained(kind, 1), trained(kind, 0), batches(kind))
    for name, quality in again.quality.items():
        turned = back.quality[name]
        assert (quality.dead_a, quality.dead_b) == (turned.dead_a, turned.dead_b)
        assert quality.matched == pytest.approx(turned.matched, abs=1e-9)
        assert quality.objective == pytest.approx(turned.objective, abs=1e-9)


@by_kind()
def test_what_is_composed_acts_as_one_after_the_other(kind: str) -> None:
    inner, outer = found(kind, 0, 1), found(kind, 1, 2)
    both, state = outer.compose(inner), trained(kind, 0).state_dict()
    assert same(both.apply(state), outer.apply(inner.apply(state)))
    assert both.networks == (trained(kind, 0), trained(kind, 2)) and not both.quality
    still = inner.inverse().compose(inner)
    assert same(still.permutation, symmetry.identity(inner.spec))


@by_kind()
def test_a_network_moved_computes_the_same(kind: str) -> None:
    a, (images, _) = trained(kind, 0), batches(kind)[0]
    moved = found(kind).apply(a)
    with torch.no_grad():
        assert torch.allclose(moved(images), a(images), atol=1e-4)
    assert same(moved.state_dict(), found(kind).apply(a.state_dict()))


@by_kind()
def test_a_mask_moves_with_the_weights(kind: str) -> None:
    a, alignment = trained(kind, 0), found(kind)
    names = prunable_parameters(a, "all")
    state = a.state_dict()
    mask = {name: state[name].abs() > state[name].abs().median() for name in names}
    masked = {name: state[name] * mask[name] for name in names}
    moved, kept = alignment.apply(state), alignment.apply(mask)
    assert all(tensor.dtype == torch.bool for tensor in kept.values())
    assert same(alignment.apply(masked), {name: moved[name] * kept[name] for name in names})


@pytest.mark.parametrize("matcher", ["correlation", "inner", "weights"])
@by_kind()
def test_a_planted_permutation_is_recovered(kind: str, matcher: str) -> None:
    """On every live unit: those that never fire are alike to who looks at activations."""
    b = trained(kind, 1)
    spec = found(kind).spec
    planted = symmetry.random(spec, seeded(5))
    a = copy.deepcopy(b)
    a.load_state_dict(symmetry.apply(spec, symmetry.inverse(planted), b.state_dict()))
    back = align(a, b, batches(kind), matcher=matcher)
    for name, index in back.permutation.items():
        assert int((index != planted[name]).sum()) <= back.quality[name].dead_b
    if matcher == "weights":
        assert same(back.apply(a.state_dict()), b.state_dict())


@by_kind()
def test_a_network_and_itself_have_no_barrier(kind: str) -> None:
    a = trained(kind, 0)
    alone = align(a, a, batches(kind))
    assert same(alone.permutation, symmetry.identity(alone.spec))
    assert alone.barrier(batches(kind), points=5) == pytest.approx(0, abs=1e-9)
    assert alone.barrier(batches(kind), points=5, metric="error") == pytest.approx(0, abs=1e-9)


@by_kind()
def test_aligning_lowers_the_barrier(kind: str) -> None:
    alignment = found(kind)
    before, after = (alignment.barrier(batches(kind), points=5, permuted=p) for p in (False, True))
    assert 0 < after < before
    assert all(q.matched > max(q.identity, q.random) for q in alignment.quality.values())


@pytest.mark.parametrize("correction", ["none", "reset"])
@by_kind()
def test_merging_ends_at_the_ends(kind: str, correction: str) -> None:
    a, b, alignment = trained(kind, 0), trained(kind, 1), found(kind)
    ends = [alignment.merge(alpha, correction, batches(kind)) for alpha in (0, 1)]
    assert same(ends[0].state_dict(), alignment.apply(a.state_dict()))
    assert same(ends[1].state_dict(), b.state_dict())
    assert not any(module.training for module in ends[0].modules())


@pytest.mark.parametrize("correction", ["none", "reset", "repair"])
def test_a_merged_network_has_the_loss_of_the_curve(correction: str) -> None:
    alignment, given = found("convolutional"), batches("convolutional")
    rows = alignment.curve(given, corrections=(correction,), points=3)
    (middle,) = (row for row in rows if row["alpha"] == 0.5)
    assert middle["split"] == SPLIT
    merged = alignment.merge(0.5, correction, given)
    with torch.no_grad():
        logits = [merged(images) for images, _ in given]
    wrong = [(o.argmax(1) != labels).sum() for o, (_, labels) in zip(logits, given, strict=True)]
    assert 100 * sum(map(int, wrong)) / 800 == pytest.approx(middle["error"])


@pytest.mark.parametrize("matcher", ["correlation", "weights"])
@by_kind()
def test_a_file_keeps_every_bit(kind: str, matcher: str, tmp_path: Path) -> None:
    a, b = trained(kind, 0), trained(kind, 1)
    kept = align(a, b, batches(kind), matcher=matcher)
    kept.save(tmp_path / "one.safetensors")
    read = Alignment.load(tmp_path / "one.safetensors", a, b)
    assert read.spec == kept.spec and canonical(read.match.search) == canonical(kept.match.search)
    assert read.quality == kept.quality and read.match.images == kept.match.images
    assert same(read.permutation, kept.permutation)
    assert [*read.permutation] == [*kept.permutation]
    assert read.barrier(batches(kind), points=3) == kept.barrier(batches(kind), points=3)
    read.save(tmp_path / "two.safetensors")
    one, two = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    alone = Alignment.load(tmp_path / "one.safetensors")
    assert same(alone.apply(a.state_dict()), kept.apply(a.state_dict()))
    with pytest.raises(UserError, match=r"load\(path, a, b\)"):
        alone.merge()


def test_networks_and_batches_are_left_as_they_are() -> None:
    a, b = (trained("convolutional", seed) for seed in (0, 1))
    before = [copy.deepcopy(each.train().state_dict()) for each in (a, b)]
    alignment = align(a, b, batches("convolutional"))
    alignment.barrier(batches("convolutional"), points=3, correction="repair")
    alignment.merge(0.5, "repair", batches("convolutional"))
    assert all(same(each.state_dict(), was) for each, was in zip((a, b), before, strict=True))
    assert a.training and b.training
    a.eval(), b.eval()


def test_batches_may_be_a_list_a_loader_or_a_function_with_labels_or_without() -> None:
    given = batches("perceptron")
    images, labels = (torch.cat(part) for part in zip(*given, strict=True))

    def drawn() -> Iterator[Tensor]:
        return iter(images.split(100))

    loader = DataLoader(TensorDataset(images, labels), batch_size=100)
    for each in (loader, drawn, [images for images, _ in given]):
        again = align(trained("perceptron", 0), trained("perceptron", 1), each)
        assert same(again.permutation, found("perceptron").permutation)
        assert again.match.images == 800
    assert align(*found("perceptron").networks, given, matcher="weights").match.images == 0  # type: ignore[misc]


@pytest.mark.parametrize("matcher", ["correlation", "weights"])
def test_several_networks_are_aligned_without_contradiction(matcher: str) -> None:
    networks = [trained("perceptron", seed) for seed in range(3)]
    first, one, two = align_all(networks, batches("perceptron"), matcher=matcher)
    assert same(first.permutation, symmetry.identity(first.spec))
    around = two.inverse().compose(one)  # from the second to the third
    assert around.networks == (networks[1], networks[2])
    assert same(two.compose(around).permutation, one.permutation)
    alone = align(networks[1], networks[0], batches("perceptron"), matcher=matcher)
    assert same(alone.permutation, one.permutation)


#: Calls with two networks and batches, each with words of the line in which it is refused.
MISTAKES: dict[str, tuple[Callable[..., object], str]] = {
    "matcher": (lambda a, b, given: align(a, b, given, matcher="magic"), "unknown value 'magic'"),
    "setting": (lambda a, b, given: align(a, b, given, tips=3), "tips"),
    "value": (lambda a, b, given: align(a, b, given, starts=0), "starts"),
    "networks": (lambda a, b, given: align(a, trained("convolutional", 0), given), "architecture"),
    "iterator": (lambda a, b, given: align(a, b, iter(given)), "more than once"),
    "none": (lambda a, b, given: align(a, b, []), "there are none"),
    "integers": (lambda a, b, given: align(a, b, [given[0][0].long()]), "real numbers"),
    "one alone": (lambda a, b, given: align_all([a], given), "two or more"),
}
#: And with an alignment and batches.
MISUSES: dict[str, tuple[Callable[..., object], str]] = {
    "labels": (lambda own, given: own.barrier([images for images, _ in given]), "labels"),
    "points": (lambda own, given: own.curve(given, points=1), "2 ends"),
    "alpha": (lambda own, given: own.merge(2), "alpha 2"),
    "no batches": (lambda own, given: own.merge(0.5, "reset"), "needs batches"),
    "no place": (lambda own, given: own.merge(0.5, "repair", given), "REPAIR needs"),
    "blocks": (lambda own, given: own.merge(0.5, "repair-blocks", given), "repair-blocks"),
    "correction": (lambda own, given: own.barrier(given, correction="magic"), "magic"),
    "foreign": (lambda own, given: own.apply({"other": torch.zeros(2)}), "belongs"),
    "other groups": (lambda own, given: own.compose(found("convolutional")), "composed"),
}


@pytest.mark.parametrize("mistake", [*MISTAKES, *MISUSES])
def test_a_mistake_is_told_in_one_line(mistake: str) -> None:
    call, words = (MISTAKES | MISUSES)[mistake]
    own = [trained("perceptron", seed) for seed in (0, 1)]
    with pytest.raises(UserError) as told:
        call(*(own if mistake in MISTAKES else [found("perceptron")]), batches("perceptron"))
    assert words in str(told.value) and "\n" not in str(told.value)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    for info in (None, {"kind": "alignment 1"}, {"kind": "mask"}):
        write_tensors(path, {"0": torch.arange(3)}, info)
        with pytest.raises(UserError, match=r"not a file of an alignment|damaged"):
            Alignment.load(path)
    found("perceptron").save(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="damaged"):
        Alignment.load(path)


def test_the_package_itself_loads_no_torch() -> None:
    code = "import pipeline, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    with pytest.raises(AttributeError, match="nothing"):
        pipeline.nothing  # noqa: B018


def test_the_page_on_aligning_says_what_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (REPOSITORY / "docs" / "how-to" / "align.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    known = dict(zip("ab", (trained("convolutional", seed) for seed in (0, 1)), strict=True))
    known |= dict.fromkeys(("train", "test"), batches("convolutional"))
    exec(block, known)
    assert known["after"] < known["before"]  # type: ignore[operator]
    assert Alignment.load("a-to-b.safetensors").quality == known["found"].quality  # type: ignore[attr-defined]
