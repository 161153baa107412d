"""Losses of pointing: a place finds its like in another frame, and copies from it or walks on.

Shapes: B clips, T frames, N nodes or cells of a frame, Q and K cells that look and are looked at, D embedding.
Losses are means over this rank's samples; nothing is summed over ranks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.losses.precision import wide, without_autocast


@without_autocast
def copied(query_BQD: Tensor, key_BKD: Tensor, value_BKC: Tensor, temperature: float = 1.0) -> Tensor:
    """What each query copies from where it points (Vondrick et al., ECCV 2018, eq. 1-2) -> (B, Q, C).

    y_j = sum_i A_ij c_i,  A_ij = exp(f_i . f_j / tau) / sum_k exp(f_k . f_j / tau) over all keys.
    """
    return F.scaled_dot_product_attention(
        wide(query_BQD), wide(key_BKD), wide(value_BKC), scale=1 / temperature
    )  # fmt: skip


@without_autocast
def copy_nll(
    query_BQD: Tensor, key_BKD: Tensor, key_class_BK: Tensor, class_BQ: Tensor, classes: int, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """-mean_j log y_j[c_j] with y copied from the classes of the keys -> (loss, accuracy).

    Probabilities below 1e-6 count as 1e-6. A query that points everywhere alike pays the entropy of the colours.
    """
    y_BQC = copied(query_BQD, key_BKD, F.one_hot(key_class_BK, classes).to(query_BQD.dtype), temperature)
    own_BQ = y_BQC.gather(2, class_BQ[..., None])[..., 0]
    right = (y_BQC.detach().argmax(2) == class_BQ).to(own_BQ.dtype).mean()
    return -own_BQ.clamp_min(1e-6).log().mean(), right


@without_autocast
def cycle_walk(
    node_BTND: Tensor, temperature: float, dropped_BT2NN: Tensor | None = None, shortest: int = 1
) -> tuple[Tensor, Tensor]:
    """The contrastive random walk (Jabri, Owens, Efros, NeurIPS 2020, eq. 1-6) -> (loss, accuracy of the longest walk).

    A step from node i of a frame to node j of the next has probability softmax_j(q_i . q_j / tau); a step back is a
    softmax of its own, not the transpose. L = mean over k >= `shortest` of -mean_i log P_k[i, i], P_k the walk to frame k
    and back. ln N where all nodes are alike.

    dropped  edges that are closed for this walk (B, T - 1, 2, N, N), forward and back; where all edges of a node would be
             closed they stay open
    """
    q_BTND = F.normalize(wide(node_BTND), dim=-1)
    logits_BTNN = q_BTND[:, :-1] @ q_BTND[:, 1:].mT / temperature
    logits_BT2NN = torch.stack((logits_BTNN, logits_BTNN.mT), 2)
    if dropped_BT2NN is not None:
        shut = dropped_BT2NN & ~dropped_BT2NN.all(-1, keepdim=True)
        logits_BT2NN = logits_BT2NN.masked_fill(shut, -torch.inf)
    there_BTNN, back_BTNN = logits_BT2NN.softmax(-1).unbind(2)
    way_out, way_home = there_BTNN[:, 0], back_BTNN[:, 0]
    losses = []
    for k in range(1, node_BTND.shape[1]):
        if k > 1:
            way_out, way_home = way_out @ there_BTNN[:, k - 1], back_BTNN[:, k - 1] @ way_home
        if k >= shortest:
            walk_BNN = way_out @ way_home
            losses.append(-(walk_BNN.diagonal(dim1=1, dim2=2) + 1e-20).log().mean())
    home_N = torch.arange(walk_BNN.shape[1], device=walk_BNN.device)
    accuracy = (walk_BNN.detach().argmax(2) == home_N).to(walk_BNN.dtype).mean()
    return torch.stack(losses).mean(), accuracy
