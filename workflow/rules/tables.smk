# Tables, each beside what was published, and the claims; a target per table.


rule table:
    input:
        guarded(lambda wildcards: STUDY.runs_of(wildcards.name)),
    output:
        f"{RESULTS}/{SCOPE}/tables/{{name}}.csv",
        f"{RESULTS}/{SCOPE}/tables/{{name}}.md",
        f"{RESULTS}/{SCOPE}/tables/{{name}}.tex",
        report(
            f"{RESULTS}/{SCOPE}/tables/{{name}}.html",
            caption="../report/output.rst",
            category=lambda wildcards: STUDY.category(wildcards.name),
            labels=lambda wildcards: {"table": STUDY.label(wildcards.name)},
        ),
    log:
        f"{RESULTS}/logs/{SCOPE}/tables/{{name}}.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        spec=guarded(lambda wildcards: STUDY.spec(wildcards.name)),
        caption=guarded(lambda wildcards: STUDY.caption(wildcards.name)),
    message:
        "Writing table {wildcards.name}"
    shell:
        "python workflow/scripts/table.py {wildcards.name} > {log} 2>&1"


rule comparison:
    input:
        guarded(lambda wildcards: STUDY.runs_of(wildcards.name)),
    output:
        f"{RESULTS}/{SCOPE}/tables/{{name}}.comparison.csv",
        f"{RESULTS}/{SCOPE}/tables/{{name}}.comparison.md",
        report(
            f"{RESULTS}/{SCOPE}/tables/{{name}}.comparison.html",
            caption="../report/comparison.rst",
            category="Comparison with the published numbers",
            labels=lambda wildcards: {"table": STUDY.label(wildcards.name)},
        ),
    log:
        f"{RESULTS}/logs/{SCOPE}/tables/{{name}}.comparison.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        spec=guarded(lambda wildcards: STUDY.spec(wildcards.name)),
        caption=guarded(lambda wildcards: STUDY.caption(wildcards.name)),
    message:
        "Comparing table {wildcards.name} with the published numbers"
    shell:
        "python workflow/scripts/comparison.py {wildcards.name} > {log} 2>&1"


for output_name in STUDY.names("table") + STUDY.names("claims"):

    rule:
        name:
            output_name
        input:
            STUDY.files(output_name),
            STUDY.ancestors_of(output_name),
        localrule: True
        message:
            "The table and all runs behind it are there."


rule tables:
    input:
        STUDY.shown("table"),
        STUDY.ancestors("table"),
    localrule: True
    message:
        "All tables of the study and the runs behind them are there."
