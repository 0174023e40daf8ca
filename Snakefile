# Entry point: reads the study, declares the rules of all stages, and a target per table and figure.
import logging
import os
import sys

from snakemake.utils import min_version

min_version("9.20")

from pipeline.artifacts import keys
from pipeline.errors import UserError
from pipeline.study import rules as declared


include: "workflow/rules/common.smk"


rule all:
    input:
        STUDY.shown("table", "claims", "figure"),
        f"{RESULTS}/{SCOPE}/report.html",
        multiext(f"{RESULTS}/{SCOPE}/about/experiments", ".csv", ".html", ".md"),
        multiext(f"{RESULTS}/{SCOPE}/about/settings", ".csv", ".html", ".md"),
        multiext(f"{RESULTS}/{SCOPE}/about/provenance", ".csv", ".html", ".md"),
        STUDY.ancestors("table", "claims", "figure"),
    localrule: True
    message:
        "All tables, figures and the report of the study are there."


include: "workflow/rules/data.smk"
include: "workflow/rules/dense.smk"
include: "workflow/rules/prune.smk"
include: "workflow/rules/match.smk"
include: "workflow/rules/sparse.smk"
include: "workflow/rules/connectivity.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"
