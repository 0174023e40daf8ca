# Activation matching of a onto b.


use rule run as match with:
    input:
        **reads("a", "b"),
    output:
        f"{RUN}/permutation.safetensors",
        f"{RUN}/metrics.json",
    wildcard_constraints:
        stage="match",
    priority: runs.Match.priority
