"""Whether a run computes on a GPU, and whether that GPU can: if not, one line, before any training.

A GPU that is there and cannot be used never means the CPU in silence, and arithmetic that the
hardware lacks never means slow kernels in silence.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterable

import torch

from pipeline.errors import UserError
from pipeline.machine.baton import seat
from pipeline.machine.gpu_slots import present

#: Compute capability from which on a GPU multiplies in TF32 and bf16.
AMPERE = (8, 0)

_said = set[str]()


def usable(wanted: str) -> bool:
    """Whether to compute on a GPU; ``wanted``: "cpu", "cuda", or "auto", where there is one.

    Raises:
        UserError: one is asked for or there, and cannot be used; with PyTorch's reason.
    """
    if wanted == "cpu":
        return False
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return True
    if not present():
        if wanted == "auto":
            return False
        raise UserError("config.yaml: device: cuda, but no GPU can be used here")
    reason = "PyTorch does not find it"
    if torch.version.cuda is None:
        reason = f"torch {torch.__version__} is built without CUDA"
    elif said:
        _, _, text = str(said[0].message).rpartition("CUDA initialization: ")
        reason = text.partition(" (Triggered")[0].partition(". ")[0]
    raise UserError(
        f"a GPU is there, but cannot be used: {reason}; config.yaml: device: cpu computes without it"
    )


def check(device: torch.device, precision: str) -> None:
    """Refuse what a device cannot compute, or only by detours; say where bf16 saves no time.

    Raises:
        UserError: PyTorch has no code for the GPU, or the hardware lacks ``precision``.
    """
    if device.type == "cpu":
        if precision == "tf32":
            raise UserError(
                "precision: tf32 needs a GPU, and this run computes on the CPU; allowed here: "
                "fp32, bf16"
            )
        if precision == "bf16" and not _cpu_has_bf16():
            _say("bf16: this processor has no instructions for it: fp32 is faster here")
        return
    capability, name = torch.cuda.get_device_capability(device), torch.cuda.get_device_name(device)
    found = "{}.{}".format(*capability)
    built = torch.cuda.get_arch_list()
    if not has_code(capability, built):
        raise UserError(
            f"{name} (compute capability {found}) cannot run torch {torch.__version__}, which is "
            f"built for {', '.join(built)}; config.yaml: device: cpu computes without it"
        )
    if precision != "fp32" and capability < AMPERE:
        raise UserError(
            f"precision: {precision} needs a GPU of compute capability {AMPERE[0]}.{AMPERE[1]}, and "
            f"{name} has {found}; allowed here: fp32"
        )


def has_code(capability: tuple[int, int], built: Iterable[str]) -> bool:
    """Whether a build runs on a GPU: ``sm_XY`` on X.Y and later ones of X, ``compute_XY`` on all later."""
    for name in built:
        kind, _, digits = name.rstrip("af").partition("_")
        major, minor = int(digits[:-1]), int(digits[-1])
        later = capability[1] >= minor if capability[0] == major else capability[0] > major
        if later and (kind == "compute" or capability[0] == major):
            return True
    return False


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16; taken for granted where it is not known."""
    known = platform.machine() in ("x86_64", "AMD64")
    return not known or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _say(line: str) -> None:
    """Print a line, once a run."""
    run = seat()
    said = run.said if run else _said
    if line not in said:
        print(line, flush=True)
    said.add(line)
