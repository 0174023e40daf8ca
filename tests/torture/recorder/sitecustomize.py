"""Keeps a ledger of every training step: on the path of a process, it notes what that process trains.

A line per event, appended by one write to the file that PIPELINE_TORTURE_LEDGER names, so that it
outlives the process: where a training begins (its run, the saved state it starts from) and each
step that was done.
"""

import importlib.util
import json
import os
import sys
import time

FILE = os.environ.get("PIPELINE_TORTURE_LEDGER")


def note(**event):
    line = json.dumps({"pid": os.getpid(), "time": time.monotonic(), **event}) + "\n"
    file = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(file, line.encode())
    os.close(file)


def observe(training):
    """Note the steps of the one training loop, and where it starts."""
    load, train, step = training.Keeper.load, training.Trainer.train, training.Step.__call__

    def noted_load(self):
        saved = load(self)
        at = None if saved is None else [saved[1]["epoch"], saved[1]["step"]]
        note(event="load", run=str(self.folder.resolve()), slot=self.slot, at=at)
        return saved

    def noted_train(self, model, how):
        first, last = how.schedule.first, how.schedule.last
        note(event="train", first=first, last=last, steps=self._feed.steps)
        return train(self, model, how)

    def noted_step(self, *args, **options):
        result = step(self, *args, **options)
        note(event="step")
        return result

    training.Keeper.load = noted_load
    training.Trainer.train = noted_train
    training.Step.__call__ = noted_step


class Finder:
    """Finds one module, and observes it once it is loaded."""

    def find_spec(self, name, path, target=None):
        if name != "pipeline.training.loop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def executed(module):
            execute(module)
            observe(module)

        spec.loader.exec_module = executed
        return spec


if FILE:
    sys.meta_path.insert(0, Finder())
