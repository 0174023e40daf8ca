# What rules share, once. A rule that is made from these says what it reads and writes.


rule run:
    # One run of a stage.
    log:
        f"{RESULTS}/logs/{{stage}}/{{key}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{stage}}/{{key}}.tsv"
    conda:
        "../../environment.yml"
    threads: of_run(JOBS.threads)
    resources:
        **spread(),
        mem_mb=grown(JOBS.costs.memory_mb, lambda attempt: attempt),
        runtime=grown(JOBS.runtime, lambda attempt: 2 ** (attempt - 1)),
        gpu=of_run(JOBS.gpus),
    params:
        settings=of_run(GRAPH.settings),
        digest=of_run(GRAPH.digest),
    shell:
        "exec python workflow/scripts/run.py {wildcards.stage} {wildcards.key} --digest {params.digest} > {log} 2>&1"


rule show:
    # The files of a table or figure.
    input:
        of_output(TARGETS.runs_of),
    log:
        f"{LOGS}/{{kind}}s/{{name}}.log",
    conda:
        "../../environment.yml"
    params:
        spec=of_output(TARGETS.spec),
        caption=of_output(TARGETS.caption),
    message:
        "Writing {wildcards.kind} {wildcards.name}"
    shell:
        "python workflow/scripts/write.py {wildcards.kind} {wildcards.name} > {log} 2>&1"
