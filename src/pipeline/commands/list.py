"""List what there is to ask for: studies, targets, recipes, methods, data sets, networks."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.catalog import datasets as catalog
from pipeline.catalog.schema import choose
from pipeline.errors import UserError
from pipeline.study.config import Config, read
from pipeline.study.settings import RECIPES
from pipeline.study.state import ALL

EXAMPLE = "list targets --study paper"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="*", help=f"some of {', '.join(KINDS)}; without one, all")


def _studies(config: Config) -> Iterator[tuple[str, str]]:
    for path in sorted((Path.cwd() / "config" / "studies").glob("*.yaml")):
        try:
            yield path.stem, read(Path.cwd(), {"study": path.stem, "protocol": "paper"}).title
        except UserError as error:
            yield path.stem, f"cannot be read: {error}"
    del config


def _targets(config: Config) -> Iterator[tuple[str, str]]:
    yield from ((name, "of the study, all that is not optional") for name in ALL)
    for name, output in config.outputs.items():
        optional = ", optional" if output.optional else ""
        yield name, f"{output.what} ({output.kind}{optional}): {output.title or output.shows}"


def _recipes(config: Config) -> Iterator[tuple[str, str]]:
    for kind in RECIPES:
        yield kind, ", ".join(config.recipes.names(kind))


def _methods(config: Config) -> Iterator[tuple[str, str]]:
    for name, method in sorted(config.recipes.methods.items()):
        whose = f"from {method.init}'s snapshot"
        mask = {"a": "a's mask", "b": "b's own mask", "shuffled": "a's mask shuffled"}[method.mask]
        mask += " of one prune" * (method.cut == "one-shot") + " permuted" * method.permute
        mask += " as at its level" * (method.view == "level")
        yield name, f"{whose}, {mask}" + (f", matching {method.match}" if method.match else "")


def _protocols(config: Config) -> Iterator[tuple[str, str]]:
    yield from ((name, found.title) for name, found in sorted(config.recipes.protocols.items()))


def _data_sets(config: Config) -> Iterator[tuple[str, str]]:
    for name, info in sorted(config.datasets.items()):
        size = f"{info.train_images:,} images, {info.classes} classes"
        lies = "there" if catalog.status(info, config.data_root) is None else "not here yet"
        yield name, f"{size}, {info.channels}×{info.size}×{info.size}, {lies}"


def _networks(config: Config) -> Iterator[tuple[str, str]]:
    for name, network in sorted(config.models.items()):
        yield name, f"{network.parameters(1.0):,.0f} parameters at width 1"


KINDS: dict[str, Callable[[Config], Iterator[tuple[str, str]]]] = {
    "studies": _studies, "targets": _targets, "protocols": _protocols, "recipes": _recipes,
    "methods": _methods, "data-sets": _data_sets, "networks": _networks,
}  # fmt: skip


def run(config: Config, arguments: argparse.Namespace) -> None:
    for what in arguments.what or KINDS:
        choose(what, KINDS, "list", "kind")
        of = f" of {config.main.study}" if what == "targets" else ""
        print(f"{what}{of}")
        lines = list(KINDS[what](config))
        width = max((len(name) for name, _ in lines), default=0)
        for name, text in lines:
            print(f"  {name:<{width}}  {' '.join(text.split())[:200]}".rstrip())
