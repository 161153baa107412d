"""Where should negatives come from? Their number, from the batch, a memory bank or a queue (MoCo, figure 3)."""

from dataclasses import replace

from nolabel.core import UserError
from nolabel.studies._findings import Table, inequality
from nolabel.studies._pictures import lines
from nolabel.studies._variants import DEFAULT, Told, Variant, study

BATCH = 64
ABOUT = (
    "Accuracy over the number of negatives by where they come from (MoCo: He et al. 2020, figure 3): the batch itself "
    "(end-to-end, SimCLR; batches of half as many images, whose views give two negatives fewer), a memory bank (instance "
    "discrimination) or the queue of a slow encoder (MoCo). Linear heads, tau 0.2 and the softmax for all. In the paper all "
    "rise with the number, the queue stands above the bank, and beside end-to-end as far as that one goes."
)


def negatives(numbers: tuple[int, ...] = (64, 256, 1024, 4096), end_to_end: int = 1024, how: Told = DEFAULT) -> None:
    """Train with more and more negatives by three mechanisms, and draw what they reach.

    Args:
        numbers: of negatives
        end_to_end: largest number for end-to-end, whose memory grows with it
        how: what every study can be told; `batch` (64 if not given) is that of bank and queue

    Example: nolabel study negatives --numbers 64 1024 16384 --minutes 5
    """
    counts = sorted(set(numbers))
    if len(counts) < 2 or any(count < 4 or count % 2 for count in counts):
        raise UserError("name at least two even numbers of negatives from 4 on, e.g. --numbers 64 1024")
    batch = how.batch or BATCH
    series = {
        label: [(count, f"{label}, {count}") for count in counts if label != "end-to-end" or count <= end_to_end]
        for label in ("end-to-end", "memory bank", "MoCo")
    }

    def variant(label: str, count: int, name: str) -> Variant:
        if label == "end-to-end":
            return Variant(name, "simclr", {"batch": count // 2, "hidden": 0, "temperature": 0.2})
        if label == "MoCo":
            fields = {"queue": count, "hidden": 0, "temperature": 0.2, "symmetric": False}
            return Variant(name, "moco_v2", {"batch": batch, **fields})
        fields = {"negatives": count, "softmax": True, "temperature": 0.2}
        return Variant(name, "instance_discrimination", {"batch": batch, **fields})

    variants = [variant(label, count, name) for label, line in series.items() for count, name in line]

    def findings(table: Table) -> list[str]:
        share = 1 / len(counts)
        queue_and_bank = {f"MoCo, {count}": share for count in counts}
        queue_and_bank |= {f"memory bank, {count}": -share for count in counts}
        rises = [
            inequality(f"{label} rises from {line[0][0]} to {line[-1][0]}", table, {line[-1][1]: 1, line[0][1]: -1})
            for label, line in series.items()
            if len(line) > 1
        ]
        return [inequality("MoCo above the memory bank, mean over numbers", table, queue_and_bank), *rises]

    study(
        "negatives", ABOUT, variants, replace(how, batch=None), findings,
        lambda table, axis: lines(table, series, axis, "negatives"), numbers=counts,
    )  # fmt: skip
