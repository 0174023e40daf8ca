"""Sweeps over layers and over pruned copies: what is put back, what is matched, what is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small import Tiny, same, seeded, write_study
from studies import BASE, ROOT, config, recipes, refused
from test_sweeps import SWEEP_RECIPES, SWEEP_STUDY, dense, permutations, state_of

from pipeline import models
from pipeline.artifacts.store import read_csv
from pipeline.catalog.layers import KINDS, chosen, layer_of, released, tensors
from pipeline.catalog.networks import NETWORKS
from pipeline.report.shown import Shown
from pipeline.report.tables import claims
from pipeline.results import Results
from pipeline.runs import Align, Connect
from pipeline.runs.sweeps import Prune
from pipeline.runs.sweeps.layers import Layers
from pipeline.stages.copies import pruned
from pipeline.stages.job import Job
from pipeline.study.config import read
from pipeline.study.graph import Graph
from pipeline.study.outputs.claims import Claims
from pipeline.study.outputs.sweep_barriers import SweepBarriers
from pipeline.symmetry.mixing import owners

LAYERED = {name: network.layers for name, network in NETWORKS.items() if network.layers}
WIDTH = {"mlp": 0.0625}


def names_of(network: str) -> list[str]:
    """The tensors of a network, in order."""
    width = WIDTH.get(network, 0.25)
    model = models.build(network, width=width, classes=10, channels=3, size=32, generator=None)
    return [*model.state_dict()]


# -- layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", LAYERED)
def test_layers_hold_every_tensor_once_in_their_order(network: str) -> None:
    layers, names = LAYERED[network], names_of(network)
    numbers = [layer_of(name, layers) for name in names]
    assert numbers == sorted(numbers) and {*numbers} == {*range(1, len(layers) + 1)}
    prefixes = [prefix for layer in layers for prefix in layer.names]
    assert all(sum(name.startswith(prefix) for prefix in prefixes) == 1 for name in names)
    assert len({released(name, layers) for name in names}) == len(names)


@pytest.mark.parametrize("network", ["vgg16_ln", "resnet20_ln"])
def test_layers_of_a_kind_are_those_that_the_work_says(network: str) -> None:
    """Section 5 of the work's laws, for every k."""
    names, layers = names_of(network), LAYERED[network]
    last = len(layers)

    def early(kind: Any, k: int) -> set[str]:
        return tensors(names, layers, kind, k, substring=False)

    assert early("bottom-up", 1) == set() and early("bottom-up", last + 1) == {*names}
    for k in range(1, last + 1):
        assert early("bottom-up", k) | early("put-in", k) == early("bottom-up", k + 1)
        assert early("bottom-up", k) & early("put-in", k) == set()
        assert early("top-down", k) == {*names} - early("bottom-up", k)
        assert early("leave-out", k) == {*names} - early("put-in", k)
        assert early("put-in", k) == {n for n in names if layer_of(n, layers) == k}


def counted(network: str, kind: Any, k: int) -> set[str]:
    """What the released code takes for k, by its own names."""
    layers = LAYERED[network]
    found = tensors(names_of(network), layers, kind, k, substring=True)
    return {released(name, layers) for name in found}


def test_the_substring_cut_is_that_of_the_released_code() -> None:
    """Its traps: digits of other layers' numbers, and of the names inside of blocks."""
    takes = {
        (network, k): {".".join(n.split(".")[:-2]) for n in counted(network, "put-in", k)}
        for network in ("vgg16_ln", "resnet20_ln")
        for k in range(2, 9)
    }
    assert takes["vgg16_ln", 2] == {f"layers.{i}" for i in (1, 10, 11, 12, 14, 15, 16)}
    assert takes["vgg16_ln", 4] == {"layers.4", "layers.14"}
    for k, own in ((3, "layers.3"), (6, "layers.7"), (8, "layers.10")):
        assert takes["vgg16_ln", k] == {own}
    blocks = {f"blocks.{i}" for i in range(9)}
    assert takes["resnet20_ln", 2] == {"blocks.0", "blocks.3.shortcut", "blocks.6.shortcut"}
    assert blocks <= takes["resnet20_ln", 3] and blocks <= takes["resnet20_ln", 4]
    assert "blocks.3.conv1.weight" in counted("resnet20_ln", "put-in", 3)
    assert "blocks.3.shortcut.1.weight" in counted("resnet20_ln", "put-in", 3)
    assert "blocks.3.conv1.weight" not in counted("resnet20_ln", "put-in", 4)
    for k, own in ((5, "blocks.3"), (6, "blocks.4")):
        assert {name.split(".shortcut")[0] for name in takes["resnet20_ln", k]} == {own}


