"""Compare every run's path and digest with those of an earlier commit: nobody's results run again.

    python tests/unchanged/run.py                 compare with the list beside this file
    python tests/unchanged/run.py --write         make the list anew

The list holds what a dry run prints as ``run.py STAGE KEY --digest D`` for every study under every
protocol, optional outputs included. A later change of a run's settings on purpose makes it anew.
"""

from __future__ import annotations

import argparse
import gzip
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("runs.txt.gz")
LINE = re.compile(r"scripts/run\.py (\S+) (\S+) --digest ([0-9a-f]+)")
PROTOCOLS = ("paper", "authors-code")


def declared(study: str) -> list[str]:
    """Names of a study's tables and figures, optional ones too.

    Those that extend another study's show its runs (tests/test_works.py), which stand in its list; null
    drops one.
    """
    import yaml

    text = (ROOT / "config" / "studies" / f"{study}.yaml").read_text(encoding="utf-8")
    outputs = yaml.safe_load(text).get("outputs") or {}
    return [name for name, entry in outputs.items() if entry and "extends" not in entry]


def runs(study: str, protocol: str, results: str) -> set[str]:
    """``stage key digest`` of every run that a dry run lists where nothing is there yet."""
    choice = [f"study={study}", f"protocol={protocol}", f"results={results}"]
    command = ["snakemake", "-n", "-p", "all", *declared(study), "--config", *choice]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{study}, {protocol}: {done.stderr or done.stdout}")
    return {" ".join(found) for found in LINE.findall(done.stdout + done.stderr)}


def everything() -> list[str]:
    """``study protocol stage key digest``, sorted."""
    studies = sorted(path.stem for path in (ROOT / "config" / "studies").glob("*.yaml"))
    with tempfile.TemporaryDirectory() as results:
        return sorted(
            f"{study} {protocol} {run}"
            for study in studies
            for protocol in PROTOCOLS
            for run in runs(study, protocol, results)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="make the list anew")
    found = everything()
    if parser.parse_args().write:
        LIST.write_bytes(gzip.compress("\n".join(found).encode(), mtime=0))
        print(f"{len(found)} runs written")
        return
    known = gzip.decompress(LIST.read_bytes()).decode().splitlines()
    studies = {line.split(" ", 1)[0] for line in known}
    found = [line for line in found if line.split(" ", 1)[0] in studies]  # new studies are new
    for line in sorted(set(known) ^ set(found))[:20]:
        print("gone:" if line in known else "new: ", line)
    print(f"{len(set(known) & set(found))} of {len(known)} runs as before, {len(found)} now")
    sys.exit(set(known) != set(found))


main()
