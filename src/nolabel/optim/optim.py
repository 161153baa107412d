"""From a paper's `Optim` to an optimiser of torch or timm."""

from collections.abc import Iterable

import torch
from torch import nn

from nolabel.core import Optim, UserError
from nolabel.core.errors import nearest


def undecayed(model: nn.Module) -> list[nn.Parameter]:
    """What modules name in `undecayed`, as dotted names of their own: tables that papers keep out of weight decay."""
    return [module.get_parameter(name) for module in model.modules() for name in getattr(module, "undecayed", ())]


def steady(model: nn.Module) -> list[nn.Parameter]:
    """What modules name in `steady`, parameters or modules of theirs: what papers train at a rate without a schedule."""
    named = [(module, f"{name}.") for module in model.modules() for name in getattr(module, "steady", ())]
    return [p for module, name in named for k, p in module.named_parameters() if f"{k}.".startswith(name)]


def optimizer(
    settings: Optim,
    parameters: Iterable[nn.Parameter],
    free: Iterable[nn.Parameter] = (),
    constant: Iterable[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """One optimiser over `parameters`; biases, norms and single tokens (ndim 1 or leading 1s) never decay, nor do `free`.

    Its groups say what the schedules leave alone: `decays` is whether the weight decay is theirs, and `steady` whether the
    rate is not, which is so for `constant`. Raises `UserError` for a name that neither torch nor timm knows.
    """
    kept, unscheduled = ({id(p) for p in ps} for ps in (free, constant))
    parts: dict[tuple[bool, bool], list[nn.Parameter]] = {
        (decays, still): [] for still in (False, True) for decays in (True, False)
    }
    for p in parameters:
        decays = sum(n > 1 for n in p.shape) > 1 and p.shape[0] > 1 and id(p) not in kept
        parts[decays, id(p) in unscheduled].append(p)
    groups = [
        {"params": ps, "weight_decay": settings.weight_decay if decays else 0.0, "decays": decays, "steady": still}
        for (decays, still), ps in parts.items()
        if ps
    ]
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
            return Lars(
                groups, settings.lr, settings.momentum, trust_coeff=settings.trust, trust_clip=settings.trust_clip,
                nesterov=settings.nesterov,
            )  # fmt: skip
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
