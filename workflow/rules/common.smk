# What all rules share. Nothing here imports torch, pandas or numpy: every cluster job reads it.


def stop(error):
    """End with one clear line and status 1, without a traceback."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(1)


try:
    STUDY = declared.Workflow(
        workflow.basedir, config, workflow.resource_settings.nodes
    )
    STUDY.take_over(dry=workflow.output_settings.dryrun)
except UserError as error:
    stop(error)

RESULTS = STUDY.results
SCOPE = STUDY.scope


def guarded(function):
    """The function of wildcards, with a user's mistake told in one line."""

    def call(wildcards):
        try:
            return function(wildcards)
        except UserError as error:
            stop(error)

    return call


def stopped():
    """Whether SIGTERM has come while jobs ran: these save and end, and no other begins."""
    return getattr(getattr(workflow, "scheduler", None), "_user_kill", None) is not None


# The end of jobs that were asked to end is no error, and their logs need not be shown.
logging.getLogger("snakemake.logging").addFilter(
    lambda record: record.levelno < logging.ERROR or not stopped()
)


def inputs_of(stage):
    """The files that the run of a stage reads, its data set's check first."""
    return guarded(lambda wildcards: STUDY.inputs(stage, wildcards.key))


def params_of(stage):
    """The run's resolved settings, sorted, as one value that Snakemake compares."""
    return guarded(lambda wildcards: STUDY.settings(stage, wildcards.key))


def digest_of(stage):
    """Digest of the settings: the job refuses to run with others."""
    return guarded(lambda wildcards: STUDY.digest(stage, wildcards.key))


def threads_of(stage):
    """Compute threads: a setting of the run, part of its bits."""
    return guarded(lambda wildcards: STUDY.threads(stage, wildcards.key))


def gpus_of(stage):
    """GPUs of the run: none on the CPU, one, or one for each process that shares it."""
    return guarded(lambda wildcards: STUDY.gpus(stage, wildcards.key))


def spread_of(stage):
    """What Slurm is asked for a run on several machines; nothing where none is declared so."""
    if STUDY.config.main.nodes == 1:
        return {}
    nodes = guarded(lambda wildcards: STUDY.nodes(stage, wildcards.key))
    # One task a machine, from which torchrun starts a process for each GPU. "mpi" leaves it to the
    # job to call srun.
    return dict(
        nodes=nodes,
        tasks=nodes,
        tasks_per_gpu=0,
        mpi=lambda wildcards: "srun" if nodes(wildcards) else None,
    )


def memory_of(stage):
    """Main memory in MB from data set and network, more at each retry."""

    def call(wildcards, attempt):
        return STUDY.memory_mb(stage, wildcards.key) * attempt

    return call


def runtime_of(stage):
    """Minutes from epochs and rates, twice as many at each retry."""

    def call(wildcards, attempt):
        return STUDY.runtime(stage, wildcards.key) * 2 ** (attempt - 1)

    return call


report: "../report/workflow.rst"


wildcard_constraints:
    key=r"[A-Za-z0-9_.+=@/-]+",
    dataset=r"[A-Za-z0-9_.+=-]+",
    name=r"[A-Za-z0-9_-]+",


onstart:
    try:
        STUDY.started(workflow)
    except UserError as error:
        stop(error)


onsuccess:
    STUDY.ended(True)


onerror:
    if STUDY.ended(False, stopped()):
        print("stopped: the same command goes on", file=sys.stderr, flush=True)
        sys.exit(os.EX_TEMPFAIL)
