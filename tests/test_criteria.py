"""Laws of pruning criteria, at the start or after rounds, and of masks of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
import yaml
from small import RECIPES, STUDY, Tiny, same, seeded, write_study
from torch import Tensor
from torch.nn.functional import cross_entropy

from pipeline import models, pruning, symmetry
from pipeline.artifacts.store import read_tensors, write_tensors
from pipeline.data.augment import normalise
from pipeline.errors import UserError
from pipeline.pruning.criteria import CRITERIA, Occasion
from pipeline.runs import ImpBlock, Mask, Match, Solution
from pipeline.runs.dense import epoch_prefix
from pipeline.streams import generator
from pipeline.study.settings import ImpSettings
from pipeline.weights import read_mask, read_state, write_mask

OWN = "masks/{seed}-{sparsity}.safetensors"
RECIPES_OF = {name: {"criterion": name, "prune_at": "start"} for name in CRITERIA} | {
    "rounds": {"criterion": "layerwise", "epochs": 1, "lr": 0.02, "batch_size": 64},
    "own": {"prune_at": "start", "mask_file": OWN},
}


def weights(seed: int = 0) -> dict[str, Tensor]:
    """Layers of very different scales."""
    draws = seeded(seed)
    shapes = {"one": (8, 30), "two": (20, 3, 3), "three": (7,)}
    return {
        name: 10.0**n * torch.randn(shape, generator=draws)
        for n, (name, shape) in enumerate(shapes.items())
    }


def occasion(mask: pruning.Mask | None = None) -> Occasion:
    own = weights()
    return Occasion(own, mask or pruning.full(own), lambda: weights(1), lambda purpose: seeded(3))


def test_every_value_of_criterion_has_an_entry_and_no_other() -> None:
    assert sorted(get_args(get_type_hints(ImpSettings)["criterion"])) == sorted(CRITERIA)


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_prunes_just_as_much_as_is_asked_and_revives_nothing(name: str) -> None:
    scores = CRITERIA[name](occasion())
    half = pruning.prune_to(scores, pruning.full(scores), 0.5)
    assert pruning.count(half)[0] == round(0.5 * pruning.count(half)[1])
    again = pruning.prune_fraction(CRITERIA[name](occasion(half)), half, 0.2)
    assert all(bool((half[n] | ~kept).all()) for n, kept in again.items())
    left = sum(int(kept.sum()) for kept in half.values())
    assert sum(int(kept.sum()) for kept in again.values()) == left - round(0.2 * left)
    assert same(scores, CRITERIA[name](occasion()))


def test_layerwise_magnitude_takes_the_smallest_of_each_layer_alike() -> None:
    mask = pruning.full(weights())
    for share in (0.5, 0.8):
        mask = pruning.prune_to(CRITERIA["layerwise"](occasion(mask)), mask, share)
        for name, weight in weights().items():
            zeros = int((~mask[name]).sum())
            assert abs(zeros - share * weight.numel()) <= 1.5
            smallest = weight.abs().flatten().argsort()[:zeros]
            assert not mask[name].flatten()[smallest].any()


def test_random_pruning_looks_at_no_weight_and_takes_all_alike() -> None:
    scores = CRITERIA["random"](occasion())
    other = Occasion(weights(9), pruning.full(weights()), dict, lambda purpose: seeded(3))
    assert same(scores, CRITERIA["random"](other))
    mask = pruning.prune_to(scores, pruning.full(scores), 0.5)
    for kept in mask.values():
        expected, deviation = kept.numel() / 2, kept.numel() ** 0.5 / 2
        assert abs(int(kept.sum()) - expected) < 4 * deviation


def test_snip_is_how_fast_the_loss_changes_with_a_connection() -> None:
    """d L(c w) / dc at c = 1, for each connection c, by finite differences."""
    inputs, wanted = (torch.randn(5, n, generator=seeded(n)).double() for n in (4, 3))
    weight = torch.randn(3, 4, generator=seeded(0)).double().requires_grad_()

    def loss(given: Tensor) -> Tensor:
        return ((inputs @ given.T).tanh() - wanted).square().mean()

    (slope,) = torch.autograd.grad(loss(weight), [weight])
    own = {"w": weight.detach()}
    scores = CRITERIA["snip"](Occasion(own, pruning.full(own), lambda: {"w": slope}, seeded))["w"]  # type: ignore[arg-type]
    for place in range(12):
        connections = torch.ones(12).double()
        heights = []
        for step in (1e-5, -1e-5):
            connections[place] = 1 + step
            heights.append(loss(own["w"] * connections.reshape(3, 4)))
        assert float(abs(heights[0] - heights[1]) / 2e-5) == pytest.approx(
            float(scores.flatten()[place]), rel=1e-6, abs=1e-12
        )


# -- in a study --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The small study with an experiment for each criterion."""
    recipes, experiments = yaml.safe_load(RECIPES), yaml.safe_load(STUDY)
    recipes["imp"] |= RECIPES_OF
    tiny = experiments["experiments"]["tiny"]
    experiments["experiments"] |= {name: tiny | {"imp": name} for name in RECIPES_OF}
    place = tmp_path_factory.mktemp("criteria")
    root = write_study(place / "study", yaml.safe_dump(recipes), yaml.safe_dump(experiments))
    return Tiny(root, place / "results")


@pytest.fixture(autouse=True)
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "study" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("study").root)


def initial(study: Tiny) -> tuple[torch.nn.Module, list[str]]:
    """The network of seed 0 as it began, and what may be pruned of it."""
    study.make(study.dense())
    model = models.build(
        "resnet20", width=0.25, classes=10, channels=1, size=8, generator=generator(0, "init")
    )
    state = read_state(study.path(study.dense(), "trunk.safetensors"), f"{epoch_prefix(0)}weights/")
    model.load_state_dict(state)
    return model, models.prunable_parameters(model, "all")


