"""The loss of language models: cross-entropy over a vocabulary.

Shapes: ... any axes (rows, places), D features, V words of the vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.core.dist import sum_over_ranks, world
from nolabel.losses.contrastive import _LogSumExp
from nolabel.losses.precision import wide, without_autocast


@without_autocast
def word_cross_entropy(
    feature: Tensor, words_VD: Tensor, target: Tensor, counts: Tensor, bias_V: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """-mean log softmax(W h + b)[target] over the places that count, and the share that is right -> (loss, accuracy).

    `feature` (..., D), `target` int64 (...), `counts` (...) bool, or the weights of a weighted mean; some place should
    count. W is often the embedding of the words (tied weights). The scores (places, V) are visited in tiles and never
    held: with 30,000 words they would be the largest tensor of the model. ln V when all scores are equal.
    Ranks: places that count are counted on all ranks, so that the mean over ranks is that of the global batch.
    """
    h_ND, target_N = wide(feature).flatten(0, -2), target.flatten()
    words_VD = wide(words_VD)
    if bias_V is not None:  # one more feature that is always 1
        h_ND = torch.cat((h_ND, h_ND.new_ones(len(h_ND), 1)), 1)
        words_VD = torch.cat((words_VD, wide(bias_V)[:, None]), 1)
    weight_N = counts.flatten().to(h_ND.dtype)
    weight_N = weight_N * (world() / sum_over_ranks(weight_N.sum()).clamp(min=1e-6))
    total, top_N = _LogSumExp.apply(h_ND, words_VD, None, None, weight_N, None)
    own_N = (h_ND * F.embedding(target_N, words_VD)).sum(1)
    right_N = own_N.detach() >= top_N - 8 * torch.finfo(top_N.dtype).eps * top_N.abs()
    return total - weight_N @ own_N, weight_N @ right_N.to(weight_N.dtype)
