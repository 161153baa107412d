"""From a paper's `Optim` to an optimiser of torch or timm."""

from collections.abc import Iterable

import torch
from torch import nn

from nolabel.core import Optim, UserError
from nolabel.core.fields import nearest


def optimizer(settings: Optim, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """One optimiser over `parameters`; biases, norms, positions and single tokens (ndim 1 or leading 1s) never decay.

    Raises `UserError` for a name that neither torch nor timm knows.
    """
    every = list(parameters)
    decays = [p for p in every if sum(n > 1 for n in p.shape) > 1 and p.shape[0] > 1]
    plain = [p for p in every if not (sum(n > 1 for n in p.shape) > 1 and p.shape[0] > 1)]
    groups = [
        {"params": decays, "weight_decay": settings.weight_decay, "decays": True},
        {"params": plain, "weight_decay": 0.0, "decays": False},
    ]
    groups = [g for g in groups if g["params"]]
    match settings.name.lower():
        case "adamw":
            return torch.optim.AdamW(groups, settings.lr, settings.betas, fused=True)
        case "adam":
            return torch.optim.Adam(groups, settings.lr, settings.betas, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, settings.lr, settings.momentum, nesterov=settings.nesterov, fused=True)
        case "lars":
            from timm.optim.lars import Lars

            # without weight decay timm's LARS leaves the rate alone, which is what 1-D parameters need
            return Lars(groups, settings.lr, settings.momentum, trust_coeff=settings.trust, nesterov=settings.nesterov)
        case "muon":
            from timm.optim import Muon

            # matrices and kernels by orthogonalised momentum (Jordan et al. 2024), at rates that suit AdamW; the rest
            # by AdamW itself
            return Muon(
                groups, settings.lr, momentum=settings.momentum, nesterov=settings.nesterov, betas=settings.betas
            )
        case name:
            from timm.optim import create_optimizer_v2, list_optimizers

            known = ["adamw", "adam", "sgd", "lars", "muon", *map(str, list_optimizers())]
            if name not in known:
                raise UserError(f"unknown optimiser '{settings.name}'{nearest(name, known)}")
            return create_optimizer_v2(groups, opt=name, lr=settings.lr)  # type: ignore[arg-type]
