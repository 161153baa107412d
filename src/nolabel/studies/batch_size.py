"""Does BYOL need large batches less than SimCLR? Both over the size of the batch (BYOL, figure 3a)."""

from nolabel.core import UserError
from nolabel.studies._findings import Table, inequality
from nolabel.studies._pictures import lines
from nolabel.studies._variants import DEFAULT, Told, Variant, study

METHODS = {"BYOL": "byol", "SimCLR": "simclr"}

ABOUT = (
    "BYOL and SimCLR over the size of the batch (BYOL: Grill et al. 2020, figure 3a). SimCLR's negatives are the batch; "
    "BYOL has none, and in the paper falls less with smaller batches. Rates are those of the recipe at every size."
)


def batch_size(batches: tuple[int, ...] = (512, 256, 128, 64, 32), how: Told = DEFAULT) -> None:
    """Train BYOL and SimCLR with batches of several sizes, and draw what they reach.

    Args:
        batches: sizes of the batch
        how: what every study can be told

    Example: nolabel study batch_size --batches 256 64 16 --minutes 5
    """
    if len(sizes := sorted(set(batches))) < 2:
        raise UserError("name at least two sizes of the batch, e.g. --batches 256 32")
    series = {label: [(size, f"{label}, batch {size}") for size in sizes] for label in METHODS}
    variants = [Variant(name, METHODS[label], {"batch": size}) for label, line in series.items() for size, name in line]
    least, most = sizes[0], sizes[-1]

    def findings(table: Table) -> list[str]:
        lost = {f"SimCLR, batch {most}": 1, f"SimCLR, batch {least}": -1}
        lost |= {f"BYOL, batch {most}": -1, f"BYOL, batch {least}": 1}
        return [inequality(f"SimCLR loses more than BYOL from batches of {most} to {least}", table, lost)]

    study(
        "batch_size",
        ABOUT,
        variants,
        how,
        findings,
        lambda table, axis: lines(table, series, axis, "samples in a batch"),
        batches=sizes,
    )
