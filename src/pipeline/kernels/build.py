"""Compiling the kernels for this machine, once, loading them, and when they may be called.

The library has a plain C interface, so that a C++ compiler is all it needs. It is kept under the
user's cache folder by the digest of everything that decides its machine code.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SOURCES = ("batch_norm.cpp", "direct.cpp", "winograd.cpp")
COMPILERS = ("c++", "g++", "clang++")
#: No flag here lets the compiler change what a floating-point expression means.
FLAGS = (
    "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off",
    "-std=c++17", "-shared", "-fPIC",
)  # fmt: skip
_SECONDS = 120


@cache
def compiled() -> ctypes.CDLL | None:
    """The compiled kernels; None where there is no compiler, or where `PIPELINE_KERNELS` is 0."""
    if os.environ.get("PIPELINE_KERNELS") == "0":
        return None
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return None
    try:
        folder = resources.files(__package__)
        sources = {name: folder.joinpath(name).read_bytes() for name in SOURCES}
        path = _folder() / f"kernels-{_identity(compiler, sources)}.so"
        if not path.exists():
            _compile(compiler, sources, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None


def kernel(name: str, arguments: tuple[Any, ...], result: Any = None) -> Any:
    """A compiled function, with the C types of its arguments and its result."""
    function = getattr(compiled(), name)
    if function.argtypes is None:
        function.argtypes, function.restype = arguments, result
    return function


def usable(inputs: object, *modules: nn.Module) -> bool:
    """Whether kernels may compute what ``modules`` do with a batch.

    There must be kernels, and one thread at work; the batch must be a tensor on the CPU (no proxy
    of a tracer), [N, C, H, W] that lies in memory as [N, H, W, C] without gaps. Hooks on a module
    want to see what goes through it: it must then be called itself.
    """
    return (
        isinstance(inputs, Tensor)
        and inputs.device.type == "cpu"
        and torch.get_num_threads() == 1
        and inputs.is_contiguous(memory_format=torch.channels_last)
        and not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in modules)
        and compiled() is not None
    )


def in_use() -> str:
    """What computes on the CPU, for the provenance of a run: "own" kernels or "torch" alone."""
    return "torch" if compiled() is None else "own"


def _identity(compiler: str, sources: Mapping[str, bytes]) -> str:
    """Digest of sources, flags, compiler and processor."""
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, check=True, timeout=_SECONDS
    ).stdout
    parts = (*sources.values(), " ".join(FLAGS).encode(), version, _processor().encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    """What ``-march=native`` looks at: the instruction sets, not the name alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _folder() -> Path:
    """A folder of the user's own that others cannot write to; a fresh one if there is none."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pipeline-kernels"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = base.stat()
        if facts.st_uid == os.getuid() and not facts.st_mode & 0o022 and os.access(base, os.W_OK):
            return base
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="pipeline-kernels-"))


def _compile(compiler: str, sources: Mapping[str, bytes], path: Path) -> None:
    """Compile to a name of its own and rename: processes side by side do not see a half file."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        files, made = [Path(folder) / name for name in sources], Path(folder) / path.name
        for file in files:
            file.write_bytes(sources[file.name])
        subprocess.run(
            [compiler, *FLAGS, "-o", str(made), *map(str, files)],
            capture_output=True, check=True, timeout=_SECONDS,
        )  # fmt: skip
        made.replace(path)
