# Dense runs, and snapshots between their trunk states.


rule dense:
    input:
        inputs_of("dense"),
        data=ancient(guarded(lambda wildcards: STUDY.data_of(wildcards.key))),
    output:
        f"{RESULTS}/dense/{{key}}/metrics.json",
        f"{RESULTS}/dense/{{key}}/weights.safetensors",
        f"{RESULTS}/dense/{{key}}/trunk.safetensors",
        f"{RESULTS}/dense/{{key}}/history.csv",
    log:
        f"{RESULTS}/logs/dense/{{key}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/dense/{{key}}.tsv"
    priority: 90
    conda:
        "../../environment.yml"
    threads: threads_of("dense")
    resources:
        **spread_of("dense"),
        mem_mb=memory_of("dense"),
        runtime=runtime_of("dense"),
        gpu=gpus_of("dense"),
    params:
        settings=params_of("dense"),
        digest=digest_of("dense"),
    shell:
        "exec python workflow/scripts/run.py dense {wildcards.key} --digest {params.digest} > {log} 2>&1"


rule snapshot:
    input:
        inputs_of("snapshot"),
    output:
        f"{RESULTS}/snapshot/{{key}}/weights.safetensors",
    log:
        f"{RESULTS}/logs/snapshot/{{key}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/snapshot/{{key}}.tsv"
    priority: 80
    conda:
        "../../environment.yml"
    threads: threads_of("snapshot")
    resources:
        **spread_of("snapshot"),
        mem_mb=memory_of("snapshot"),
        runtime=runtime_of("snapshot"),
        gpu=gpus_of("snapshot"),
    params:
        settings=params_of("snapshot"),
        digest=digest_of("snapshot"),
    shell:
        "exec python workflow/scripts/run.py snapshot {wildcards.key} --digest {params.digest} > {log} 2>&1"
