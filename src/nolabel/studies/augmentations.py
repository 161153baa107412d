"""Which pairs of augmentations make SimCLR learn? Every pair, and each one alone (SimCLR, figure 5)."""

from itertools import combinations_with_replacement
from typing import Any

from nolabel.studies._findings import Table, inequality, order
from nolabel.studies._pictures import heat_map
from nolabel.studies._variants import DEFAULT, Told, Variant, merged, study

NONE: dict[str, Any] = {
    "one_sided": True, "scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "jitter_p": 0.0, "gray": 0.0,
    "blur": (0.0, 0.0), "solarize": (0.0, 0.0),
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "crop": {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "flip": 0.5},
    "colour": {"strength": 1.0, "jitter": (0.8, 0.8, 0.8, 0.2), "jitter_p": 0.8},
    "grey": {"gray": 0.5},
    "blur": {"blur": (0.0, 0.5)},
    "solarise": {"solarize": (0.0, 0.5)},
}
"""what each switches on in `views.TwoViews`, at the paper's strength"""
PAPER = ("blur", "colour + blur", "colour", "crop", "crop + blur", "crop + colour")
"""from worst to best, of those that figure 5 has too"""

ABOUT = (
    "Every pair of augmentations, and each alone on the diagonal (SimCLR: Chen et al. 2020, figure 5). As in the paper one "
    "branch sees the image as it is and the other the augmented one, which lowers every number. Pairs are made in one "
    "order, so the square is symmetric; `colour` is jitter without the grey that the paper counts in."
)


def pair(first: str, second: str) -> str:
    """The name of a cell."""
    return " + ".join(kind for kind in KINDS if kind in (first, second))


VARIANTS = [
    Variant(pair(a, b), "simclr", {"views": merged(NONE, KINDS[a], KINDS[b])})
    for a, b in combinations_with_replacement(KINDS, 2)
]


def findings(table: Table) -> list[str]:
    """Crop and colour are the best pair; the cells of both figures stand in the same order."""
    others = [v.name for v in VARIANTS if v.name in table and v.name != "crop + colour"]
    rival = max(others, key=lambda name: table[name].mean, default="crop")
    return [
        inequality(f"Crop + colour above the best of the others, {rival}", table, {"crop + colour": 1, rival: -1}),
        order("Order of figure 5", table, {name: place for place, name in enumerate(PAPER)}),
    ]


def augmentations(how: Told = DEFAULT) -> None:
    """Train SimCLR with every pair of augmentations on one branch, and draw the square of what they reach.

    Example: nolabel study augmentations --data cifar10/ --minutes 5
    """
    study(
        "augmentations", ABOUT, VARIANTS, how, findings, lambda table, axis: heat_map(table, tuple(KINDS), pair, axis)
    )
