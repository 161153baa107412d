"""Losses and rules of semi-supervised learning: pseudo-labels, consistency, entropy, virtual adversaries.

Shapes: B samples of this rank, C classes, N samples of the data set. Targets never get gradient. Losses are means over
this rank's samples, so their mean over ranks is that of the global batch; `weighted_cross_entropy` and
`annealed_cross_entropy` sum their weights over ranks to the same end.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.losses.precision import wide, without_autocast
from nolabel.losses.weighted import weighted_mean


@without_autocast
def weighted_cross_entropy(logits_BC: Tensor, target: Tensor, weight_B: Tensor) -> Tensor:
    """sum_i w_i CE(x_i, t_i) / sum_i w_i; targets are classes (B,) or probabilities (B, C). 0 where all weights are.

    The sum of the weights is over all ranks.
    """
    loss_B = F.cross_entropy(wide(logits_BC), target.detach(), reduction="none")
    return weighted_mean(loss_B, weight_B)


@without_autocast
def fixmatch(strong_BC: Tensor, weak_BC: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """1/B sum_i 1[max q_i >= tau] CE(strong_i, argmax q_i), q = softmax(sg(weak)) -> (loss, share that is sure).

    Sohn et al., NeurIPS 2020, eq. 4: the mean is over all samples, not over those above the threshold.
    """
    confidence_B, guess_B = wide(weak_BC).detach().softmax(-1).max(-1)
    sure_B = (confidence_B >= threshold).to(confidence_B.dtype)
    loss_B = F.cross_entropy(wide(strong_BC), guess_B, reduction="none")
    return (sure_B * loss_B).mean(), sure_B.mean()


@without_autocast
def uda(strong_BC: Tensor, weak_BC: Tensor, temperature: float, threshold: float) -> tuple[Tensor, Tensor]:
    """1/B sum_i 1[max q_i > beta] KL(softmax(sg(weak_i) / T) || softmax(strong_i)) -> (loss, share that is sure).

    Xie, Dai, Hovy, Luong, Le, NeurIPS 2020, section 3: the mask looks at q = softmax(weak), before it is sharpened.
    """
    weak_BC = wide(weak_BC).detach()
    sure_B = (weak_BC.softmax(-1).amax(-1) > threshold).to(weak_BC.dtype)
    log_target_BC = F.log_softmax(weak_BC / temperature, -1)
    log_p_BC = F.log_softmax(wide(strong_BC), -1)
    kl_B = (log_target_BC.exp() * (log_target_BC - log_p_BC)).sum(-1)
    return (sure_B * kl_B).mean(), sure_B.mean()


@without_autocast
def annealed_cross_entropy(logits_BC: Tensor, label_B: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the samples whose p(label) is below the threshold -> (loss, share of these) (UDA, eq. 3).

    The mean is over these samples of all ranks.
    """
    own_B = wide(logits_BC).detach().softmax(-1).gather(1, label_B[:, None])[:, 0]
    learns_B = (own_B < threshold).to(own_B.dtype)
    return weighted_cross_entropy(logits_BC, label_B, learns_B), learns_B.mean()


@without_autocast
def squared_difference(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """mean_i 1/C |softmax(s_i) - softmax(sg(t_i))|^2 (Tarvainen, Valpola, NeurIPS 2017, eq. 1)."""
    return F.mse_loss(wide(student_BC).softmax(-1), wide(teacher_BC).detach().softmax(-1))


@without_autocast
def entropy(logits_BC: Tensor) -> Tensor:
    """mean_i -sum_c p_ic log p_ic, with gradient (Grandvalet, Bengio, NeurIPS 2004): ln C where all are uniform."""
    log_p_BC = F.log_softmax(wide(logits_BC), -1)
    return -(log_p_BC.exp() * log_p_BC).sum(-1).mean()


def virtual_adversary(
    net: Callable[[Tensor], Tensor], x: Tensor, epsilon: float, xi: float = 1e-3, iterations: int = 1
) -> Tensor:
    """The direction r of length epsilon in which the predictions of each sample of x (B, ...) change most, no gradient.

    r <- epsilon g / |g|, g = grad_d KL(p(x) || p(x + xi d)), by power iterations from a random d of length one (Miyato,
    Maeda, Koyama, Ishii, TPAMI 2019, algorithm 1); a random step where there are none. In float32 also under autocast:
    in bfloat16 x + xi d would be x. Their xi of 1e-6 is too short for float32, too: KL grows with its square, so what is
    left of its gradient is rounding.
    """
    with torch.autocast(x.device.type, enabled=False), torch.enable_grad():
        x = wide(x).detach()
        r = _unit(torch.randn_like(x))
        if iterations == 0:
            return epsilon * r
        with torch.no_grad():
            log_p_BC = F.log_softmax(net(x), -1)
        for _ in range(iterations):
            r.requires_grad_()
            log_q_BC = F.log_softmax(net(x + xi * r), -1)
            distance = (log_p_BC.exp() * (log_p_BC - log_q_BC)).sum()
            (gradient,) = torch.autograd.grad(distance, r)
            r = _unit(gradient)
    return epsilon * r


def _unit(x: Tensor) -> Tensor:
    """Each sample divided by its largest value first: gradients of a small xi would underflow when squared."""
    axes = tuple(range(1, x.ndim))
    x = x / x.abs().amax(axes, keepdim=True).clamp(min=1e-30)
    return x / x.square().sum(axes, keepdim=True).sqrt().clamp(min=1e-12)


def most_confident(p_NC: Tensor, allowed_N: Tensor, share: float, per_class: bool = True) -> Tensor:
    """Which samples (N,) bool: `share` of those allowed, the ones with the largest max p; of each guessed class apart.

    Of n candidates round(share n) are kept; equal confidences go to the lower row.
    """
    confidence_N, guess_N = p_NC.max(-1)
    group_N = guess_N if per_class else torch.zeros_like(guess_N)
    chosen_N = torch.zeros_like(allowed_N)
    for group in range(p_NC.shape[1] if per_class else 1):
        rows = (allowed_N & (group_N == group)).nonzero()[:, 0]
        order = confidence_N[rows].argsort(descending=True, stable=True)
        chosen_N[rows[order[: round(share * len(rows))]]] = True
    return chosen_N


def balanced_weights(p_NC: Tensor, allowed_N: Tensor, threshold: float, per_class: int = 0) -> Tensor:
    """Weights (N,) with which every guessed class counts `per_class` samples, all with max p above the threshold.

    Classes with more keep their most confident ones; the samples of those with fewer count several times (Xie, Luong,
    Hovy, Le, CVPR 2020, section 3.2). `per_class` 0 stands for the mean number of a class that has any.
    """
    confidence_N, guess_N = p_NC.max(-1)
    good_N = allowed_N & (confidence_N > threshold)
    number_C = guess_N[good_N].bincount(minlength=p_NC.shape[1])
    wanted = per_class or max(1, round(float(number_C[number_C > 0].float().mean())) if bool(good_N.any()) else 1)
    weight_N = torch.zeros_like(confidence_N)
    for c in range(p_NC.shape[1]):
        rows = (good_N & (guess_N == c)).nonzero()[:, 0]
        best = rows[confidence_N[rows].argsort(descending=True, stable=True)[:wanted]]
        weight_N[best] = wanted / max(1, len(best))
    return weight_N
