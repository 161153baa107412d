"""Losses of four steps of every method in its small form, float32, one thread."""

import json

from tests.golden.fields import FOLDER


def stored(name):
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text())["losses"] if path.exists() else None


def measure(name):
    from nolabel.engine import Observer
    from tests.support import run

    seen = []

    class Keep(Observer):
        def on_log(self, run, record):
            seen.append(round(float(record["loss"]), 6))

    r = run(name, steps=4, log_every=1)
    r.observers = [Keep()]
    r.train()
    return seen
