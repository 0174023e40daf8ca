# Curves between networks, what permutations of any origin do, barriers along IMP, loss planes.


use rule run as curve with:
    input:
        **reads("a", "b", "permutation"),
    output:
        f"{RUN}/curve.csv",
        f"{RUN}/metrics.json",
    wildcard_constraints:
        stage="curve",
    priority: runs.Curve.priority


use rule run as permutation_quality with:
    input:
        **reads("a", "b", "permutation"),
    output:
        f"{RUN}/metrics.json",
    wildcard_constraints:
        stage="permutation-quality",
    priority: runs.PermutationQuality.priority


use rule run as imp_barrier with:
    input:
        **reads("dense", "block", "solution"),
    output:
        f"{RUN}/barrier.csv",
        f"{RUN}/metrics.json",
    wildcard_constraints:
        stage="imp-barrier",
    priority: runs.ImpBarrier.priority


use rule run as plane with:
    input:
        **reads("lth", "dense", "permuted", "permutation"),
    output:
        f"{RUN}/plane.csv",
        f"{RUN}/metrics.json",
    wildcard_constraints:
        stage="plane",
    priority: runs.Plane.priority
