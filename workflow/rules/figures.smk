# Figures, and a target per figure.


rule figure:
    input:
        guarded(lambda wildcards: STUDY.runs_of(wildcards.name)),
    output:
        f"{RESULTS}/{SCOPE}/figures/{{name}}.pdf",
        f"{RESULTS}/{SCOPE}/figures/{{name}}.png",
        f"{RESULTS}/{SCOPE}/figures/{{name}}.csv",
        report(
            f"{RESULTS}/{SCOPE}/figures/{{name}}.svg",
            caption="../report/output.rst",
            category="Figures",
            labels=lambda wildcards: {"figure": STUDY.label(wildcards.name)},
        ),
    log:
        f"{RESULTS}/logs/{SCOPE}/figures/{{name}}.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        spec=guarded(lambda wildcards: STUDY.spec(wildcards.name)),
        caption=guarded(lambda wildcards: STUDY.caption(wildcards.name)),
    message:
        "Writing figure {wildcards.name}"
    shell:
        "python workflow/scripts/figure.py {wildcards.name} > {log} 2>&1"


for output_name in STUDY.names("figure") + STUDY.names("group"):

    rule:
        name:
            output_name
        input:
            STUDY.files(output_name),
            STUDY.ancestors_of(output_name),
        localrule: True
        message:
            "The figure and all runs behind it are there."


rule figures:
    input:
        STUDY.shown("figure"),
        STUDY.ancestors("figure"),
    localrule: True
    message:
        "All figures of the study and the runs behind them are there."
