# Figures, and a target per figure.


use rule show as figure with:
    output:
        f"{SCOPE}/{{kind}}s/{{name}}.pdf",
        f"{SCOPE}/{{kind}}s/{{name}}.png",
        f"{SCOPE}/{{kind}}s/{{name}}.csv",
        report(
            f"{SCOPE}/{{kind}}s/{{name}}.svg",
            caption="../report/output.rst",
            category="Figures",
            labels=labels("figure"),
        ),
    wildcard_constraints:
        kind="figure",
    localrule: True


for output_name in TARGETS.names("figure") + TARGETS.names("group"):

    rule:
        name:
            output_name
        input:
            TARGETS.files(output_name),
            TARGETS.ancestors_of(output_name),
        localrule: True
        message:
            "The figure and all runs behind it are there."


rule figures:
    input:
        TARGETS.shown("figure"),
        TARGETS.ancestors("figure"),
    localrule: True
    message:
        "All figures of the study and the runs behind them are there."
