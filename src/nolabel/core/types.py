"""The nouns of the contract: batches, what a data set is like, how a paper optimises, what an encoder is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from nolabel.core.errors import UserError

Batch = dict[str, Any]
"""Named tensors of one batch. Fixed names: `image video audio points text label index` (+ `depth segmentation`).

As stored: image uint8 (B, H, W, C); video uint8 (B, T, H, W, C); audio int16 (B, S), mono; points float32 (B, P, 3);
text int64 (B, L), ids of tokens, the first five of which are `PAD MASK START END UNKNOWN`; label int64 (B,), -1 for none.
"""

PAD, MASK, START, END, UNKNOWN = range(5)
"""ids of the special tokens of every vocabulary"""

Logs = dict[str, Tensor]
"""Named 0-d detached tensors that stay on the device until the engine writes them."""


@dataclass(frozen=True)
class DataInfo:
    """What a method may know about the data before it sees any."""

    size: int
    """number of training samples: the length of memory banks and label tables"""
    classes: tuple[str, ...] = ()
    """names of the classes, empty where there are no labels"""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """shape of one sample of each modality as it is stored, e.g. {"image": (32, 32, 3)} for height, width, channels"""
    rates: Mapping[str, float] = field(default_factory=dict)
    """samples or frames a second of what has time, e.g. {"audio": 16000, "video": 12.5}"""
    vocabulary: int = 0
    """number of different tokens where there is text, special ones included"""


@dataclass(frozen=True)
class Optim:
    """What a paper trained with. The optimisers themselves come from torch and timm."""

    name: str = "adamw"
    """adamw, sgd, lars or muon, or any other optimiser that timm can create"""
    lr: float = 1e-3
    """peak learning rate; per 256 samples of global batch where `scaled`"""
    weight_decay: float = 0.05
    """first value of the weight decay; biases, norms and other 1-D parameters never decay"""
    final_weight_decay: float | None = None
    """last value of a cosine from `weight_decay`; None keeps it constant"""
    momentum: float = 0.9
    """of SGD, LARS and Muon"""
    nesterov: bool = False
    trust: float = 0.001
    """trust coefficient of LARS"""
    trust_clip: bool = False
    """LARS never steps further than SGD would (LARC)"""
    betas: tuple[float, float] = (0.9, 0.999)
    """of Adam-like optimisers"""
    scaled: bool = True
    """multiply `lr` by global batch / 256 (Goyal et al. 2017)"""
    warmup_epochs: float = 10.0
    """epochs of linear warm-up from zero, at most a quarter of the run"""
    warmup_steps: int = 0
    """steps of it where these are more: what suits epochs of any length"""
    final_lr: float = 0.0
    """the learning rate at the end of the cosine, not scaled"""
    drops: tuple[float, ...] = ()
    """fractions of the run at which a step schedule multiplies the rate by `drop`; empty means cosine"""
    drop: float = 0.1
    clip: float | None = None
    """largest norm of the gradient over all parameters; None for no clipping"""
    clip_each: float | None = None
    """largest norm of the gradient of each tensor (DINO); None for no clipping"""

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "final_weight_decay", "warmup_epochs", "warmup_steps", "final_lr", "drop"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UserError(f"--optim.{name} must be 0 or more and finite, not {value}")
        for name, values in (("momentum", (self.momentum,)), ("betas", self.betas)):
            if not all(0 <= value < 1 for value in values):
                raise UserError(f"--optim.{name} must be from 0 to below 1, not {', '.join(map(str, values))}")
        for name in ("clip", "clip_each"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"--optim.{name} must be above 0, not {value}; leave it out for no clipping")


@runtime_checkable
class Encoder(Protocol):
    """A network from one modality to one vector a sample."""

    dim: int

    def __call__(self, x: Tensor) -> Tensor:
        """x (B, ...) -> features (B, dim)."""
        ...


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder that first makes tokens of its input: image patches, tubes, spectrogram patches, point groups, words.

    `length` tokens of `patch_dim` raw values each. Positions are added by `embed`, before any token is dropped.
    """

    length: int
    grid: tuple[int, ...]
    patch_dim: int

    def patchify(self, x: Tensor) -> Tensor:
        """x -> raw values (B, L, P)."""
        ...

    def unpatchify(self, patches: Tensor) -> Tensor:
        """(B, L, P) -> x, the inverse of `patchify`."""
        ...

    def embed(self, x: Tensor) -> Tensor:
        """x -> tokens with positions (B, L, D)."""
        ...

    def encode(self, tokens: Tensor) -> Tensor:
        """any subset of tokens (B, K, D) -> (B, 1 + K, D), the summary token first."""
        ...


class ViewMaker(Protocol):
    """Augmentation as a frozen dataclass, so that it is a hyper-parameter. Batched, on device, one draw a sample."""

    reads: ClassVar[tuple[str, ...]]
    """the stored columns that it needs, e.g. ("image",)"""

    def __call__(self, batch: Batch, rng: torch.Generator) -> Batch:
        """Stored samples (`image`: uint8 (B, H, W, C)) to what the method's forward reads; other keys pass through."""
        ...

    def plain(self, batch: Batch) -> Batch:
        """Stored samples without augmentation, by modality, as the encoder takes them: the view of every evaluation."""
        ...


class Source(Protocol):
    """Training samples in an order that is a pure function of (seed, step)."""

    info: DataInfo
    batch: int
    epoch_steps: int

    def at(self, seed: int, step: int) -> Batch:
        """The rows of this rank at one step, on the host: stored tensors plus `index` (B,), their row numbers."""
        ...


def labelled_rows(share: float, batch: int) -> int:
    """How many rows of a batch carry labels, its first ones: `share` of them, at least one where there is a share."""
    return max(1, round(share * batch)) if share > 0 else 0
