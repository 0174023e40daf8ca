"""What a permutation does to the ends of a and b: barriers, and similarity of the units it pairs."""

from __future__ import annotations

from pipeline import symmetry
from pipeline.artifacts.store import read_tensors
from pipeline.runs.permutation_quality import PermutationQuality
from pipeline.stages.curve import lines
from pipeline.stages.job import Job
from pipeline.stages.lines import ground
from pipeline.stages.match import pair
from pipeline.stages.outcome import finite
from pipeline.symmetry.matching import collect, judged

#: Of each group of units: mean similarities of those that are paired, by the permutation and by controls.
MEASURED = ("size", "matched", "identity", "random")


def execute(job: Job) -> None:
    """Measure both at the end of training, by the judge's images, for pi and for the identity."""
    run = job.run
    assert isinstance(run, PermutationQuality)
    a, b = job.state("a"), job.state("b")
    if not (finite(a) and finite(b)):
        job.metrics(status="diverged", barriers=[], groups={})
        return
    spec, permutation = job.spec(run.judged), read_tensors(job.input("permutation"))
    moved = symmetry.apply(spec, permutation, a)
    _, barriers = lines(ground(job, run.match.b), job.recipe, moved, a, b)
    settings = job.graph.recipe(run.judged)
    looked = pair(job, spec, (run.match.a, run.match.b), (a, b), settings)
    statistics = collect(*looked.networks(), spec, looked.batches())
    found = judged(statistics, permutation, settings.similarity, settings.std, settings.epsilon)
    groups = {name: {key: getattr(each, key) for key in MEASURED} for name, each in found.items()}
    job.metrics(status="ok", barriers=barriers, groups=groups)
