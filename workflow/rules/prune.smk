# Iterative magnitude pruning: rounds in blocks, masks of any sparsity, solutions.


rule imp:
    input:
        inputs_of("imp"),
    output:
        f"{RESULTS}/imp/{{key}}/metrics.json",
        f"{RESULTS}/imp/{{key}}/rounds.safetensors",
        f"{RESULTS}/imp/{{key}}/history.csv",
    log:
        f"{RESULTS}/logs/imp/{{key}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/imp/{{key}}.tsv"
    priority: 85
    conda:
        "../../environment.yml"
    threads: threads_of("imp")
    resources:
        **spread_of("imp"),
        mem_mb=memory_of("imp"),
        runtime=runtime_of("imp"),
        gpu=gpus_of("imp"),
    params:
        settings=params_of("imp"),
        digest=digest_of("imp"),
    shell:
        "exec python workflow/scripts/run.py imp {wildcards.key} --digest {params.digest} > {log} 2>&1"


rule mask:
    input:
        inputs_of("mask"),
    output:
        f"{RESULTS}/mask/{{key}}/mask.safetensors",
        f"{RESULTS}/mask/{{key}}/metrics.json",
    log:
        f"{RESULTS}/logs/mask/{{key}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/mask/{{key}}.tsv"
    priority: 80
    conda:
        "../../environment.yml"
    threads: threads_of("mask")
    resources:
        mem_mb=memory_of("mask"),
        runtime=runtime_of("mask"),
        gpu=0,
    params:
        settings=params_of("mask"),
        digest=digest_of("mask"),
    shell:
        "exec python workflow/scripts/run.py mask {wildcards.key} --digest {params.digest} > {log} 2>&1"


rule solution:
    input:
        inputs_of("solution"),
    output:
        f"{RESULTS}/solution/{{key}}/metrics.json",
        f"{RESULTS}/solution/{{key}}/history.csv",
        f"{RESULTS}/solution/{{key}}/weights.safetensors",
        f"{RESULTS}/solution/{{key}}/logits.safetensors",
    log:
        f"{RESULTS}/logs/solution/{{key}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/solution/{{key}}.tsv"
    priority: 20
    conda:
        "../../environment.yml"
    threads: threads_of("solution")
    resources:
        **spread_of("solution"),
        mem_mb=memory_of("solution"),
        runtime=runtime_of("solution"),
        gpu=gpus_of("solution"),
    params:
        settings=params_of("solution"),
        digest=digest_of("solution"),
    shell:
        "exec python workflow/scripts/run.py solution {wildcards.key} --digest {params.digest} > {log} 2>&1"
