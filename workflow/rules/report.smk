# The report of a study: Snakemake's own, one self-contained page.


rule render_report:
    input:
        STUDY.shown("table", "claims", "figure"),
    output:
        f"{RESULTS}/{SCOPE}/report.html",
    log:
        f"{RESULTS}/logs/{SCOPE}/report.log",
    localrule: True
    conda:
        "../../environment.yml"
    shell:
        "python workflow/scripts/report.py {output} > {log} 2>&1"


rule report:
    input:
        f"{RESULTS}/{SCOPE}/report.html",
        STUDY.ancestors("table", "claims", "figure"),
    localrule: True
    message:
        "The report and all runs behind it are there."
