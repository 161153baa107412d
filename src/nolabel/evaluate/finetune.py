"""Fine-tuning: all weights are trained with labels. Says how good a start the encoder is, not how good its features.

The reference is the same net from scratch, with the same number of steps and the same choice of learning rate. In the
rows of `judge` that is the column `random_init`: this protocol run on the untrained encoder.

    CE with label smoothing of a linear head on the encoder; AdamW, cosine with 5 % warm-up; random shift and flip

As for the linear probe, 10 % of the training split choose the learning rate, the net is trained again on all of it, and
the test split is looked at once. It is a plain recipe, without layer-wise rates, mixup or RandAugment: numbers compare
encoders with each other here, not with papers that tune these.
"""

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core import Clock, UserError
from nolabel.core.random import fold, generator, seed_all
from nolabel.evaluate.features import EvalData, autocast, frozen, to_device
from nolabel.evaluate.knn import top_accuracy
from nolabel.views.weak import shift_and_flip

_VALIDATION, _ORDER, _STEP = 0xF1E, 0xF10, 0xF15
"""purposes of the seeds"""


@dataclass(frozen=True)
class FineTune:
    """Accuracy in percent of the fine-tuned net: `top1`, and `top5` where there are more than 5 classes."""

    epochs: float = 20
    batch: int = 256
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    """learning rates to choose from, ascending"""
    weight_decay: float = 0.05
    """not of biases, norms and other 1-D parameters"""
    smoothing: float = 0.1
    shift: float = 0.125
    """largest shift as a part of the side; images are reflected at the border. 0 switches shift and flip off"""
    validation: float = 0.1
    samples: int | None = None
    """of the training split, drawn by the seed alone: a start is worth more where labels are few; None takes all"""

    name: ClassVar[str] = "fine-tune"
    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("top1", "top5")

    def __call__(self, encoder: nn.Module, data: EvalData) -> dict[str, float]:
        """Works on copies: the encoder stays as it is. Raises UserError where a split has no labels."""
        train = data.splits["train"]
        rows = torch.randperm(len(train), generator=generator(fold(data.seed, _VALIDATION)))[: self.samples]
        held_out = max(1, round(self.validation * len(rows)))
        scores = [0.0]
        if len(self.rates) > 1:
            nets = (self._train(encoder, data, rows[held_out:], rate) for rate in self.rates)
            scores = [self._accuracy(net, data, "train", rows[:held_out])["top1"] for net in nets]
        best = max(range(len(scores)), key=scores.__getitem__)  # the first of equals
        at_edge = float(len(self.rates) > 1 and best in (0, len(self.rates) - 1))
        result = self.at_rate(encoder, data, rows, self.rates[best])
        return {**result, "rate": self.rates[best], "at_edge": at_edge}

    def at_rate(self, encoder: nn.Module, data: EvalData, rows: Tensor, rate: float) -> dict[str, float]:
        """Test accuracy after training on these rows (M,) of the training split alone, at one learning rate."""
        net = self._train(encoder, data, rows, rate)
        return self._accuracy(net, data, "test", torch.arange(len(data.splits["test"])))

    def _train(self, encoder: nn.Module, data: EvalData, rows: Tensor, rate: float) -> nn.Module:
        train, device = data.splits["train"], torch.device(data.device)
        head = nn.Linear(encoder.dim, len(train.classes))  # type: ignore[arg-type]
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        net = nn.Sequential(copy.deepcopy(encoder), head).to(device).train().requires_grad_()
        weights, others = [p for p in net.parameters() if p.ndim > 1], [p for p in net.parameters() if p.ndim < 2]
        groups = [{"params": weights, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=rate)
        batch = min(self.batch, len(rows))
        epoch_steps = len(rows) // batch
        steps = max(1, round(self.epochs * epoch_steps))
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
            for step in range(steps):
                epoch, i = divmod(step, epoch_steps)
                if i == 0:
                    order = torch.randperm(len(rows), generator=generator(fold(data.seed, _ORDER, epoch)))
                seed = fold(data.seed, _STEP, step)
                seed_all(seed)  # of dropout and stochastic depth
                stored = to_device(train.take(rows[order[i * batch : (i + 1) * batch]]), device)
                if "label" not in stored:
                    raise UserError("fine-tuning needs labels and the training split has none")
                view = data.transform(stored)
                if data.modality in ("image", "video"):
                    view = self._augment(view, generator(seed, device))
                with autocast(device, data.precision):
                    logits = net(view)
                label = stored["label"].long()
                loss = F.cross_entropy(
                    logits.float(), label, label_smoothing=self.smoothing, ignore_index=-1, reduction="sum"
                ) / (label >= 0).sum().clamp(min=1)
                t = Clock(step, steps, epoch_steps)
                for group in optimizer.param_groups:
                    group["lr"] = t.cosine(rate, 0.0) * min(1.0, (step + 1) / max(1.0, 0.05 * steps))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return net

    def _augment(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        """Flip half of the images and shift each by up to `shift` of its side; the frames of a clip all alike."""
        if self.shift == 0:
            return x_BCHW
        if x_BCHW.ndim == 5:
            return self._augment(x_BCHW.flatten(1, 2), rng).unflatten(1, x_BCHW.shape[1:3])
        return shift_and_flip(x_BCHW, self.shift, rng)

    def _accuracy(self, net: nn.Module, data: EvalData, split: str, rows: Tensor) -> dict[str, float]:
        device, logits, labels = torch.device(data.device), [], []
        with frozen(net):
            for part in rows.split(data.batch):
                stored = to_device(data.splits[split].take(part), device)
                with autocast(device, data.precision):
                    logits.append(net(data.transform(stored)).double())
                labels.append(stored["label"].long())
        score, y = torch.cat(logits), torch.cat(labels)
        return top_accuracy(score[y >= 0], y[y >= 0])
