# Data sets: found or fetched, checked, and their facts written down.


rule data:
    input:
        guarded(lambda wildcards: CALL.data(wildcards.dataset, internals.dry(workflow))),
    output:
        f"{RESULTS}/data/{{dataset}}/facts.json",
    log:
        f"{RESULTS}/logs/data/{{dataset}}.log",
    localrule: True
    conda:
        "../../environment.yml"
    shell:
        "python workflow/scripts/write.py data {wildcards.dataset} > {log} 2>&1"


rule digits_turned:
    # scikit-learn's digits turned by 90 degrees and inverted: a second data set of their shape
    output:
        f"{RESULTS}/data/digits-turned.npz",
    log:
        f"{RESULTS}/logs/data/digits-turned-npz.log",
    localrule: True
    conda:
        "../../environment.yml"
    shell:
        "python workflow/scripts/write.py digits_turned {output} > {log} 2>&1"
