"""A discrete tokenizer of patches that is trained, not given: the targets of BEiT and its kin."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core.dist import gather, sum_over_ranks, world
from nolabel.networks.memory import nearest_rows
from nolabel.networks.transformer import xavier

DECAY = 0.99
"""of the running sums behind the code book"""


class Tokenizer(nn.Module):
    """VQ-VAE (van den Oord, Vinyals, Kavukcuoglu, NeurIPS 2017, eq. 3 and appendix A.1) on a grid of patches.

    Patches (B, L, P) -> one of `codes` numbers each (B, L). Encoder and decoder are a linear layer on a patch and
    `depth` residual 3x3 convolutions over the grid; a code is the running average of what falls on it, over all ranks.
    A code that gets less than a tenth of its share starts again at a vector of the batch: at first all do.
    """

    book: Tensor
    count: Tensor
    total: Tensor
    steps: Tensor

    def __init__(self, patch_dim: int, grid: tuple[int, int], codes: int, width: int, depth: int = 1, dim: int = 32):
        super().__init__()
        self.into, self.to_code = nn.Linear(patch_dim, width), nn.Linear(width, dim)
        self.from_code, self.out = nn.Linear(dim, width), nn.Linear(width, patch_dim)
        self.read = nn.Sequential(*(_Mix(width, grid) for _ in range(depth)))
        self.write = nn.Sequential(*(_Mix(width, grid) for _ in range(depth)))
        self.register_buffer("book", torch.randn(codes, dim))
        self.register_buffer("count", torch.zeros(codes))
        self.register_buffer("total", torch.zeros(codes, dim))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.apply(xavier)

    def forward(self, x_BLP: Tensor, commitment: float = 0.25) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch, and the book moves: mean (decoded - x)^2 + commitment mean (z - sg e)^2.

        Logs `unexplained`, the share of the patches' variance that is lost, and `codes_in_use`, exp(entropy of usage).
        """
        x_BLP = x_BLP.float()
        z_BLd = self._encode(x_BLP)
        number_BL = nearest_code(z_BLd, self.book)
        code_BLd = self.book[number_BL]
        lost = F.mse_loss(self.decode(z_BLd + (code_BLd - z_BLd).detach()).float(), x_BLP)
        loss = lost + commitment * F.mse_loss(z_BLd, code_BLd)
        with torch.no_grad():
            usage_K = self._move(z_BLd, number_BL)
            variance = (x_BLP - x_BLP.mean((0, 1))).square().mean()
            logs = {"unexplained": lost.detach() / variance.clamp(min=1e-12), "codes_in_use": entropy(usage_K).exp()}
        return loss, logs

    @torch.no_grad()
    def numbers(self, x_BLP: Tensor) -> Tensor:
        """The discrete tokens of patches (B, L, P) -> (B, L), without gradient."""
        return nearest_code(self._encode(x_BLP.float()), self.book)

    def decode(self, code_BLd: Tensor) -> Tensor:
        """Code vectors (B, L, d) -> patches (B, L, P)."""
        return self.out(self.write(self.from_code(code_BLd)))

    def _encode(self, x_BLP: Tensor) -> Tensor:
        return self.to_code(self.read(self.into(x_BLP))).float()

    def _move(self, z_BLd: Tensor, number_BL: Tensor) -> Tensor:
        """The running averages; dead codes go to a vector of this batch each. Returns the tokens a code has got (K,)."""
        z_Nd, number_N, codes = z_BLd.flatten(0, 1), number_BL.flatten(), len(self.book)
        usage_K = sum_over_ranks(torch.zeros_like(self.count).index_add_(0, number_N, torch.ones_like(z_Nd[:, 0])))
        total_Kd = sum_over_ranks(torch.zeros_like(self.total).index_add_(0, number_N, z_Nd))
        self.count.lerp_(usage_K, 1 - DECAY)
        self.total.lerp_(total_Kd, 1 - DECAY)
        fair = usage_K.sum() / codes
        dead_K1 = (self.count < 0.1 * fair)[:, None]
        offer_Nd = gather(self._some(z_BLd))
        place_K = (torch.arange(codes, device=z_Nd.device) + self.steps) % len(offer_Nd)
        self.total.copy_(torch.where(dead_K1, 0.2 * fair * offer_Nd[place_K], self.total))
        self.count.copy_(torch.where(dead_K1[:, 0], 0.2 * fair, self.count))
        self.book.copy_(self.total / self.count[:, None])
        self.steps += 1
        return usage_K

    def _some(self, z_BLd: Tensor) -> Tensor:
        """Vectors of a few places of each sample, of other places each step; no fewer than codes where there are so many."""
        samples, length, dim = z_BLd.shape
        places = min(length, -(-len(self.book) // (samples * world())))
        place_P = (torch.arange(places, device=z_BLd.device) * (length // places) + self.steps) % length
        return z_BLd[:, place_P].reshape(samples * places, dim)


class _Mix(nn.Module):
    """x + conv(gelu(norm(x))) over the grid."""

    def __init__(self, width: int, grid: tuple[int, int]):
        super().__init__()
        self.norm, self.grid = nn.LayerNorm(width), grid
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x_BLW: Tensor) -> Tensor:
        h_BWhw = F.gelu(self.norm(x_BLW)).transpose(1, 2).unflatten(2, self.grid)
        return x_BLW + self.conv(h_BWhw).flatten(2).transpose(1, 2)


def nearest_code(z_BLd: Tensor, book_Kd: Tensor) -> Tensor:
    """argmin_k |z - e_k|^2 = argmax_k z e_k - |e_k|^2 / 2, one product with one more column: (B, L, d) -> (B, L)."""
    z_Nd = z_BLd.detach().flatten(0, 1)
    rows_Kd = torch.cat((book_Kd, -book_Kd.square().sum(1, keepdim=True) / 2), 1)
    return nearest_rows(torch.cat((z_Nd, torch.ones_like(z_Nd[:, :1])), 1), rows_Kd).view(z_BLd.shape[:2])


def entropy(usage_K: Tensor) -> Tensor:
    """Entropy in nats of how often each code is used (K,)."""
    p_K = usage_K / usage_K.sum().clamp(min=1)
    return -torch.special.xlogy(p_K, p_K).sum()


def usage_entropy(number: Tensor, codes: int) -> Tensor:
    """Entropy in nats of a batch of codes of any shape: what guessing them without the input costs at least."""
    number_N = number.flatten()
    ones_N = torch.ones(len(number_N), device=number.device)
    return entropy(torch.zeros(codes, device=number.device).index_add_(0, number_N, ones_N))
