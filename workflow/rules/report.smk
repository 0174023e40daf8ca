# The report of a study: one page to read, and Snakemake's own beside it.

ABOUT = f"{SCOPE}/about"


rule settings:
    output:
        multiext(f"{ABOUT}/experiments", ".csv", ".md"),
        multiext(f"{ABOUT}/settings", ".csv", ".md"),
        report(
            f"{ABOUT}/experiments.html",
            caption="../report/experiments.rst",
            category="Settings and provenance",
            labels={"table": "Experiments"},
        ),
        report(
            f"{ABOUT}/settings.html",
            caption="../report/settings.rst",
            category="Settings and provenance",
            labels={"table": "Settings of all recipes in use"},
        ),
    log:
        f"{LOGS}/about/settings.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        declared=TARGETS.declared(),
        protocol=TARGETS.protocol,
    message:
        "Listing experiments and settings"
    shell:
        "python workflow/scripts/write.py settings > {log} 2>&1"


rule provenance:
    input:
        guarded(lambda wildcards: TARGETS.ancestors("table", "claims", "figure")),
    output:
        multiext(f"{ABOUT}/provenance", ".csv", ".md"),
        report(
            f"{ABOUT}/provenance.html",
            caption="../report/provenance.rst",
            category="Settings and provenance",
            labels={"table": "Provenance of the runs"},
        ),
    log:
        f"{LOGS}/about/provenance.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        declared=TARGETS.declared(),
        protocol=TARGETS.protocol,
    message:
        "Listing the provenance of all runs"
    shell:
        "python workflow/scripts/write.py provenance > {log} 2>&1"


rule render_report:
    input:
        TARGETS.shown("table", "claims", "figure"),
        rules.settings.output,
        rules.provenance.output,
    output:
        page=f"{SCOPE}/report.html",
        found=f"{ABOUT}/found.txt",
    log:
        f"{LOGS}/report.log",
    localrule: True
    conda:
        "../../environment.yml"
    message:
        "Rendering the report"
    shell:
        "python workflow/scripts/write.py report {output.page} > {log} 2>&1"


rule archive:
    input:
        rules.render_report.input,
    output:
        f"{SCOPE}/archive.html",
    log:
        f"{LOGS}/archive.log",
    localrule: True
    conda:
        "../../environment.yml"
    message:
        "Rendering Snakemake's own report"
    shell:
        "python workflow/scripts/write.py archive {output} > {log} 2>&1"


rule report:
    input:
        f"{SCOPE}/report.html",
        f"{SCOPE}/archive.html",
        rules.settings.output,
        rules.provenance.output,
        TARGETS.ancestors("table", "claims", "figure"),
    localrule: True
    message:
        "The report and all runs behind it are there."
