"""Losses of generative methods: reconstruction with emphasis, the prior of a code, the two sides of a GAN.

Shapes: x (B, ...) samples, D latent values. All are means over this rank's samples, so their mean over ranks is that of
the global batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.losses.precision import wide, without_autocast


@without_autocast
def emphasised(
    guess: Tensor, target: Tensor, hit: Tensor, alpha: float = 1.0, beta: float = 1.0, cross_entropy: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """mean_b [ alpha sum_{j in J} l_j + beta sum_{j not in J} l_j ] -> (loss, the two sums unweighted, mean over b).

    l is (x - z)^2, or with `cross_entropy` -x log s(z) - (1 - x) log(1 - s(z)) of logits z and x in [0, 1] (Vincent,
    Larochelle, Lajoie, Bengio, Manzagol, JMLR 2010, section 4.1: emphasised loss). `hit` (B, ...) bool is J.
    """
    guess, target = wide(guess), wide(target).detach()
    if cross_entropy:
        each = F.binary_cross_entropy_with_logits(guess, target, reduction="none")
    else:
        each = (guess - target).square()
    inside, outside = ((each * where).flatten(1).sum(1).mean() for where in (hit, ~hit))
    return alpha * inside + beta * outside, inside.detach(), outside.detach()


@without_autocast
def gaussian_kl(mean_BD: Tensor, log_variance_BD: Tensor) -> Tensor:
    """KL( N(mu, sigma^2) || N(0, 1) ) of each latent value, mean over samples: (D,) (Kingma, Welling, 2014, app. B)."""
    mean_BD, log_variance_BD = wide(mean_BD), wide(log_variance_BD)
    return 0.5 * (mean_BD.square() + log_variance_BD.exp() - log_variance_BD - 1).mean(0)


@without_autocast
def critic_loss(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """-mean log D(real) - mean log(1 - D(fake)) of logits (Goodfellow et al., NeurIPS 2014): 2 ln 2 at equilibrium."""
    return F.softplus(-wide(real_B)).mean() + F.softplus(wide(fake_B)).mean()


@without_autocast
def fooling_loss(fake_B: Tensor) -> Tensor:
    """-mean log D(fake) of logits: the form of the generator's loss that does not saturate."""
    return F.softplus(-wide(fake_B)).mean()


@without_autocast
def soft_cross_entropy(logits_BQhw: Tensor, which_BhwK: Tensor, weight_BhwK: Tensor) -> Tensor:
    """-sum_k weight_k log softmax(logits)_{which_k} of each place: (B, h, w)."""
    log_p_BhwQ = F.log_softmax(wide(logits_BQhw), 1).permute(0, 2, 3, 1)
    return -(log_p_BhwQ.gather(-1, which_BhwK) * weight_BhwK).sum(-1)


def right_side(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """The share of samples that a critic puts on the right side, for logs."""
    return torch.cat((real_B.detach() > 0, fake_B.detach() <= 0)).float().mean()
