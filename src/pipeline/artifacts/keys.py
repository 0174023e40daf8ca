"""Old names of `pipeline.runs`, until their users follow."""

from pipeline.runs import *  # noqa: F403
from pipeline.runs import STAGES, Run, Sparse
from pipeline.runs import parse as parse
from pipeline.runs.dense import epoch_prefix as epoch_prefix
from pipeline.runs.form import sparsity_text as sparsity_text
from pipeline.runs.form import width_text as width_text
from pipeline.runs.imp import round_prefix as round_prefix

FORMS = {stage: kind.form.text for stage, kind in STAGES.items()}
OUTPUTS = {stage: kind.files for stage, kind in STAGES.items()}


def folder(run: Run) -> str:
    return run.folder


def path(run: Run, name: str | None = None) -> str:
    return run.path(name)


def lth_of(run: Sparse) -> Sparse:
    return run.lth