def test_snip_prunes_the_initialisation_and_trains_nothing_before(study: Tiny) -> None:
    model, names = initial(study)
    mask = study.mask(0.6, "snip")
    assert not any(isinstance(run, ImpBlock) for run in study.graph.closure([mask]))
    found = read_mask(study.make(mask) / "mask.safetensors")
    data, settings = study.config.datasets["few"], study.config.recipes.resolve("imp", "snip")
    from pipeline.data import load

    few = load(data, study.config.data_root)
    chosen = torch.randperm(len(few.train), generator=generator(0, "prune-images", 1))  # type: ignore[arg-type]
    chosen = chosen[: settings.score_images]
    images = normalise(few.train.images[chosen], few.mean, few.std)
    loss = cross_entropy(model.train()(images), few.train.labels[chosen])
    own = {name: dict(model.named_parameters())[name] for name in names}
    slopes = torch.autograd.grad(loss, [*own.values()])
    scores = {n: (w * g).abs().detach() for (n, w), g in zip(own.items(), slopes, strict=True)}
    wanted = pruning.prune_to(scores, pruning.full(scores), 0.6)
    apart = sum(int((found[name] != wanted[name]).sum()) for name in names)
    assert apart <= 4  # rounding of kernels at the threshold
    assert pruning.count(found) == pruning.count(wanted)


@pytest.mark.parametrize("name", ["layerwise", "random"])
def test_other_criteria_prune_at_the_start_too(study: Tiny, name: str) -> None:
    _, names = initial(study)
    found = read_mask(study.make(study.mask(0.6, name)) / "mask.safetensors")
    shares = pruning.per_layer(found)
    assert sorted(shares) == sorted(names) and pruning.sparsity(found) == pytest.approx(
        0.6, abs=1e-4
    )
    spread = max(shares.values()) - min(shares.values())
    assert spread < (0.02 if name == "layerwise" else 0.25)


def test_a_criterion_prunes_after_rounds_of_training(study: Tiny) -> None:
    mask = study.mask(0.5, "rounds")
    (block,) = (run for run in study.graph.closure([mask]) if isinstance(run, ImpBlock))
    found = read_mask(study.make(mask) / "mask.safetensors")
    assert block.rounds(study.graph) and pruning.sparsity(found) == pytest.approx(0.5, abs=1e-4)
    for kept in found.values():  # each prune rounds
        assert abs(int((~kept).sum()) - 0.5 * kept.numel()) <= mask.prunes(study.graph)


def test_a_mask_of_ones_own_is_permuted_and_trained_like_ours(study: Tiny) -> None:
    model, names = initial(study)
    state = model.state_dict()
    mine = {name: state[name] > state[name].quantile(0.6) for name in names}
    Path("masks").mkdir(exist_ok=True)
    write_tensors(Path("masks/0-0.60.safetensors"), mine)
    run = study.cell("permuted", experiment="own").run
    trained = read_tensors(study.make(run) / "weights.safetensors")
    assert run.match is not None
    permutation = read_tensors(study.path(run.match))
    spec = models.traced("resnet20", model).spec
    moved = symmetry.apply(spec, permutation, mine)
    packed = pruning.pack(moved)
    assert all(torch.equal(trained[f"bits/{name}"], bits) for name, bits in packed.items())
    assert any(isinstance(each, Match) for each in study.graph.closure([run]))
    # the same mask as the program writes them, and another one, which makes the runs stale
    before = study.graph.digest(run.mask)
    write_mask(Path("masks/0-0.60.safetensors"), mine)
    again = Tiny(study.root, study.results)
    again.run(run.mask)
    assert same(read_mask(again.path(run.mask)), mine) and again.graph.digest(run.mask) != before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"missing": None}, "No such file"),
        ({"stem.weight": torch.ones(3)}, "not a mask of the weights"),
        ({"shape": None}, "expected ["),
        ({"sparsity": None}, "prunes 0 of the weights, expected 0.60"),
    ],
    ids=lambda change: next(iter(change)) if isinstance(change, dict) else "",
)
def test_a_file_that_does_not_fit_is_told_in_one_line(
    study: Tiny, change: dict[str, Tensor | None], said: str
) -> None:
    model, names = initial(study)
    path = Path("masks/0-0.60.safetensors")
    path.parent.mkdir(exist_ok=True)
    tensors = {name: torch.ones(model.state_dict()[name].shape) for name in names}
    if "missing" in change:
        path.unlink(missing_ok=True)
    elif "shape" in change:
        write_tensors(path, tensors | {names[0]: torch.ones(2, 2)})
    else:
        write_tensors(path, tensors if "sparsity" in change else change)  # type: ignore[arg-type]
    own = Tiny(study.root, study.results)
    with pytest.raises(UserError) as told:
        own.run(own.mask(0.6, "own"))
    assert said in str(told.value) and "\n" not in str(told.value) and str(path) in str(told.value)


def test_what_goes_with_no_pruning_at_the_start_is_refused(study: Tiny) -> None:
    mask = study.mask(0.6, "snip")
    for run, said in (
        (Solution(mask), "no IMP solution"),
        (Mask(mask.dense, "snip", "P3"), "meets S itself"),
    ):
        with pytest.raises(UserError, match=said):
            study.graph.check(run)
    for settings, said in (
        (ImpSettings(mask_file="x"), "prune_at: start"),
        (ImpSettings(mask_file="x", prune_at="start", criterion="snip"), "prune nothing"),
    ):
        with pytest.raises(UserError, match=said):
            settings.check("imp: mine")
