"""The claims of a work on the runs of a study, beside those on the published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from pipeline.report import claims, levels
from pipeline.report.claims import Claim, Headline
from pipeline.report.figures import imp_barrier, plane
from pipeline.report.published import cells_of
from pipeline.report.shown import Shown
from pipeline.report.tables import cost, diversity, notions
from pipeline.report.tables.table import Table
from pipeline.results import Results
from pipeline.study.experiment import Experiment
from pipeline.study.outputs import Output
from pipeline.study.outputs.accuracy import AccuracyVsRewind
from pipeline.study.outputs.base import OfSweeps
from pipeline.study.outputs.claims import Claims
from pipeline.study.outputs.cost import Cost
from pipeline.study.outputs.diversity import Diversity
from pipeline.study.outputs.early_matching import EarlyMatching
from pipeline.study.outputs.fixed_points import FixedPoints
from pipeline.study.outputs.imp_barrier import ImpBarriers
from pipeline.study.outputs.interpolation import Interpolation
from pipeline.study.outputs.landscape import Landscape
from pipeline.study.outputs.notions import Notions
from pipeline.study.outputs.plane import LossPlane
from pipeline.study.outputs.rewind_grid import RewindGrid
from pipeline.study.outputs.sweep_barriers import SweepBarriers


def read(output: Claims, results: Results) -> list[Claim]:
    """The claims on what exists of the outputs that an entry names: those of a work each on a page.

    Sweeps are what the claims of Sharma et al. are on, all other tables and figures the paper's.
    """
    sources = [results.config.outputs[name] for name in output.outputs]
    swept = [one for one in sources if isinstance(one, OfSweeps)]
    rest = [one for one in sources if not isinstance(one, OfSweeps | Landscape)]
    by_level = {e.name: e for one in rest for e in results.chosen(one) if e.levels}
    others = [one for one in rest if not {*one.experiments} & {*by_level}]
    found = _of_the_paper(output, others, results) if others else []
    return found + (_of_sweeps(swept, [*by_level.values()], results) if swept else [])


def _of_sweeps(
    sources: Sequence[OfSweeps], pruned: Sequence[Experiment], results: Results
) -> list[Claim]:
    """The claims on sweeps, each read once, whatever shows it, and on networks by level."""
    every = dict.fromkeys(
        (one.name, match)
        for source in sources
        for one in results.chosen(source)
        for match in source.matches or one.matchers
    )
    connections = pd.concat(
        results.connections(SweepBarriers(experiments=(one,), matches=(match,)))
        for one, match in every
    )
    alignments = pd.concat(
        results.alignments(FixedPoints(experiments=(one,), matches=(match,)))
        for one, match in every
    )
    verdicts = [
        notions.judged(one, notions.read(one, results)).assign(threshold=one.threshold)
        for one in sources
        if isinstance(one, Notions)
    ]
    whose = connections[["experiment", "match", "matcher", "dense"]].drop_duplicates()
    return claims.on_sweeps(
        connections.reset_index(drop=True),
        alignments.reset_index(drop=True),
        pd.concat(verdicts).merge(whose) if verdicts else None,
        levels.accuracies(results, pruned) if pruned else None,
    )


def _of_the_paper(output: Claims, sources: Sequence[Output], results: Results) -> list[Claim]:
    """The claims of paper and thesis."""
    config, protocol = results.config, results.config.protocol

    def shown_by(*kinds: type[Output]) -> list[Experiment]:
        names = (name for o in sources if isinstance(o, kinds) for name in o.experiments)
        return [config.experiments[name] for name in dict.fromkeys(names)]

    runs = results.runs(shown_by(RewindGrid, EarlyMatching, AccuracyVsRewind))
    barriers = [imp_barrier.read(o, results) for o in sources if isinstance(o, ImpBarriers)]
    diverse = [diversity.read(o, results) for o in sources if isinstance(o, Diversity)]
    curves = shown_by(Interpolation)
    return claims.on_results(
        _matched_at_the_end(runs, config.experiments),
        reuse=output.reuse,
        work=output.work,
        diversity=pd.concat(diverse, ignore_index=True) if diverse else None,
        curves=results.curves(curves) if curves else None,
        imp_barriers=pd.concat(barriers, ignore_index=True) if barriers else None,
        planes=[plane.read(o, results) for o in sources if isinstance(o, LossPlane)],
        costs=[cost.read(o, results) for o in sources if isinstance(o, Cost)],
        headline=Headline(protocol.correction, protocol.barrier_at, protocol.barrier_split),
    )


def _matched_at_the_end(runs: pd.DataFrame, experiments: Mapping[str, Experiment]) -> pd.DataFrame:
    """The runs, a matching at the last epoch of an experiment's dense runs being one at the end."""
    ends = runs["experiment"].map({name: one.horizon for name, one in experiments.items()})
    epochs = pd.to_numeric(runs["matching_epoch"], errors="coerce")
    return runs.assign(matching_epoch=epochs.mask(epochs == ends))


def build(output: Claims, shown: Shown, judged: list[Claim]) -> Table:
    """A row per claim; the tidy frame has a row per unit of every claim."""
    rows = shown.works.rows(output.work)
    known = [*claims.on_published(), *claims.on_points()]
    beside = claims.on_work(output.work, cells_of(rows)) if rows else known
    return claims.claims_table(output, shown, judged, beside=beside)
