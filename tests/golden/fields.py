"""The default fields of every method, as JSON: a changed default is a visible difference in review."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "data"


def stored(name):
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text())["fields"] if path.exists() else None


def measure(name):
    from nolabel import methods
    from nolabel.core.fields import to_json

    return to_json(methods.load(name)())
