"""The semi-supervised family; see the package. With `--labels 40`, 250 or 4000.

One frame for all (Oliver et al. 2018): FixMatch's 64 samples with a label and 448 without a step, its SGD and average, and
2^16 steps, a sixteenth of the paper's; a ResNet-18 in the place of a WRN-28-2. So methods differ in their loss alone.
"""

from typing import Any

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.weak import TwoWeak, Weak, WeakStrong

SGD = Optim("sgd", lr=0.03, nesterov=True, weight_decay=5e-4, scaled=False, warmup_epochs=0)


def _recipe(views: Weak, stages: int = 1, **fields: Any) -> Recipe:
    """Epochs are those of 50,000 samples without a label; stages share them out."""
    return Recipe("resnet18", batch=512, epochs=600 / stages, fields={"mu": 7, "views": views, "optim": SGD, **fields})


def supervised(size: int) -> Recipe:
    """The baseline: as many labelled samples a step. As many steps with 4,000 labels, 1,000 epochs of them; say --steps 65000
    for other numbers.
    """
    return Recipe("resnet18", batch=64, epochs=1000, fields={"views": Weak(size=size), "optim": SGD})


def fixmatch(size: int) -> Recipe:
    """95.8 % with 4,000 labels and 92.5 % with 40 in TorchSSL, in 2^20 steps of a WRN-28-2."""
    return _recipe(WeakStrong(size=size))


def uda(size: int) -> Recipe:
    """95.8 % with 4,000 labels and 94.6 % with 40 in TorchSSL, in 2^20 steps of a WRN-28-2."""
    return _recipe(WeakStrong(size=size))


def mean_teacher(size: int) -> Recipe:
    """A slower teacher than the paper's, which had 180 epochs: 91.9 % with 4,000 labels in TorchSSL."""
    return _recipe(TwoWeak(size=size), momentum=0.999)


def vat(size: int) -> Recipe:
    """89.5 % with 4,000 labels in TorchSSL."""
    return _recipe(Weak(size=size), entropy_weight=0.06)


def entropy_minimisation(size: int) -> Recipe:
    """The paper's weight."""
    return _recipe(Weak(size=size))


def pseudo_label(size: int) -> Recipe:
    """A supervised round and three of self-training: 85.3 % with 4,000 labels in TorchSSL, which guesses anew at every step."""
    return _recipe(Weak(size=size), stages=4)


def noisy_student(size: int) -> Recipe:
    """A teacher and three students of its size."""
    return _recipe(WeakStrong(size=size, operations=2), stages=4, each_class=0)


def s4l(size: int) -> Recipe:
    """The paper's equal parts, 64 samples with a label and 64 without: four turns make them the 512 views of the others."""
    fields = {"views": Weak(size=size), "optim": SGD}
    return Recipe("resnet18", batch=128, epochs=84, fields=fields)
