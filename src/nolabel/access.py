"""What the hooks of a method may ask of the data."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nolabel.core import Batch
from nolabel.data import given
from nolabel.engine.shard import whole
from nolabel.evaluate import extract
from nolabel.evaluate.features import to_device
from nolabel.networks.batchnorm import first_statistics
from nolabel.plan import Built


class Access:
    """What the hooks of a method may ask of the data: `info`, `labels`, features of every training sample, some samples."""

    def __init__(self, built: Built, device: torch.device) -> None:
        self.info, self.built, self.device = built.data.info, built, device

    @property
    def labels(self) -> Tensor:
        """The labels that training may use (N,), -1 for none, on the device."""
        split = self.built.data.splits["train"]
        found = given(split) if self.built.method.labelled > 0 else None
        return (torch.full((len(split),), -1) if found is None else found).to(self.device)

    def some(self, count: int) -> Iterator[Batch]:
        """`count` training samples as they are stored, or all, evenly spread; in parts of 32, on the device."""
        split = self.built.data.splits["train"]
        rows = torch.linspace(0, len(split) - 1, min(count, len(split))).long()
        reads = tuple(self.built.method.views.reads)
        return (to_device(split.take(part, reads), self.device) for part in rows.split(32))

    def encode(self, net: nn.Module, modality: str | None = None) -> Tensor:
        """Features (N, D) of all training samples in plain views, in evaluation mode, on the device.

        `modality` says what the net takes where the plain view holds several; by default the first.
        """
        split = self.built.data.splits["train"]
        transform = self.built.transform(modality or next(iter(self.built.plan.inputs)))
        precision = self.built.plan.settings.precision
        some = torch.linspace(0, len(split) - 1, min(1024, len(split))).long()
        parts = some.tensor_split(min(4, max(1, len(some) // 2)))  # each of two samples at least
        views = (transform(to_device(split.take(part), self.device)) for part in parts)
        with whole(self.built.method), first_statistics(net, views):
            found = extract(net, split, transform, self.device, precision)
        x = found.x
        if len(x) < len(split):  # training never meets the rows of files that cannot be read; they are nothing special
            x = x.mean(0).repeat(len(split), 1).index_copy_(0, found.rows, x)  # type: ignore[arg-type]
        return x.to(self.device)
