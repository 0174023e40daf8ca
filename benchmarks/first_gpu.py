"""The first minutes on a GPU: ``python benchmarks/first_gpu.py --write``, nine minutes at most.

First what is right or wrong, then what is fast. Every item is a process of its own with a time
limit; findings come a line each, and nothing is lost when an item fails. Needs torch and what the
stages need, not Snakemake, and no installation. ``--device cpu --quick`` goes through the code
where there is no GPU; only a GPU's findings are written to the page.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "evidence" / "gpu.md"
SECONDS = 520.0
#: How much longer all may take in miniature, on whatever machine.
PATIENCE = 5
EPOCH = 390  # steps, of CIFAR-10 in batches of 128
TABLE_5 = 57_450  # epochs, as ``python -m pipeline plan table_5 --study paper`` counts
#: Items in the order of what must be known first, and the seconds after which each is ended.
ITEMS = {
    "machine": 60, "recorded": 90, "single": 120, "side_by_side": 150, "threads": 90,
    "as_the_cpu": 90, "resumed": 60, "unusual": 40, "jobs": 90, "work": 60, "kernels": 45,
}  # fmt: skip
ON_A_GPU = ("side_by_side", "kernels")

Finding = dict[str, Any]


def measure(name: str, seconds: float, environment: dict[str, str]) -> list[Finding]:
    """What an item found before it ended, or was ended; the last finding says how."""
    started = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, str(HERE / "gpu_items.py"), name], stdout=subprocess.PIPE, text=True,
        env=environment, start_new_session=True,
    )  # fmt: skip
    timer = Timer(seconds, os.killpg, (child.pid, signal.SIGKILL))
    timer.start()
    found = []
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("{"):
            found.append({"item": name, **json.loads(line)})
            print(json.dumps(found[-1]), flush=True)
    status = child.wait()
    timer.cancel()
    took = round(time.monotonic() - started)
    end = {"item": name, "ok": status == 0 and None, "end": status, "seconds": took}
    print(json.dumps(end), flush=True)
    return [*found, end]


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]) + "\n"


def page(findings: list[Finding]) -> str:
    """The findings as a page: judged ones, one run, several, other work, aims, rates for `plan`."""

    def of(*items: str) -> list[Finding]:
        return [found for found in findings if found["item"] in items and "end" not in found]

    facts = ", ".join(
        f"{k} {v}" for f in of("machine") for k, v in f.items() if k not in ("item", "ok")
    )
    parts = [
        "# Speed on a GPU\n\nMeasured by `python benchmarks/first_gpu.py --write`, which writes this page.\n",
        f"Machine: {facts}.\n", "## Right or wrong\n",
    ]  # fmt: skip
    judged = [f for f in findings if f["ok"] is not None and f["item"] != "machine"]
    parts.append(table(("item", "", "facts"), [
        (f["item"], "right" if f["ok"] else "**WRONG**",
         ", ".join(f"{k}: {v}" for k, v in f.items() if k not in ("item", "ok"))) for f in judged
    ]))  # fmt: skip
    single = of("single")
    eager = next((f["ms"] for f in single if f["precision"] == "fp32" and not f["recorded"]), None)
    together = [f for f in of("side_by_side", "threads") if "ms" in f]

    def speed(found: Finding) -> tuple[object, ...]:
        ratio = f"{eager / found['ms']:.1f}" if eager else ""
        return found["ms"], ratio, f"{found['ms'] * EPOCH / 1e3:.3f}"

    columns = ("ms a step", "x eager fp32", "s an epoch")
    parts += ["## One run\n", table(("network", "precision", "", *columns, "MiB"), [
        (f"{f['model']}×{f['width']}", f["precision"], _how(f), *speed(f), f["mib"]) for f in single
    ])]  # fmt: skip
    parts += ["## Several runs of ResNet20×1, bf16\n", table(("runs", "", *columns, "hours for Table 5"), [
        (f.get("processes", f.get("runs")), _side(f), *speed(f), f"{f['ms'] * EPOCH * TABLE_5 / 3.6e6:.1f}")
        for f in together
    ]), _default(together)]  # fmt: skip
    parts += [
        "## Other work\n",
        table(("work", "seconds"), [(f["what"], f["seconds"]) for f in of("work")]),
    ]
    parts += [_aims(eager, single, together), _rates(single)]
    return "\n".join(parts)


def _how(found: Finding) -> str:
    words = ["recorded" if found["recorded"] else "eager"]
    words += ["deterministic"] if found.get("deterministic") else []
    words += ["cuDNN chooses without measuring"] if found.get("benchmark") is False else []
    return ", ".join(words)


def _side(found: Finding) -> str:
    if found["item"] == "threads":
        return "threads of one process"
    return "processes under MPS" if found["mps"] else "processes by turns"


def _default(together: list[Finding]) -> str:
    """What several runs are to share a GPU by, as it was measured."""
    if not together:
        return ""
    best = min(together, key=lambda found: float(found["ms"]))
    count = best.get("processes", best.get("runs"))
    how = "threads" if best["item"] == "threads" else "mps" if best["mps"] else "turns"
    return f"Fastest: `sharing: {how}` with `PIPELINE_PER_GPU={count}`.\n"


def _aims(eager: float | None, single: list[Finding], together: list[Finding]) -> str:
    """What was aimed at on an H100, and what is."""
    alone = [
        f["ms"]
        for f in single
        if _how(f) == "recorded"
        and f["precision"] == "bf16"
        and f["model"] == "resnet20"
        and f["width"] == 1
    ]
    best = min((f["ms"] for f in together), default=None)
    if not (eager and alone and best):
        return "Aims: not measured.\n"
    hours = best * EPOCH * TABLE_5 / 3.6e6
    return "## Aims\n\n" + table(("aim, on an H100", "found"), [
        ("one run at least 3 times eager fp32", f"{eager / alone[0]:.1f}"),
        ("all runs together at least 12 times", f"{eager / best:.1f}"),
        ("Table 5 in less than 4 hours", f"{hours:.1f}"),
    ])  # fmt: skip


def _rates(single: list[Finding]) -> str:
    """Seconds of a step that no arithmetic explains, and FLOP/s, through the widest and the narrowest."""
    from pipeline.catalog.networks import NETWORKS

    found = sorted(
        (3 * BATCH * NETWORKS["resnet20"].forward_flops(f["width"], 32), f["ms"] / 1e3)
        for f in single if f["model"] == "resnet20" and _how(f) == "recorded" and f["precision"] == "bf16"
    )  # fmt: skip
    if len(found) < 2:
        return ""
    (few, short), (many, long) = found[0], found[-1]
    speed = (many - few) / max(long - short, 1e-9)
    return (
        "## Rates for `plan`\n\nOf one run by itself, through ResNet20 at the least and the greatest "
        f"width: {max(0.0, short - few / speed):.4f} s a step that no arithmetic explains, {speed:.2g} "
        'FLOP/s. They belong into `ASSUMED["cuda"]` in `src/pipeline/study/cost.py`.\n'
    )


BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("items", nargs="*", help=f"of {', '.join(ITEMS)} (all)")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="in miniature")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"in all ({SECONDS:.0f})")
    parser.add_argument("--out", type=Path, help="append the findings to this file, as they come")
    parser.add_argument(
        "--write", nargs="?", const=PAGE, type=Path, help="write the page (to this file)"
    )
    options = parser.parse_args()
    if unknown := [name for name in options.items if name not in ITEMS]:
        parser.error(f"unknown item {unknown[0]}: allowed are {', '.join(ITEMS)}")
    if options.write and (options.quick or options.device == "cpu"):
        parser.error("--write is for what was measured on a GPU, not in miniature")
    paths = os.pathsep.join(map(str, (HERE, HERE.parent / "src")))
    environment = os.environ | {"PYTHONPATH": paths, "FIRST_DEVICE": options.device}
    environment |= {"FIRST_QUICK": "1"} if options.quick else {}
    patience = PATIENCE if options.quick else 1
    sys.path[:0] = paths.split(os.pathsep)
    begin, findings = time.monotonic(), []
    for name in options.items or ITEMS:
        left = patience * options.seconds - (time.monotonic() - begin)
        if options.device == "cpu" and name in ON_A_GPU:
            continue
        if left < 15:
            new = [{"item": name, "ok": None, "end": "time was up", "seconds": 0}]
        else:
            new = measure(name, min(left, patience * ITEMS[name]), environment)
        findings += new
        if options.out:
            with options.out.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(found) + "\n" for found in new)
    text = page(findings)
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    if any(found["ok"] is False for found in findings):
        sys.exit("something is wrong: see above")


if __name__ == "__main__":
    main()
