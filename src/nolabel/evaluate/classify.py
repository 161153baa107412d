"""Classify: what the classifier that a method trained from few labels gets right, beside a net trained on these alone.

The value is the accuracy of the method's own classifier (its running average where the paper evaluates that). The
control, the column `random_init`, is the same encoder trained from scratch on the given labels and on nothing else, for
a fixed number of steps of the recipe of `fine-tune`: without it no gain can be credited to the unlabelled samples
(Oliver, Odena, Raffel, Cubuk, Goodfellow, NeurIPS 2018, arXiv:1804.09170).

The recipe of the control is fixed, because a few labels leave none over to choose a learning rate by; the test split is
looked at once.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from nolabel.core import Method, UserError
from nolabel.data import ArrayColumn, given
from nolabel.evaluate.features import EvalData
from nolabel.evaluate.finetune import FineTune
from nolabel.evaluate.knn import top_accuracy


class Classifier(nn.Module):
    """The classifier of a method: plain views (B, ...) -> logits (B, classes)."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, x: Tensor) -> Tensor:
        logits = self.method.predict(x)
        if logits is None:
            raise UserError(f"{type(self.method).__name__} trains no classifier")
        return logits


@dataclass(frozen=True)
class Classify:
    """Accuracy in percent of a `Classifier`: `top1`, and `top5` where there are more than 5 classes.

    An encoder that is no `Classifier` is trained, as a copy, on the given labels first.
    """

    steps: int = 400
    """of the control"""
    batch: int = 64
    """of the control"""
    rate: float = 1e-3
    """learning rate of the control"""

    name: ClassVar[str] = "classify"
    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("top1", "top5")

    def __call__(self, encoder: nn.Module, data: EvalData) -> dict[str, float]:
        """Accuracy on the test split. Raises UserError where training may use no labels."""
        if isinstance(encoder, Classifier):
            score, y = data.features(encoder, "test").labelled()
            return top_accuracy(score, y)
        return self._control(encoder, data)

    def _control(self, encoder: nn.Module, data: EvalData) -> dict[str, float]:
        train: Any = data.splits["train"]
        labels = given(train)
        if labels is None or not bool((labels >= 0).any()):
            raise UserError("training may use no labels, so there is nothing to compare with")
        seen = replace(train, columns={**train.columns, "label": ArrayColumn(labels)})
        rows = (labels >= 0).nonzero()[:, 0]
        few = replace(data, splits={**data.splits, "train": seen})
        batch = min(self.batch, len(rows))
        recipe = FineTune(epochs=self.steps / (len(rows) // batch), batch=batch)
        return recipe.at_rate(encoder, few, rows, self.rate)
