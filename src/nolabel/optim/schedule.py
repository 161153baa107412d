"""Learning rate and weight decay as pure functions of the clock."""

import math

from nolabel.core import Clock, Optim


def learning_rate(settings: Optim, t: Clock, batch: int, steady: bool = False) -> float:
    """Linear warm-up, then a half cosine to `final_lr`, or steps where `drops` are given. `batch` is global.

    `steady` parameters have the highest rate all along.
    """
    peak = settings.lr * (batch / 256 if settings.scaled else 1.0)
    if steady:
        return peak
    warmup = min(max(settings.warmup_epochs * t.epoch_steps, settings.warmup_steps), 0.25 * t.steps)
    if t.step < warmup:
        return peak * (t.step + 1) / warmup if warmup >= 1 else peak
    if settings.drops:
        return peak * settings.drop ** sum(t.step >= d * t.steps for d in settings.drops)
    done = min(1.0, (t.step - warmup) / max(1.0, t.steps - warmup))
    return settings.final_lr + (peak - settings.final_lr) * 0.5 * (1 + math.cos(math.pi * done))


def weight_decay(settings: Optim, t: Clock) -> float:
    """Constant, or a half cosine from `weight_decay` to `final_weight_decay`."""
    if settings.final_weight_decay is None:
        return settings.weight_decay
    return t.cosine(settings.weight_decay, settings.final_weight_decay)
