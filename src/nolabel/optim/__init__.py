"""Optimisers (torch's and timm's) and the schedules that drive them."""

from nolabel.optim.optim import optimizer, steady, undecayed
from nolabel.optim.schedule import learning_rate, weight_decay

__all__ = ["learning_rate", "optimizer", "steady", "undecayed", "weight_decay"]
