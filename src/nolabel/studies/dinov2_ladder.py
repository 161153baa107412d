"""What makes DINOv2 of iBOT? Its changes one on top of the other (DINOv2, table 1)."""

from dataclasses import dataclass, field, replace
from typing import Any

from nolabel.core import UserError
from nolabel.studies._findings import Table, inequality, order
from nolabel.studies._pictures import bars
from nolabel.studies._variants import DEFAULT, How, Told, Variant, ladder, study

SIZE = 32
BASE: dict[str, Any] = {
    "prototypes": 64,
    "bottleneck": 85,
    "momentum": (1 / 3, 1.0),
    "optim": {"warmup_epochs": 0.025},
    "batch": 42,
    "encoder": "tiny_hybrid",
}
OFF: dict[str, Any] = {"koleo": 0.0, "sinkhorn": False, "untied": False}


@dataclass(frozen=True)
class Row:
    """One row of the table: what it changes, and the paper's k-NN and linear accuracies on ImageNet."""

    name: str
    fields: dict[str, Any]
    knn: float
    linear: float
    method: str = "dinov2"
    own: dict[str, Any] = field(default_factory=dict)
    """what the rows below it do not have"""


def table_1(size: int) -> list[Row]:
    """The rows, for images of a side; numbers grow by the paper's factors, up to those of the small recipe."""
    patch = size // 8
    smaller = {"encoder": "tiny_hybrid_ninth", "size": 9 * patch, "views": {"size": 6 * patch, "local_size": 5 * patch}}
    return [
        Row("iBOT", {"sinkhorn": False}, 72.9, 82.3, "ibot", {"shared_head": True}),
        Row("our reproduction", OFF, 74.5, 83.2),
        Row("+ LayerScale, stochastic depth", {"encoder": "tiny_hybrid_drop"}, 75.4, 82.0),
        Row("+ twice the prototypes", {"prototypes": 128, "bottleneck": 128}, 76.6, 81.9),
        Row("+ KoLeo", {"koleo": 0.1}, 78.9, 82.5),
        Row("+ SwiGLU", {"encoder": "tiny_hybrid_swiglu"}, 78.7, 83.1),
        Row("+ smaller patches", smaller, 78.9, 83.5),
        Row("+ slower teacher", {"momentum": (0.5, 1.0)}, 79.4, 83.6),
        Row("+ longer warm-up", {"optim": {"warmup_epochs": 0.2}}, 80.5, 83.8),
        Row("+ larger batch", {"batch": 64}, 81.7, 84.7),
        Row("+ Sinkhorn", {"sinkhorn": True}, 81.7, 84.7),
        Row("+ untied heads: DINOv2", {"untied": True}, 82.0, 84.5),
    ]


ABOUT = (
    "From iBOT to DINOv2 (Oquab et al. 2024, table 1): every row has the changes of those above it. Prototypes, momentum, "
    "warm-up and batch grow by the paper's factors up to the small recipe's; a ninth of the side for an eighth stands for "
    "patches of 14 px for 16. `our reproduction` has DINOv2's masks."
)


def variants(how: How) -> list[Variant]:
    """The rows as trainings; without those of the encoder where one was named."""
    size = how.size or SIZE
    if size % 8:
        raise UserError(f"--size {size} does not divide into 8 x 8 patches")
    rows = table_1(size)
    if how.encoder is not None:
        rows = [row for row in rows if "encoder" not in row.fields]
    fields = dict(
        ladder([(row.name, row.fields) for row in rows], {"size": size, "views": {"size": 6 * size // 8}, **BASE})
    )
    made = []
    for row in rows:
        chosen = {k: v for k, v in fields[row.name].items() if k != "encoder" or how.encoder is None}
        made.append(Variant(row.name, row.method, {**chosen, **row.own}, {"knn": row.knn, "linear": row.linear}))
    return made


def dinov2_ladder(how: Told = DEFAULT) -> None:
    """Train from iBOT to DINOv2 row by row, and draw what each reaches. With --encoder its own rows are left out.

    Example: nolabel study dinov2_ladder --protocols knn linear --minutes 10
    """
    rows = variants(how)
    names = [row.name for row in rows]
    judge = next(iter(how.protocols), "")
    paper = {row.name: row.paper[judge] for row in rows if judge in row.paper}

    def findings(table: Table) -> list[str]:
        above = {names[-1]: 1, names[0]: -1}
        return [order("Order of table 1", table, paper), inequality("DINOv2 above iBOT", table, above)]

    study(
        "dinov2_ladder", ABOUT, rows, replace(how, size=None, batch=None), findings,
        lambda table, axis: bars(table, names, paper, axis),
    )  # fmt: skip
