# Activation matching of a onto b.


rule match:
    input:
        inputs_of("match"),
    output:
        f"{RESULTS}/match/{{key}}/permutation.safetensors",
        f"{RESULTS}/match/{{key}}/metrics.json",
    log:
        f"{RESULTS}/logs/match/{{key}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/match/{{key}}.tsv"
    priority: 70
    conda:
        "../../environment.yml"
    threads: threads_of("match")
    resources:
        mem_mb=memory_of("match"),
        runtime=runtime_of("match"),
        gpu=gpus_of("match"),
    params:
        settings=params_of("match"),
        digest=digest_of("match"),
    shell:
        "exec python workflow/scripts/run.py match {wildcards.key} --digest {params.digest} > {log} 2>&1"
