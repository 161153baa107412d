"""Features: one frozen pass of an encoder over a data split, computed once and shared by all protocols.

    f_i = encoder(transform(sample_i)),  evaluation mode, no gradient, no augmentation

Precision: the forward pass runs in bfloat16 autocast where that is fast (`fast_bf16`), else in float32; what comes out
is always float32. With an untrained ResNet-18 on CIFAR-10 k-NN gives 23.32 % both ways (top-5 72.72 and 72.82), far
below the error of 10,000 test images; pass `precision="fp32"` where a number must be exact.

Shapes: N samples, D features, B batch.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from nolabel.core import Batch, UserError

Transform = Callable[[Batch], Tensor]
"""a stored batch, on the device, to what the encoder reads: the plain view, never an augmented one"""


class Split(Protocol):
    """The part of a data split that evaluation needs."""

    classes: Any

    def __len__(self) -> int: ...

    def take(self, rows: Tensor, columns: Sequence[str] | None = None) -> Batch:
        """Stored rows (B,) on the host, in the order asked for, with `label` (B,) where there are labels, or some columns."""
        ...


@dataclass(frozen=True)
class Features:
    """Features and labels of one split, float32 and int64, on the host."""

    x: Tensor
    """(N, D)"""
    y: Tensor | None = None
    """(N,), class numbers from 0; -1 where a row has no label; None where no row has one"""
    rows: Tensor | None = None
    """(N,) row numbers in the split; samples that cannot be decoded are missing"""

    def __len__(self) -> int:
        return len(self.x)

    def labelled(self) -> tuple[Tensor, Tensor]:
        """x (M, D), y (M,) of the rows that have a label."""
        if self.y is None:
            raise UserError("this protocol needs labels and the split has none; look at the geometry instead")
        known = self.y >= 0
        return (self.x, self.y) if bool(known.all()) else (self.x[known], self.y[known])


def fast_bf16(device: torch.device | str) -> bool:
    """Whether bfloat16 matrix products are faster than float32 ones on this device."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def frozen(encoder: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode is restored, also after an error."""
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def autocast(device: torch.device, precision: str) -> Any:
    """The context of a forward pass; precision is "bf16", "fp32" or "auto" (bf16 where it is fast)."""
    if precision not in ("auto", "bf16", "fp32"):
        raise UserError(f'precision "{precision}" is unknown; choose auto, bf16 or fp32')
    bf16 = precision == "bf16" or (precision == "auto" and fast_bf16(device))
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The tensors of a batch on the device; anything else passes through."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}


def batches(split: Split, rows: Tensor, batch: int) -> Iterator[Batch]:
    """Stored batches in the order of `rows`; the next one is decoded while the last one is used."""
    with ThreadPoolExecutor(1, "decode") as pool:
        coming = [pool.submit(split.take, part) for part in rows.split(batch)[:1]]
        for part in rows.split(batch)[1:]:
            coming.append(pool.submit(split.take, part))
            yield coming.pop(0).result()
        for last in coming:
            yield last.result()


def extract(
    encoder: nn.Module,
    split: Split,
    transform: Transform,
    device: torch.device | str = "cpu",
    precision: str = "auto",
    batch: int = 512,
    rows: Tensor | None = None,
) -> Features:
    """Features of the given rows of a split, all of them by default, in order. The encoder must be on `device`."""
    device = torch.device(device)
    rows = torch.arange(len(split)) if rows is None else rows.cpu()
    x, labels, found = None, [], []
    with frozen(encoder):
        done = 0
        for stored in batches(split, rows, batch):
            found.append(stored.get("index", rows[done : done + batch]))
            if stored.get("label") is not None:
                labels.append(torch.as_tensor(stored["label"]).long())
            view = transform(to_device(stored, device))
            if view.ndim == 4:
                view = view.contiguous(memory_format=torch.channels_last)
            with autocast(device, precision):
                h = encoder(view)
            h = h.flatten(1)
            if x is None:
                x = torch.empty(len(rows), h.shape[1])
            x[done : done + len(h)] = h.float()
            done += len(h)
    if x is None:
        raise UserError("there are no samples to evaluate: the split is empty")
    y = torch.cat(labels) if labels else None
    if y is not None and not bool((y >= 0).any()):
        y = None
    # a split puts another sample in place of a broken one, and it must not count twice
    good = torch.cat(found) == rows
    if not bool(good.all()):
        x, y, rows = x[good], None if y is None else y[good], rows[good]
    return Features(x, y, rows)


def fingerprint(encoder: nn.Module) -> str:
    """A hash of weights, buffers and the names that modules are set to: features are reused only while it stays the same."""
    sha = hashlib.sha256()
    for name, module in encoder.named_modules():  # the same weights, pooled otherwise, are another net
        chosen = sorted((k, v) for k, v in vars(module).items() if isinstance(v, str))
        sha.update(f"{name} {chosen}".encode())
    for name, tensor in encoder.state_dict().items():
        if isinstance(tensor, Tensor):
            sha.update(name.encode())
            sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


@dataclass(eq=False)
class EvalData:
    """The splits a representation is judged on, with a memory of features.

    Protocols ask for `features(encoder, "train")`; the pass is made once per encoder, split and state of the weights.
    """

    splits: Mapping[str, Split]
    """"train" and, where there is one, "test" """
    transform: Transform
    name: str = "data"
    device: torch.device | str = "cpu"
    precision: str = "auto"
    batch: int = 512
    seed: int = 0
    """of everything a protocol draws: validation split, subsets, initial weights"""
    modality: str = "image"
    """what the encoder takes"""
    share: float = 1.0
    """of a stored sound that the plain view keeps, in the middle"""
    tokenizer: Any = None
    """of text"""
    words: int = 0
    """tokens of a stored text"""
    _memory: WeakKeyDictionary = field(default_factory=WeakKeyDictionary, init=False, repr=False)

    def features(self, encoder: nn.Module, split: str) -> Features:
        """Features of a split; from memory if this encoder, with these weights, has been seen.

        Raises UserError where there is no such split or the features are not finite.
        """
        if split not in self.splits:
            raise UserError(f'data "{self.name}" has no split "{split}", only {sorted(self.splits)}')
        state = fingerprint(encoder)
        known, passes = self._memory.get(encoder, ("", {}))
        if known != state:
            passes = {}
            self._memory[encoder] = (state, passes)
        if split not in passes:
            source = self.splits[split]
            found = extract(encoder, source, self.transform, self.device, self.precision, self.batch)
            if not bool(found.x.isfinite().all()):
                raise UserError(f'features of "{self.name}" are not finite; the training diverged, lower its rate')
            passes[split] = found
        return passes[split]
