# Curves between networks, barriers along IMP, loss planes.


rule curve:
    input:
        inputs_of("curve"),
    output:
        f"{RESULTS}/curve/{{key}}/curve.csv",
        f"{RESULTS}/curve/{{key}}/metrics.json",
    log:
        f"{RESULTS}/logs/curve/{{key}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/curve/{{key}}.tsv"
    priority: 30
    conda:
        "../../environment.yml"
    threads: threads_of("curve")
    resources:
        mem_mb=memory_of("curve"),
        runtime=runtime_of("curve"),
        gpu=gpus_of("curve"),
    params:
        settings=params_of("curve"),
        digest=digest_of("curve"),
    shell:
        "exec python workflow/scripts/run.py curve {wildcards.key} --digest {params.digest} > {log} 2>&1"


rule imp_barrier:
    input:
        inputs_of("imp-barrier"),
    output:
        f"{RESULTS}/imp-barrier/{{key}}/barrier.csv",
        f"{RESULTS}/imp-barrier/{{key}}/metrics.json",
    log:
        f"{RESULTS}/logs/imp-barrier/{{key}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/imp-barrier/{{key}}.tsv"
    priority: 5
    conda:
        "../../environment.yml"
    threads: threads_of("imp-barrier")
    resources:
        mem_mb=memory_of("imp-barrier"),
        runtime=runtime_of("imp-barrier"),
        gpu=gpus_of("imp-barrier"),
    params:
        settings=params_of("imp-barrier"),
        digest=digest_of("imp-barrier"),
    shell:
        "exec python workflow/scripts/run.py imp-barrier {wildcards.key} --digest {params.digest} > {log} 2>&1"


rule plane:
    input:
        inputs_of("plane"),
    output:
        f"{RESULTS}/plane/{{key}}/plane.csv",
        f"{RESULTS}/plane/{{key}}/metrics.json",
    log:
        f"{RESULTS}/logs/plane/{{key}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plane/{{key}}.tsv"
    priority: 5
    conda:
        "../../environment.yml"
    threads: threads_of("plane")
    resources:
        mem_mb=memory_of("plane"),
        runtime=runtime_of("plane"),
        gpu=gpus_of("plane"),
    params:
        settings=params_of("plane"),
        digest=digest_of("plane"),
    shell:
        "exec python workflow/scripts/run.py plane {wildcards.key} --digest {params.digest} > {log} 2>&1"
