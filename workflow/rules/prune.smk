# Iterative magnitude pruning: rounds in blocks, masks of any sparsity, solutions.


use rule run as imp with:
    input:
        **reads("start", "rewind"),
    output:
        f"{RUN}/metrics.json",
        f"{RUN}/rounds.safetensors",
        f"{RUN}/history.csv",
    wildcard_constraints:
        stage="imp",
    priority: runs.ImpBlock.priority


use rule run as mask with:
    input:
        **reads("weights"),
    output:
        f"{RUN}/mask.safetensors",
        f"{RUN}/metrics.json",
    wildcard_constraints:
        stage="mask",
    priority: runs.Mask.priority


use rule run as solution with:
    input:
        **reads("mask", "start", "rewind"),
    output:
        f"{RUN}/metrics.json",
        f"{RUN}/history.csv",
        f"{RUN}/weights.safetensors",
        f"{RUN}/logits.safetensors",
    wildcard_constraints:
        stage="solution",
    priority: runs.Solution.priority
