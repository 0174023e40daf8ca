# Data sets: found or fetched, checked, and their facts written down.


rule data:
    input:
        guarded(lambda wildcards: STUDY.data_files(wildcards.dataset, workflow.dryrun)),
    output:
        f"{RESULTS}/data/{{dataset}}/facts.json",
    log:
        f"{RESULTS}/logs/data/{{dataset}}.log",
    localrule: True
    conda:
        "../../environment.yml"
    shell:
        "python workflow/scripts/data.py {wildcards.dataset} > {log} 2>&1"


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
        "python workflow/scripts/digits_turned.py {output} > {log} 2>&1"
