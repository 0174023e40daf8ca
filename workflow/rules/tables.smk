# Tables, each beside what was published, and the claims; a target per table.


use rule show as table with:
    output:
        f"{SCOPE}/{{kind}}s/{{name}}.csv",
        f"{SCOPE}/{{kind}}s/{{name}}.md",
        f"{SCOPE}/{{kind}}s/{{name}}.tex",
        report(
            f"{SCOPE}/{{kind}}s/{{name}}.html",
            caption="../report/output.rst",
            category=of_output(TARGETS.category),
            labels=labels("table"),
        ),
    wildcard_constraints:
        kind="table",
    localrule: True


use rule show as comparison with:
    output:
        f"{SCOPE}/tables/{{name}}.{{kind}}.csv",
        f"{SCOPE}/tables/{{name}}.{{kind}}.md",
        report(
            f"{SCOPE}/tables/{{name}}.{{kind}}.html",
            caption="../report/comparison.rst",
            category="Comparison with the published numbers",
            labels=labels("table"),
        ),
    log:
        f"{LOGS}/tables/{{name}}.{{kind}}.log",
    wildcard_constraints:
        kind="comparison",
    localrule: True
    message:
        "Comparing table {wildcards.name} with the published numbers"


for output_name in TARGETS.names("table") + TARGETS.names("claims"):

    rule:
        name:
            output_name
        input:
            TARGETS.files(output_name),
            TARGETS.ancestors_of(output_name),
        localrule: True
        message:
            "The table and all runs behind it are there."


rule tables:
    input:
        TARGETS.shown("table"),
        TARGETS.ancestors("table"),
    localrule: True
    message:
        "All tables of the study and the runs behind them are there."
