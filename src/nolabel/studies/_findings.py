"""What a table of variants says about a paper's: orders by rank correlation, inequalities by their spread over seeds."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

import numpy as np

LEVEL = 0.05
"""share of chance that a finding may have"""
DRAWS = 20_000
"""orders drawn where there are too many to go through"""


@dataclass(frozen=True)
class Cell:
    """What one variant reached by one protocol."""

    values: dict[int, float] = field(default_factory=dict)
    """by seed"""
    random_init: float | None = None

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return mean(self.values.values())

    @property
    def std(self) -> float | None:
        """Over the seeds (n - 1)."""
        return stdev(self.values.values()) if len(self.values) > 1 else None


Table = Mapping[str, Cell]
"""the measured variants by name"""


def inequality(what: str, table: Table, weights: Mapping[str, float]) -> str:
    """Whether a sum of weighted variants is above 0, by Student's interval over the seeds that have all of them."""
    if missing := [name for name in weights if name not in table]:
        return f"{what}: open, {missing[0]} is not measured yet."
    seeds = set.intersection(*(set(table[name].values) for name in weights))
    found = [sum(w * table[name].values[seed] for name, w in weights.items()) for seed in sorted(seeds)]
    if len(found) < 2:
        said = f"{found[0]:+.1f} points" if found else "no seed has all of it"
        return f"{what}: {said}; open, the spread needs two seeds."
    middle, reach = mean(found), _student(len(found)) * stdev(found) / math.sqrt(len(found))
    low, high = middle - reach, middle + reach
    verdict = "shows" if low > 0 else "is the other way round" if high < 0 else "open, the interval holds 0"
    return f"{what}: {middle:+.1f} points, {low:+.1f} to {high:+.1f} over {len(found)} seeds; {verdict} at this size."


def order(what: str, table: Table, paper: Mapping[str, float]) -> str:
    """Whether the variants stand as in the paper, by Spearman's rank correlation and how often chance has as much."""
    names = [name for name in paper if name in table]
    if len(names) < 3:
        return f"{what}: open, {len(names)} of {len(paper)} variants are measured, and an order takes three."
    theirs = [paper[name] for name in names]
    rho, chance = spearman([table[name].mean for name in names], theirs)
    seeds = sorted(set.intersection(*(set(table[name].values) for name in names)))
    each = [spearman([table[name].values[seed] for name in names], theirs)[0] for seed in seeds]
    spread = f" ({min(each):+.2f} to {max(each):+.2f} by seed)" if len(each) > 1 else ""
    verdict = "shows" if chance <= LEVEL else "does not show"
    some = "" if len(names) == len(paper) else f" of {len(paper)}"
    return (
        f"{what}: rank correlation {rho:+.2f}{spread} over {len(names)}{some} variants, by chance as much or more in "
        f"{100 * chance:.2g} % of orders; {verdict} at this size."
    )


def spearman(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Rank correlation, ties sharing their ranks, and the share of all orders (of 20,000 for more than 8) with as much.

    0 and 1 where either side is all alike.
    """
    a, b = (_centred_ranks(x) for x in (ours, theirs))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    if scale == 0:
        return 0.0, 1.0
    if len(a) <= 8:
        orders = np.array(list(itertools.permutations(range(len(a)))))
    else:
        orders = np.random.default_rng(0).permuted(np.tile(np.arange(len(a)), (DRAWS, 1)), axis=1)
    rho = float(a @ b) / scale
    return rho, float(np.mean(a[orders] @ b / scale >= rho - 1e-9))


def _centred_ranks(x: Sequence[float]) -> np.ndarray:
    from scipy.stats import rankdata

    ranks: np.ndarray = rankdata(x)
    return ranks - ranks.mean()


def _student(count: int) -> float:
    """Half the width of the interval, in standard errors."""
    from scipy.stats import t

    return float(t.ppf(1 - LEVEL / 2, count - 1))
