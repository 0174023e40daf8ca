# Sparse runs: one job per method, sparsity, rewind epoch and pair.


use rule run as sparse with:
    input:
        **reads("start", "mask", "permutation"),
    output:
        f"{RUN}/metrics.json",
        f"{RUN}/history.csv",
    wildcard_constraints:
        stage="sparse",
    priority: runs.Sparse.priority
