"""`python -m tests.golden [--update] [METHOD ...]`: show how numbers differ from the stored ones, and store them."""

import argparse
import json

import torch

from nolabel import methods
from tests.golden import fields, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*")
    parser.add_argument("--update", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for name in chosen.methods or methods.names():
        now = {"fields": fields.measure(name), "losses": losses.measure(name)}
        before = {"fields": fields.stored(name), "losses": losses.stored(name)}
        if now == before:
            print(f"{name}: as stored")
            continue
        print(f"{name}:")
        for key in ("losses", *sorted(now["fields"])):
            a, b = (x[key] if key == "losses" else (x["fields"] or {}).get(key) for x in (before, now))
            if a != b:
                print(f"  {key}: {a} -> {b}")
        if chosen.update:
            fields.FOLDER.mkdir(exist_ok=True)
            (fields.FOLDER / f"{name}.json").write_text(json.dumps(now, indent=1) + "\n")


if __name__ == "__main__":
    main()
