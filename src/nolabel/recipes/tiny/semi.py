"""The semi-supervised family; see the package. Batches hold a quarter of labelled rows."""

from typing import Any

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import MUON
from nolabel.views.weak import TwoWeak, Weak, WeakStrong


def _recipe(views: Weak, **fields: Any) -> Recipe:
    return Recipe("tiny", batch=128, minutes=2.5, fields={"views": views, "optim": MUON, **fields})


def supervised(size: int) -> Recipe:
    """The baseline of this setting: same steps, same views, labelled rows only."""
    return _recipe(Weak(size=size), momentum=0.99)


def fixmatch(size: int) -> Recipe:
    """Three samples without a label for each with one."""
    return _recipe(WeakStrong(size=size, operations=2), mu=3, momentum=0.99)


def uda(size: int) -> Recipe:
    """As FixMatch."""
    return _recipe(WeakStrong(size=size, operations=2), mu=3, momentum=0.99)


def pseudo_label(size: int) -> Recipe:
    """Two rounds after the supervised one, half of each class and then all."""
    return _recipe(Weak(size=size), rounds=2, grow=0.5, mu=3)


def noisy_student(size: int) -> Recipe:
    """Two students."""
    return _recipe(WeakStrong(size=size, operations=2), rounds=2, each_class=0, mu=3, dropout=0.2)


def data_distillation(size: int) -> Recipe:
    """The paper's mixture."""
    return _recipe(Weak(size=size), given=0.5)


def mean_teacher(size: int) -> Recipe:
    """A slower teacher, as there are few steps, and a weight for probabilities that are less sure than after days."""
    return _recipe(TwoWeak(size=size), mu=3, momentum=0.99, ramp_epochs=1.0, consistency_weight=5.0)


def vat(size: int) -> Recipe:
    """With entropy minimisation, the paper's better form. A step costs three others, so batches are small."""
    fields = {"mu": 1, "momentum": 0.98, "epsilon": 4.0, "entropy_weight": 0.3, "views": Weak(size=size), "optim": MUON}
    return Recipe("tiny", batch=64, minutes=2.5, fields=fields)


def entropy_minimisation(size: int) -> Recipe:
    """The weight of VAT's second term."""
    return _recipe(Weak(size=size), mu=3, momentum=0.99)


def s4l(size: int) -> Recipe:
    """Four turns of 64 images a step."""
    fields = {"views": Weak(size=size), "optim": MUON, "momentum": 0.99}
    return Recipe("tiny", batch=64, minutes=2.5, fields=fields, toyworld="upright")
