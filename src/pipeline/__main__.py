"""``python -m pipeline``: plan, check, and look at a study without running it."""

from pipeline.commands import main
from pipeline.machine.process import process

process(main)
