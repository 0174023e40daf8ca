# What the rules ask. Nothing here imports torch, pandas or numpy: every cluster job reads it.


def stop(error):
    """End with one clear line and status 1, without a traceback."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(1)


def rest():
    """End because a signal came: what ran is saved."""
    print("stopped: the same command goes on", file=sys.stderr, flush=True)
    sys.exit(os.EX_TEMPFAIL)


try:
    memory.tune()
    memory.collect_rarely()
    SUBMITTED = frozen()  # in a job, what the call that started it has read
    CONFIG = SUBMITTED or begin(workflow.basedir, config)
    GRAPH = Graph(CONFIG)
    JOBS = Jobs(GRAPH, internals.elsewhere(workflow))
    TARGETS = Targets(GRAPH)
    CALL = Call(GRAPH, JOBS, submitted=bool(SUBMITTED))
    CALL.settle()
    if not SUBMITTED:
        CALL.take_over(internals.dry(workflow))
except UserError as error:
    stop(error)

RESULTS = CONFIG.main.results
RUN = f"{RESULTS}/{{stage}}/{{key}}"  # the folder of a run
SCOPE = f"{RESULTS}/{CONFIG.scope}"  # the folder of a study's tables and figures
LOGS = f"{RESULTS}/logs/{CONFIG.scope}"


def guarded(function):
    """The function of wildcards, with a user's mistake told in one line."""

    def told(wildcards):
        try:
            return function(wildcards)
        except UserError as error:
            stop(error)

    return told


def of_run(ask):
    """What ``ask`` says of the run that wildcards name."""
    return guarded(lambda wildcards: ask(CALL.run(wildcards.stage, wildcards.key)))


def grown(ask, factor):
    """The same, ``factor(attempt)`` times as much at each retry."""
    return lambda wildcards, attempt: of_run(ask)(wildcards) * factor(attempt)


def reads(*roles):
    """The files that a run reads by role, none in a role that it has not; block1, block2, … are
    one role: block."""

    def files(role):
        return of_run(
            lambda run: [
                f"{RESULTS}/{file.path}"
                for name, file in GRAPH.inputs(run).items()
                if name.rstrip("0123456789") == role
            ]
        )

    return {role: files(role) for role in roles}


def of_output(ask):
    """What ``ask`` says of the table or figure that wildcards name."""
    return guarded(lambda wildcards: ask(wildcards.name))


def labels(what):
    """Name of the table or figure in the report's menu."""
    return of_output(lambda name: {what: TARGETS.label(name)})


def spread():
    """What Slurm is asked for a run on several machines; nothing where none is declared so."""
    if CONFIG.main.nodes == 1:
        return {}
    nodes = of_run(JOBS.nodes)
    # One task a machine, from which torchrun starts a process for each GPU. "mpi" leaves it to the
    # job to call srun.
    return dict(
        nodes=nodes,
        tasks=nodes,
        tasks_per_gpu=lambda wildcards: 0 if nodes(wildcards) else None,
        mpi=lambda wildcards: "srun" if nodes(wildcards) else None,
    )


report: "../report/workflow.rst"


wildcard_constraints:
    key=r"[A-Za-z0-9_.+=@/-]+",
    dataset=r"[A-Za-z0-9_.+=-]+",
    name=r"[A-Za-z0-9_-]+",


internals.end_quietly(workflow)
internals.note_jobs(workflow)
if not SUBMITTED:
    internals.hush(workflow)
internals.explain(CALL.unknown)


onstart:
    try:
        internals.stop_safely(workflow)
        if not internals.touching(workflow):
            CALL.started(internals.jobs(workflow), internals.cores(workflow))
    except UserError as error:
        stop(error)
    except Interrupted:
        rest()


onsuccess:
    CALL.ended(True)


onerror:
    if CALL.ended(False, internals.stopped(workflow)):
        rest()
