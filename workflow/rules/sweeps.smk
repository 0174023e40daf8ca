# Sweeps over states of dense runs: permutations, barriers, planes; a job for each pair and sweep.


use rule run as align with:
    input:
        **reads("state"),
    output:
        f"{RUN}/permutations.safetensors",
        f"{RUN}/align.csv",
        f"{RUN}/metrics.json",
    wildcard_constraints:
        stage="align",
    priority: runs.Align.priority


use rule run as connect with:
    input:
        **reads("state", "permutations"),
    output:
        f"{RUN}/barriers.csv",
        f"{RUN}/metrics.json",
    wildcard_constraints:
        stage="connect",
    priority: runs.Connect.priority


use rule run as landscape with:
    input:
        **reads("state", "permutations"),
    output:
        f"{RUN}/planes.csv",
        f"{RUN}/paths.csv",
        f"{RUN}/metrics.json",
    wildcard_constraints:
        stage="landscape",
    priority: runs.Landscape.priority
