"""Bounds on the mutual information of summaries and places: Deep InfoMax and AMDIM.

Shapes: B images of this rank, N of all ranks, L places of an image, U units of the embeddings that are multiplied.
u[i, j, l] scores summary i against place l of image j. Positives are i = j, all the rest are negatives.
Ranks: the loss is the mean over this rank's summaries against the places of all ranks; the term of Donsker and Varadhan
that is a logarithm of a mean is taken over all ranks, on each.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core import UserError
from nolabel.core.dist import gather, rank, world
from nolabel.losses.precision import wide, without_autocast

BOUNDS = ("jsd", "dv", "nce")


@without_autocast
def place_scores(summary_BU: Tensor, place_BLU: Tensor) -> Tensor:
    """u_BNL: products of each summary with every place of all ranks."""
    place_NLU = gather(wide(place_BLU))
    return (wide(summary_BU) @ place_NLU.flatten(0, 1).T).unflatten(1, place_NLU.shape[:2])


@without_autocast
def mutual_information(u_BNL: Tensor, bound: str = "jsd") -> tuple[Tensor, Tensor]:
    """Minus a lower bound on mutual information -> (loss, mean score of positives - mean score of negatives).

    jsd   E_pos[ln 2 - softplus(-u)] - E_neg[softplus(u) - ln 2]                Deep InfoMax, eq. 4; 0 for scores of 0
    dv    E_pos[u] - ln E_neg[exp(u)], over all negatives at once               eq. 3; 0 for any constant score
    nce   E_pos[u - ln(exp(u) + sum of exp over the places of other images)]    eq. 5; -ln(1 + (N - 1) L) when constant
    """
    if bound not in BOUNDS:
        raise UserError(f"unknown bound '{bound}' (there are: {', '.join(BOUNDS)})")
    u_BNL = wide(u_BNL)
    b, n, places = u_BNL.shape
    image_B = torch.arange(b, device=u_BNL.device) + rank() * b
    own_BL = u_BNL[torch.arange(b, device=u_BNL.device), image_B]
    own_BN1 = (torch.arange(n, device=u_BNL.device) == image_B[:, None])[..., None]
    negatives = max(1, b * (n - 1) * places)
    gap = (own_BL.mean() - u_BNL.masked_fill(own_BN1, 0.0).sum() / negatives).detach()
    if bound == "jsd":
        positive = math.log(2) - F.softplus(-own_BL).mean()
        return F.softplus(u_BNL).masked_fill(own_BN1, 0.0).sum() / negatives - math.log(2) - positive, gap
    others_B = u_BNL.masked_fill(own_BN1, -torch.inf).flatten(1).logsumexp(1)
    if bound == "dv":
        everyone = gather(others_B.logsumexp(0, keepdim=True)).logsumexp(0) - math.log(negatives * world())
        return everyone - own_BL.mean(), gap
    return (torch.logaddexp(own_BL, others_B[:, None]) - own_BL).mean(), gap


def soft_clip(u: Tensor, limit: float) -> Tensor:
    """limit tanh(u / limit): scores that stay within the limit (AMDIM, section 3.3)."""
    return limit * torch.tanh(u / limit)
