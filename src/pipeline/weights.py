"""Files of weights and masks: dense states, and sparse states as bits and non-zero values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline import pruning
from pipeline.artifacts.store import read_info, read_tensors, write_tensors
from pipeline.errors import UserError

_BITS, _VALUES, _DENSE = "bits/", "values/", "dense/"


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, which is taken off."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's state on the CPU, which later training does not change."""
    return {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}


def write_mask(path: Path, mask: Mapping[str, Tensor]) -> None:
    """Write a mask, one bit a weight."""
    shapes = {name: list(m.shape) for name, m in mask.items()}
    write_tensors(path, pruning.pack(mask), {"shapes": shapes})


def read_mask(path: Path) -> pruning.Mask:
    """Read a mask written by ``write_mask``.

    Raises:
        UserError: missing or damaged, or not a file of a mask; with the file's name.
    """
    packed, info = read_tensors(path), read_info(path)
    shapes = info.get("shapes") if isinstance(info, dict) else None
    if not isinstance(shapes, dict):
        raise UserError(f"{path}: not a file of a mask")
    try:
        return pruning.unpack(packed, shapes)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def own_mask(path: Path, weights: Mapping[str, Tensor], sparsity: str) -> pruning.Mask:
    """A mask from anywhere: one that ``write_mask`` wrote, or tensors that are 0 where it prunes.

    weights: those that may be pruned; the mask says of each what is kept. sparsity: what it has, as it
    stands in paths, but for what its digits do not tell.

    Raises:
        UserError: missing or damaged, not of these weights, or of another sparsity.
    """
    tensors = read_tensors(path)
    packed = all(tensor.dtype == torch.uint8 and tensor.ndim == 1 for tensor in tensors.values())
    mask = read_mask(path) if packed else {name: tensor != 0 for name, tensor in tensors.items()}
    if odd := sorted(set(mask) ^ set(weights)):
        raise UserError(f"{path}: not a mask of the weights that may be pruned: {', '.join(odd)}")
    for name, weight in weights.items():
        if mask[name].shape != weight.shape:
            shapes = f"{list(mask[name].shape)}, expected {list(weight.shape)}"
            raise UserError(f"{path}: {name} is {shapes}")
    found, half = pruning.sparsity(mask), 0.5 * 10.0 ** -len(sparsity.partition(".")[2])
    if not abs(found - float(sparsity)) <= half:
        raise UserError(f"{path}: prunes {found:.6g} of the weights, expected {sparsity}")
    return {name: mask[name] for name in weights}


def sparse_state(state: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state as bits and values of what the mask keeps, and the other tensors as they are."""
    packed = {_BITS + name: bits for name, bits in pruning.pack(mask).items()}
    values = {_VALUES + name: state[name].cpu()[m.cpu()] for name, m in mask.items()}
    rest = {_DENSE + name: tensor for name, tensor in state.items() if name not in mask}
    return packed | values | rest


def is_sparse(tensors: Iterable[str]) -> bool:
    """Whether these are the names of a state that ``sparse_state`` made."""
    return any(name.startswith(_BITS) for name in tensors)


def dense_state(
    tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], pruning.Mask]:
    """Inverse of ``sparse_state``: the full state, zeros where masked, and the mask.

    ``like`` is a state of the network, for its shapes. Raises UserError where they do not fit.
    """
    packed, state = under(_BITS, tensors), under(_DENSE, tensors)
    if odd := sorted(set(like) ^ (set(packed) | set(state))):
        raise UserError(f"sparse weights do not fit the network: {', '.join(odd)}")
    mask = pruning.unpack(packed, {name: list(like[name].shape) for name in packed})
    for name, m in mask.items():
        values = tensors.get(_VALUES + name)
        if values is None or values.shape != (int(m.sum()),):
            raise UserError(f"sparse weights do not fit their mask: {name}")
        state[name] = torch.zeros(m.shape, dtype=values.dtype)
        state[name][m] = values
    for name, tensor in like.items():
        if state[name].shape != tensor.shape:
            raise UserError(f"sparse weights do not fit the network: {name}")
    return state, mask


def read_state(
    path: Path, prefix: str = "", like: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """A network's state from a file, dense or sparse, ready for ``load_state_dict``.

    ``like`` gives the shapes that a sparse file needs (a fresh network's ``state_dict``).

    Raises:
        UserError: missing or damaged, or not of the network; with the file's name.
    """
    tensors = read_tensors(path, prefix)
    if not is_sparse(tensors):
        return tensors
    if like is None:
        raise UserError(f"{path}: holds sparse weights: give the network's state_dict as 'like'")
    try:
        return dense_state(tensors, like)[0]
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
