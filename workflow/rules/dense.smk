# Dense runs, and snapshots between their trunk states.


use rule run as dense with:
    input:
        **reads("trunk"),
        data=ancient(of_run(TARGETS.facts)),
    output:
        f"{RUN}/metrics.json",
        f"{RUN}/weights.safetensors",
        f"{RUN}/trunk.safetensors",
        f"{RUN}/history.csv",
    wildcard_constraints:
        stage="dense",
    priority: runs.Dense.priority


use rule run as snapshot with:
    input:
        **reads("trunk"),
    output:
        f"{RUN}/weights.safetensors",
    wildcard_constraints:
        stage="snapshot",
    priority: runs.Snapshot.priority
