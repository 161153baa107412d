"""The sigmoid loss of image-text pairs.

Shapes: B samples of this rank, N of all ranks, D embedding.
"""

import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nolabel.core.dist import gather
from nolabel.losses.precision import wide, without_autocast

TILE = {"cpu": 2**20}
"""scores of one tile by device type, 2**26 elsewhere"""


@without_autocast
def siglip(a_BD: Tensor, b_BD: Tensor, scale: float | Tensor, bias: float | Tensor) -> Tensor:
    """SigLIP (Zhai, Mustafa, Kolesnikov, Beyer, ICCV 2023, eq. 1): every pair is right or wrong by itself.

    L = -1/B sum_i sum_j log sigmoid(y_ij (scale a_i . b_j + bias)), y = 1 for i = j, else -1; rows are normalised here.

    As -log sigmoid(l) = softplus(l) - l it is the sum of all softplus less the scores of the true pairs, made tile by
    tile, the softplus again on the way back. `scale` and `bias` may be learned (0-d or (1,)).
    Ranks: this rank's a against the b of all ranks, over the a of this rank: the mean over ranks is the global loss.
    """
    a_BD, b_BD = F.normalize(wide(a_BD), dim=1), F.normalize(wide(b_BD), dim=1)
    key_ND = gather(b_BD)
    rows = max(1, TILE.get(a_BD.device.type, 2**26) // len(key_ND))
    true = (scale * (a_BD * b_BD).sum(1) + bias).sum()
    every = sum(_softplus(part, key_ND, scale, bias, len(a_BD) > rows) for part in a_BD.split(rows))
    return (every - true) / len(a_BD)


def _softplus(a_BD: Tensor, key_ND: Tensor, scale: float | Tensor, bias: float | Tensor, again: bool) -> Tensor:
    def total(a_BD: Tensor, key_ND: Tensor, scale: float | Tensor, bias: float | Tensor) -> Tensor:
        return F.softplus(scale * (a_BD @ key_ND.T) + bias).sum()

    if not again:
        return total(a_BD, key_ND, scale, bias)
    return checkpoint(total, a_BD, key_ND, scale, bias, use_reentrant=False, preserve_rng_state=False)  # type: ignore
