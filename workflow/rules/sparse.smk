# Sparse runs: one job per method, sparsity, rewind epoch and pair.


rule sparse:
    input:
        inputs_of("sparse"),
    output:
        f"{RESULTS}/sparse/{{key}}/metrics.json",
        f"{RESULTS}/sparse/{{key}}/history.csv",
    log:
        f"{RESULTS}/logs/sparse/{{key}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sparse/{{key}}.tsv"
    priority: 10
    conda:
        "../../environment.yml"
    threads: threads_of("sparse")
    resources:
        **spread_of("sparse"),
        mem_mb=memory_of("sparse"),
        runtime=runtime_of("sparse"),
        gpu=gpus_of("sparse"),
    params:
        settings=params_of("sparse"),
        digest=digest_of("sparse"),
    shell:
        "exec python workflow/scripts/run.py sparse {wildcards.key} --digest {params.digest} > {log} 2>&1"
