"""What makes MoCo v2 of MoCo v1? Head, augmentation, cosine and length, row by row (MoCo v2, table 1)."""

from typing import Any

from nolabel.studies._findings import Table, inequality, order
from nolabel.studies._pictures import bars
from nolabel.studies._variants import DEFAULT, How, Told, Variant, merged, study

V1: dict[str, Any] = {
    "hidden": 0,
    "temperature": 0.07,
    "views": {"strength": 1.0, "jitter": (0.4, 0.4, 0.4, 0.4), "jitter_p": 1.0, "blur": (0.0, 0.0)},
    "optim": {"drops": (0.6, 0.8)},
}
HEAD: dict[str, Any] = {"hidden": 512, "temperature": 0.2}
AUGMENTATION: dict[str, Any] = {"views": {"jitter": (0.4, 0.4, 0.4, 0.1), "jitter_p": 0.8, "blur": (0.5, 0.5)}}
COSINE: dict[str, Any] = {"optim": {"drops": ()}}
LONGER = 4
"""800 epochs for 200"""

ROWS: list[tuple[str, tuple[dict[str, Any], ...], float]] = [
    ("v1", (), 60.6),
    ("head", (HEAD,), 66.2),
    ("augmentation", (AUGMENTATION,), 63.4),
    ("head + augmentation", (HEAD, AUGMENTATION), 67.3),
    ("head + augmentation + cosine: v2", (HEAD, AUGMENTATION, COSINE), 67.5),
    ("v2, four times as long", (HEAD, AUGMENTATION, COSINE), 71.1),
]
"""rows a to e of the paper below version 1, and its linear accuracies on ImageNet"""
PAPER = {name: accuracy for name, _, accuracy in ROWS}

ABOUT = (
    "From MoCo v1 to v2 (Chen, Fan, Girshick, He 2020, table 1): an MLP for the linear head, with the tau of 0.2 that suits "
    "it; weaker hues and blur (`aug+`); a cosine in the place of steps; four times the length."
)


def variants(how: How) -> list[Variant]:
    """The rows; the last one has its own length."""
    longer = {"minutes": LONGER * how.minutes} if how.epochs is None else {"epochs": LONGER * how.epochs}
    return [
        Variant(
            name, "moco_v2", merged(V1, *changes, longer if name == ROWS[-1][0] else {}), {"linear": accuracy}
        )
        for name, changes, accuracy in ROWS
    ]  # fmt: skip


def findings(table: Table) -> list[str]:
    """The order of the rows; version 2 is above version 1."""
    above = {"head + augmentation + cosine: v2": 1, "v1": -1}
    return [order("Order of table 1", table, PAPER), inequality("Version 2 above version 1", table, above)]


def moco_ladder(how: Told = DEFAULT) -> None:
    """Train MoCo from version 1 to version 2 row by row, and draw what each reaches.

    Example: nolabel study moco_ladder --data cifar10/ --minutes 5
    """
    names = [name for name, *_ in ROWS]
    study("moco_ladder", ABOUT, variants(how), how, findings, lambda table, axis: bars(table, names, PAPER, axis))
