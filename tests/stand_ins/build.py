"""A GPU that computes nothing, for PyTorch's CUDA build: compiled in seconds, loaded into a child.

What it can show: which calls are made, in which order, how often, and that none is illegal in a
capture. What it cannot: any number, any speed, what a driver, cuDNN's choice or MPS do. See device.h.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from forks import Server

HERE = Path(__file__).parent
SOURCES = ("runtime.cpp", "libraries.cpp")
#: Headers of the packages that PyTorch's CUDA build needs: the runtime's, and Triton's for what it lacks.
HEADERS = ("nvidia/cu13/include", "triton/backends/nvidia/include")


def missing() -> str:
    """Why the stand-ins cannot be built here; nothing where they can."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "the stand-ins are for Linux on x86-64"
    if shutil.which("g++") is None:
        return "no g++"
    if len(_headers()) < len(HEADERS):
        return "torch is not the CUDA build"
    return ""


def _headers() -> list[Path]:
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None
    site = Path(spec.origin).parents[1]
    return [site / name for name in HEADERS if (site / name).is_dir()]


@cache
def library() -> Path:
    """The stand-ins, compiled once for each state of their source.

    By its name (soname) it is the driver, too, which a part of PyTorch links to.
    """
    texts = [(HERE / name).read_bytes() for name in ("build.py", "device.h", *SOURCES)]
    name = hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"pipeline-stand-ins-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{name}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as part:
            made = Path(part) / path.name
            subprocess.run(
                ["g++", "-std=c++20", "-O1", "-fPIC", "-shared", "-w",
                 *(f"-I{place}" for place in _headers()), *(str(HERE / name) for name in SOURCES),
                 "-Wl,-soname,libcuda.so.1", "-o", str(made)], check=True,
            )  # fmt: skip
            made.replace(path)
    return path


def environment() -> dict[str, str]:
    """Variables of a process with the pretended GPU.

    ``STAND_IN_CAPABILITY``, which a process may set for itself: 90 where it is not set, for 9.0.
    ``STAND_IN_DRIVER``: the newest CUDA version that the driver knows, 12080 for 12.8.
    """
    paths = os.pathsep.join((str(HERE.parent), str(HERE.parents[1] / "benchmarks")))
    found = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    return found | {"LD_PRELOAD": str(library()), "PYTHONPATH": paths}


@cache
def _server() -> Server:
    """Of processes that have imported PyTorch, and have not used the GPU yet."""
    return Server(HERE / "work.py", environment())


@cache
def together(*works: tuple[Any, ...], **more: str) -> list[Any]:
    """What functions of ``work.py``, each with its arguments, found in one process with the GPU."""
    done = _server().call(works, more)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def seen(work: str, *arguments: Any, **more: str) -> Any:
    """What one function found, in a process of its own."""
    return together((work, *arguments), **more)[0]