@pytest.mark.parametrize("network", ["vgg16_ln", "vgg8_ln", "resnet20_ln"])
def test_cuts_of_the_released_code_are_right_but_for_two_of_residual_networks(network: str) -> None:
    names, layers = names_of(network), LAYERED[network]
    known = [k for k, layer in enumerate(layers, start=1) if layer.keyword]
    for k in known:
        exact, cut = (tensors(names, layers, "bottom-up", k, substring=s) for s in (False, True))
        if network == "resnet20_ln" and k in (3, 4):
            assert cut < exact
        else:
            assert cut == exact
        assert tensors(names, layers, "top-down", k, substring=True) == {*names} - cut
    if network == "resnet20_ln":
        two, three = (tensors(names, layers, "bottom-up", k, substring=True) for k in (2, 3))
        assert two == three


# -- permutations ------------------------------------------------------------------------------

SWEEPS = """
  composed: &composed {over: layers, epochs: [1, 2], layers: [1, 2, 3, 4]}
  matched: {<<: *composed, layers: [1, 3], kinds: [bottom-up, top-down], mix: weights}
  copied: {over: pruned, epochs: [2], fractions: [0, 0.5, 0.8]}
"""
STUDY = SWEEP_STUDY.replace(
    "outputs: {}",
    """
  layers: {<<: *pair, sweep: composed}
  copies: {<<: *pair, sweep: copied}
outputs:
  mixtures: {kind: partial-barrier, experiments: [layers], correction: none, matches: [tiny]}
  prunings: {kind: partial-barrier, experiments: [copies], last: true}
  settling: {kind: fixed-points, experiments: [layers], groups: true}
  definitions: {kind: notions, experiments: [pair]}
  claims: {kind: claims, outputs: [mixtures, prunings, settling, definitions]}
""",
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    torch.set_num_threads(1)
    root = write_study(tmp_path_factory.mktemp("layers"), SWEEP_RECIPES + SWEEPS, STUDY)
    return Tiny(root, root / "results")


def align(sweep: str, match: str = "tiny") -> Align:
    return Align((dense(0), dense(1)), match, sweep)


def test_a_mixture_has_each_group_from_the_epoch_of_its_layer(study: Tiny) -> None:
    found = permutations(study, align("composed"))
    plain = permutations(study, Align((dense(0), dense(1)), "tiny", "along"))
    assert all(same(found[point], plain[point]) for point in ("t0001", "t0002", "end"))
    owner = owners(Job(study.config, align("composed")).spec(align("composed")), LAYERED["mlp"])
    assert [*owner.values()] == [1, 2, 3]
    for point in ("t0001", "t0002"):
        assert not same(found[point], found["end"])
        assert same(found[f"bottom-up.1.{point}"], found["end"])
        assert same(found[f"bottom-up.4.{point}"], found[point])  # the head has no units
        assert same(found[f"top-down.1.{point}"], found[point])
        for kind in KINDS:
            for k in (2, 3):
                for group, number in owner.items():
                    source = point if number in chosen(kind, k, 4) else "end"
                    mixture = found[f"{kind}.{k}.{point}"][group]
                    assert torch.equal(mixture, found[source][group])


def test_a_residual_stream_belongs_to_the_layer_that_opens_it() -> None:
    network = NETWORKS["resnet20_ln"]
    model = models.build(network, width=0.25, classes=10, channels=3, size=8, generator=seeded(0))
    spec = models.traced(network, model, taps="last", images=(3, 8), proven="").spec
    found = owners(spec, network.layers)
    assert (found["stage1"], found["stage2"], found["stage3"]) == (1, 5, 8)
    inner = [found[f"stage{stage}.{place}.inner"] for stage in (1, 2, 3) for place in range(3)]
    assert inner == [*range(2, 11)]


def test_mixed_weights_are_matched_as_networks_of_their_own(study: Tiny) -> None:
    found = permutations(study, align("matched"))
    for point in ("t0001", "t0002"):
        assert same(found[f"bottom-up.1.{point}"], found["end"])
        assert same(found[f"top-down.1.{point}"], found[point])
    plain = permutations(study, align("composed"))
    assert not same(found["bottom-up.3.t0001"], plain["bottom-up.3.t0001"])
    run = align("matched")
    (each,) = (m for m in run.matchings(study.graph) if m.point == "bottom-up.3.t0001")
    assert [file.prefix[:9] for file in each.files] == ["", "", "epoch0001", "epoch0001"]
    fewer = align("composed").passes(study.graph)
    assert run.passes(study.graph) == pytest.approx((3 + 2 * 2 * 2) / 3 * fewer)


def test_mixtures_are_measured_at_the_end_between_the_networks_themselves(study: Tiny) -> None:
    run = Connect(align("composed"), "some")
    folder = study.make(run)
    lines = read_csv(folder / "barriers.csv")
    assert {line["evaluated_at"] for line in lines} == {"4"}
    assert {line["arm"] for line in lines} == {"none", "matched", *KINDS}
    height = {
        line["point"]: (line["loss_barrier"], line["distance"])
        for line in lines
        if line["split"] == "test"
    }
    assert height["bottom-up.1.t0001"] == height["end"] == height["bottom-up.1.t0002"]
    assert height["bottom-up.4.t0001"] == height["t0001"] != height["end"]
    assert {(line["a"], line["b"]) for line in lines} == {("0", "1")}


# -- pruned copies -----------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.8, 0.95])
@pytest.mark.parametrize("how", ["within", "over", "alike"])
def test_copies_lose_as_many_weights_as_was_asked(study: Tiny, fraction: float, how: str) -> None:
    state = state_of(study, dense(0), 4)
    names = [name for name in state if name.endswith("weight")]
    entries = sum(state[name].numel() for name in names)
    smallest, drawn = (
        pruned(state, names, Prune(criterion, fraction, how, "all"), 0, "end")
        for criterion in ("magnitude", "random")
    )
    assert all(
        torch.equal(copy[n], state[n])
        for copy in (smallest, drawn)
        for n in state
        if n not in names
    )
    lost = {
        key: {n: (copy[n] == 0) & (state[n] != 0) for n in names}
        for key, copy in (("smallest", smallest), ("drawn", drawn))
    }
    many = {key: sum(int(each.sum()) for each in of.values()) for key, of in lost.items()}
    exact = round(fraction * entries)
    assert abs(many["smallest"] - exact) <= sum(int((state[n] == 0).sum()) for n in names)
    assert abs(many["drawn"] - exact) <= 0.001 * entries + (len(names) if how == "alike" else 0)
    if fraction:
        left = torch.cat([state[n][~lost["smallest"][n]].abs() for n in names]).min()
        gone = torch.cat([state[n][lost["smallest"][n]].abs() for n in names]).max()
        assert gone <= left
        assert any(not torch.equal(lost["smallest"][n], lost["drawn"][n]) for n in names)
    shares = {key: [int(of[n].sum()) / of[n].numel() for n in names] for key, of in lost.items()}
    if how == "within":
        assert shares["drawn"] == pytest.approx(shares["smallest"], abs=0.01)
    else:
        assert shares["drawn"] == pytest.approx([fraction] * len(names), abs=0.06)


def test_random_places_are_a_networks_own(study: Tiny) -> None:
    """Other networks, epochs and fractions lose weights elsewhere; the same ones the same."""
    state = state_of(study, dense(0), 4)
    names = [name for name in state if name.endswith("weight")]

    def copy(seed: int, epoch: str, how: str = "over") -> dict[str, torch.Tensor]:
        return pruned(state, names, Prune("random", 0.5, how, "all"), seed, epoch)

    assert same(copy(0, "end"), copy(0, "end"))
    for other in (copy(1, "end"), copy(0, "t0002"), copy(0, "end", "alike")):
        assert not same(copy(0, "end"), other)


def test_permutations_of_pruned_copies(study: Tiny) -> None:
    found = permutations(study, align("copied"))
    plain = permutations(study, Align((dense(0), dense(1)), "tiny", "along"))
    for at in ("t0002", "end"):
        assert same(found[at], plain[at])
        for criterion in ("magnitude", "random"):
            assert same(found[f"{criterion}.0.{at}"], found[at])
        assert not same(found[f"random.0.8.{at}"], found[at])
    rows = read_csv(study.folder(align("copied")) / "align.csv")
    assert {row["reference"] for row in rows if row["point"].endswith(".t0002")} == {"t0002"}


def test_networks_are_measured_with_all_their_weights(study: Tiny) -> None:
    folder = study.make(Connect(align("copied"), "some"))
    lines = [line for line in read_csv(folder / "barriers.csv") if line["split"] == "test"]
    assert {line["evaluated_at"] for line in lines} == {"2", "4"}
    for now in ("2", "4"):
        ends = {(line["loss_a"], line["loss_b"]) for line in lines if line["evaluated_at"] == now}
        assert len({b for _, b in ends}) == 1
        assert len({round(float(a), 4) for a, _ in ends}) == 1  # a permutation changes last digits
    zero = {line["point"]: line["loss_barrier"] for line in lines}
    assert zero["magnitude.0.end"] == zero["random.0.end"] == zero["end"]


def test_the_frame_tells_layer_and_fraction(study: Tiny) -> None:
    for sweep in ("composed", "copied"):
        study.make(Connect(align(sweep), "all")), study.make(Connect(align(sweep, "random"), "all"))
    results = Results(study.config)
    layers = results.connections(SweepBarriers(experiments=("layers",)))
    mixed = layers[layers["arm"].isin(KINDS)]
    assert (mixed["level"] == mixed["point"].str.split(".").str[1].astype(float)).all()
    assert layers[~layers["arm"].isin(KINDS)]["level"].isna().all()
    copies = results.connections(SweepBarriers(experiments=("copies",)))
    assert {*copies["level"].dropna()} == {0.0, 0.5, 0.8}
    assert {*copies["over"]} == {"pruned"} and {*copies["dense"]} == {"serial"}


def test_claims_read_every_sweep_that_their_outputs_show(study: Tiny) -> None:
    """The kind ``claims`` on real runs, those that are not there among them."""
    for sweep in ("composed", "copied"):
        study.make(Connect(align(sweep), "all"))
    study.make(Connect(align("composed", "random"), "all"))
    output = study.config.outputs["claims"]
    assert isinstance(output, Claims)
    results = Results(study.config)
    found = {claim.id: claim for claim in claims.read(output, results)}
    # two matchings, epochs 1 and 2, three steps of k, two splits
    assert found["lower-layers-first"].of == 2 * 2 * 3 * 2
    assert found["weight-matching-rests-on-large-weights"].of > 0
    assert found["permutations-settle"].of >= 1 and found["lower-layers-settle-first"].of >= 1
    assert found["weakly-connected"].of == 0  # the sweep over epochs was not run
    assert "permuted-at-least-naive" not in found
    study.make(Connect(align("along"), "all"))
    found = {claim.id: claim for claim in claims.read(output, results)}
    assert found["weakly-connected"].of == found["simultaneously-connected"].of == 1
    assert found["one-permutation-connects-all-epochs"].of == 3
    table = claims.build(output, Shown("claims"), [*found.values()])
    assert "mixed-lie-between" in table.layout.index
    assert table.layout["Verdict"].eq("undecided").all()  # one pair decides nothing


# -- mistakes ----------------------------------------------------------------------------------

SWEPT: dict[str, Any] = BASE | {"sparsities": [], "rewind_epochs": [], "sweep": "mine",
                                "dense": "sharma-r", "model": "vgg16_ln"}  # fmt: skip
CUT = {"over": "layers", "epochs": [1], "layers": [2]}


@pytest.mark.parametrize(
    ("sweep", "study", "words"),
    [
        ({**CUT, "layers": [15]}, {}, ["layers: vgg16_ln has no layer 15, but 14"]),
        (CUT, {"model": "resnet50", "dataset": "imagenet"}, ["which layers 'resnet50' has is not declared"]),
        ({**CUT, "layers": [1], "mix": "weights", "layer_cut": "substring"}, {"model": "resnet20_ln"},
         ["no word for layer 1 of resnet20_ln"]),
        ({**CUT, "epochs": [2]}, {}, ["epoch 2 is kept by neither trunk nor series"]),
    ],
)  # fmt: skip
def test_a_sweep_that_does_not_fit_its_networks_is_refused(
    sweep: dict[str, Any], study: dict[str, Any], words: list[str]
) -> None:
    found = recipes()
    found["sweep"]["mine"] = sweep
    refused(lambda: config({"one": SWEPT | study}, recipes=found), "experiments: one", *words)


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({**CUT, "layer_cut": "substring"}, ["layer_cut: substring goes with mix: weights only"]),
        ({**CUT, "layers": []}, ["epochs, layers and kinds must name at least one each"]),
        ({**CUT, "layers": [0]}, ["layers[0]: 0 is not allowed"]),
        ({**CUT, "kinds": ["top-up"]}, ["kinds[0]", "top-up"]),
        ({"over": "pruned", "epochs": [1]}, ["fractions and criteria must name at least one each"]),
        ({"over": "pruned", "fractions": [1]}, ["fractions[0]: 1.0 is not allowed"]),
        ({"over": "pruned", "fractions": [0.12345678]}, ["at most six digits"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_sweep_recipe_is_one_line(sweep: dict[str, Any], words: list[str]) -> None:
    found = recipes()
    found["sweep"]["mine"] = sweep
    refused(lambda: config(recipes=found), "sweep: mine", *words)


OUTPUTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "verdicts on mixtures": (
        {"kind": "notions"}, ["needs a sweep over epochs, rounds or triples, not over layers"],
    ),
    "a kind that is not mixed": (
        {"kind": "partial-barrier", "kinds": ["leave-out"]},
        ["unknown kind of mixture 'leave-out'", "allowed: bottom-up"],
    ),
    "nothing": ({"kind": "partial-barrier", "metrics": []}, ["metrics and splits must name at least one"]),
    "epochs": (
        {"kind": "partial-barrier", "experiments": ["epochs"]},
        ["sweep 'sharma-eight' is neither over layers nor over pruned copies"],
    ),
    "both": (
        {"kind": "partial-barrier", "experiments": ["one", "copies"]},
        ["sweeps over layers and over pruned copies: a figure each"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_mistake_in_a_figure_of_copies_is_one_line(name: str) -> None:
    wrong, words = OUTPUTS[name]
    found = recipes()
    found["sweep"]["mine"] = CUT | {"kinds": ["bottom-up"]}
    swept = SWEPT | {"connectivity": "sharma"}
    experiments = {
        "one": swept,
        "copies": swept | {"sweep": "sharma-pruned"},
        "epochs": swept | {"sweep": "sharma-eight"},
    }
    study = {
        "experiments": experiments,
        "outputs": {"figure_one": {"experiments": ["one"]} | wrong},
    }
    refused(lambda: config(study=study, recipes=found), "outputs: figure_one", *words)


def test_the_released_code_cuts_by_substrings_without_biases_ten_epochs_early() -> None:
    study = read(ROOT, {"study": "sharma", "protocol": "sharma-released"})
    for name in ("vgg-layers", "resnet-layers"):
        one = study.experiments[name]
        assert isinstance(one.over, Layers)
        assert (one.over.mix, one.over.layer_cut, one.over.final) == ("weights", "substring", 150)
        (label,) = one.matchers.values()
        assert not study.recipes.resolve("match", label).biases
    text = read(ROOT, {"study": "sharma"}).experiments["vgg-layers"]
    assert isinstance(text.over, Layers)
    assert (text.over.mix, text.over.layer_cut, text.over.final) == ("weights", "exact", None)
    (run, *_) = text.aligned()
    lines = run.lines(Graph(read(ROOT, {"study": "sharma"})), ())
    assert len(lines) == 1 + 9 + 8 * 5 * 4  # no π, π of nine epochs, and Figure 17's mixtures


def test_a_path_of_a_network_without_layers_is_refused_in_one_line(tmp_path: Path) -> None:
    root = write_study(tmp_path, SWEEP_RECIPES + SWEEPS.replace("[1, 2, 3, 4]", "[5]"), SWEEP_STUDY)
    tiny = Tiny(root, root / "results")
    refused(lambda: tiny.graph.inputs(align("composed")), "composed/a0-b1", "no layer 5, but 4")
