"""Train any method of nolabel under Lightning.

    module = MethodModule(method)                       # built: `method.build(info, image=encoder)` was called
    Trainer(max_steps=10_000).fit(module, loader)       # batches as `core.Batch`: image uint8 (B, H, W, C), index (B,)

Views run on the device in `training_step`. Turns, stages, schedules and hooks are those of the method; what Lightning
cannot give is a resume that is exact in the middle of an epoch, since the order of its loader is not a function of the step.
"""

from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule

from nolabel.core import Batch, Clock, Method
from nolabel.core.dist import rank, world
from nolabel.core.random import fold, seed_all
from nolabel.optim import learning_rate, optimizer, steady, undecayed, weight_decay


class MethodModule(LightningModule):
    """A method of one stage as a LightningModule with manual optimisation: one optimiser for each turn."""

    def __init__(self, method: Method, data: Any = None, seed: int = 0) -> None:
        """`data` is what the hooks `begin_stage` and `begin_epoch` receive. Raises ValueError for several stages."""
        super().__init__()
        if method.stages != 1:
            raise ValueError(f"{type(method).__name__} has {method.stages} stages; train it with nolabel's own engine")
        self.method, self.data, self.seed, self.taken = method, data, seed, 0
        self.automatic_optimization = False
        self.rng: torch.Generator | None = None

    def clock(self) -> Clock:
        """Where training stands."""
        steps = int(self.trainer.estimated_stepping_batches)
        return Clock(self.taken, steps, max(1, int(self.trainer.num_training_batches)))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimiser for each turn of the method."""
        self.method.begin_stage(Clock(0, 1, 1), self.data)
        groups = self.method.groups(Clock(0, 1, 1))
        self.parameters_of = {name: list(ps) for name, ps in groups.items()}
        optim, marked = self.method.optim, (undecayed(self.method), steady(self.method))
        return [optimizer(optim, self.parameters_of[turn], *marked) for turn in self.method.turns]

    def on_train_epoch_start(self) -> None:
        """The method's own hook."""
        seed_all(fold(self.seed, self.taken, -1))
        self.method.begin_epoch(self.clock(), self.data)
        self.method.train()

    def training_step(self, batch: Batch, index: int) -> None:
        """All turns of one batch."""
        t, optim = self.clock(), self.method.optim
        here = fold(self.seed, self.taken, rank())
        self.rng = self.rng or torch.Generator(self.device)
        self.rng.manual_seed(fold(here, 1))
        with torch.no_grad():
            views = self.method.views(batch, self.rng)
        seed_all(here)
        optims = self.optimizers()
        for turn, o in zip(self.method.turns, optims if isinstance(optims, list) else [optims]):
            for name, ps in self.parameters_of.items():
                for p in ps:
                    p.requires_grad_(name == turn)
            now = replace(t, turn=turn)
            loss, logs = self.method(views, now)
            self.manual_backward(loss)
            self.method.after_backward(now)
            if optim.clip is not None:
                torch.nn.utils.clip_grad_norm_(self.parameters_of[turn], optim.clip)
            for group in o.param_groups:
                group["lr"] = learning_rate(optim, t, len(batch["index"]) * world(), group.get("steady", False))
                if group["decays"]:
                    group["weight_decay"] = weight_decay(optim, t)
            o.step()
            o.zero_grad()
            self.log_dict({f"{turn}/{k}": v for k, v in {"loss": loss.detach(), **logs}.items()})
        with torch.no_grad():
            self.method.after_step(t)
        self.taken += 1
