"""Does BYOL bear the loss of augmentations better than SimCLR? They are removed one by one (BYOL, figure 3b)."""

from typing import Any

from nolabel.studies._findings import Table, inequality, order
from nolabel.studies._pictures import lines
from nolabel.studies._variants import DEFAULT, Told, Variant, ladder, study

METHODS = {"BYOL": "byol", "SimCLR": "simclr"}
STEPS: list[tuple[str, dict[str, Any]]] = [
    ("all", {}),
    ("no grey", {"views": {"gray": 0.0}}),
    ("no colour", {"views": {"jitter_p": 0.0}}),
    ("crop + blur", {"views": {"flip": 0.0}}),
    ("crop", {"views": {"blur": (0.0, 0.0)}}),
]
"""each without what those before are without"""
START: dict[str, Any] = {
    "views": {"gray": 0.2, "jitter_p": 0.8, "flip": 0.5, "blur": (0.5, 0.5), "solarize": (0.0, 0.0)}
}

SERIES = {label: [(step, f"{label}, {step}") for step, _ in STEPS] for label in METHODS}
VARIANTS = [
    Variant(f"{label}, {step}", method, fields)
    for label, method in METHODS.items()
    for step, fields in ladder(STEPS, START)
]

ABOUT = (
    "BYOL and SimCLR with fewer and fewer augmentations (BYOL: Grill et al. 2020, figure 3b), the same for both. In the "
    "paper both fall at each step, and SimCLR, which then tells images apart by their colours, about twice as far."
)


def findings(table: Table) -> list[str]:
    """SimCLR loses more; each falls step by step."""
    lost = {"SimCLR, all": 1.0, "SimCLR, crop": -1.0, "BYOL, all": -1.0, "BYOL, crop": 1.0}
    falls = [
        order(f"{label} falls step by step", table, {name: -place for place, (_, name) in enumerate(line)})
        for label, line in SERIES.items()
    ]
    return [inequality("SimCLR loses more than BYOL from all augmentations to crops alone", table, lost), *falls]


def fewer_augmentations(how: Told = DEFAULT) -> None:
    """Train BYOL and SimCLR with augmentations removed one by one, and draw what they reach.

    Example: nolabel study fewer_augmentations --data cifar10/ --minutes 5
    """
    study(
        "fewer_augmentations", ABOUT, VARIANTS, how, findings,
        lambda table, axis: lines(table, SERIES, axis, "augmentations that are left"),
    )  # fmt: skip
