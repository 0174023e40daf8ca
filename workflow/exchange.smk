# Finished runs in object storage, an archive an object, by Snakemake's storage plugin for S3:
# snakemake -s workflow/exchange.smk -c1 push --config study=demo pack=s3://BUCKET/NAME.tar
# snakemake -s workflow/exchange.smk -c1 pull --config study=demo pack=s3://BUCKET/NAME.tar
# Endpoint and keys are the plugin's own options and variables.
import json
import shlex
import sys
from pathlib import Path

from pipeline import snakemake_internals as internals
from pipeline.errors import UserError
from pipeline.study.config import read
from pipeline.study.exchange import Exchange, finished


def told(ask):
    """What ``ask`` says; a user's mistake ends the call with one line and status 1."""
    try:
        return ask()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)


EXCHANGE = told(lambda: Exchange.asked(config))
CONFIG = told(lambda: read(Path.cwd(), config))


# By a name of its own, so that pull is not a reason to push.
storage incoming:
    provider="s3",


SENT, FETCHED = storage.s3(EXCHANGE.pack), storage.incoming(EXCHANGE.pack)


def can_push():
    """Nothing to be read; before the job, what it would end on."""
    finished(CONFIG)
    # Snakemake would remove it, and the bucket that it leaves empty, before the job.
    if internals.stored(SENT):
        raise UserError(
            f"{EXCHANGE.pack} is there, and stays: push under another name, or delete it there"
        )
    return []


def can_pull():
    """Nothing more to be read than the archive, which is there."""
    if not internals.stored(FETCHED):
        raise UserError(f"{EXCHANGE.pack}: no such object")
    return []


rule pull:
    # An archive, checked and laid into a folder of its own, for slices=.
    input:
        lambda wildcards: told(can_pull),
        pack=ancient(FETCHED),
    output:
        directory(EXCHANGE.folder),
    localrule: True
    shell:
        "python -m pipeline unpack {input.pack:q} {output:q}"


rule push:
    # The finished runs of a study; what is there already is never written again.
    input:
        lambda wildcards: told(can_push),
    output:
        SENT,
    localrule: True
    params:
        study=" ".join(
            ["--config"] * bool(config)
            + [
                shlex.quote(f"{key}={json.dumps(value)}")
                for key, value in config.items()
            ]
        ),
    shell:
        "python -m pipeline pack {output:q} {params.study}"
