# Entry point: reads the study, declares the rules of all stages, and a target per table and figure.
import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")

from pipeline import snakemake_internals as internals
from pipeline import runs
from pipeline.errors import Interrupted, UserError
from pipeline.machine import memory
from pipeline.study.call import Call, begin
from pipeline.study.config import frozen
from pipeline.study.graph import Graph
from pipeline.study.jobs import Jobs
from pipeline.study.targets import Targets


include: "workflow/rules/common.smk"


rule all:
    input:
        TARGETS.shown("table", "claims", "figure"),
        f"{SCOPE}/report.html",
        f"{SCOPE}/archive.html",
        multiext(f"{SCOPE}/about/experiments", ".csv", ".html", ".md"),
        multiext(f"{SCOPE}/about/settings", ".csv", ".html", ".md"),
        multiext(f"{SCOPE}/about/provenance", ".csv", ".html", ".md"),
        TARGETS.ancestors("table", "claims", "figure"),
    localrule: True
    message:
        "All tables, figures and the report of the study are there."


include: "workflow/rules/base.smk"


# Every other file is read: a new stage brings its own and changes nothing here.
for name in sorted(
    path.name for path in Path(workflow.basedir, "workflow/rules").glob("*.smk")
):
    if name not in ("common.smk", "base.smk"):

        include: f"workflow/rules/{name}"
