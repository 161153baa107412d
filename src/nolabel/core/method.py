"""The contract that every method file fulfils."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, dataclass_transform

from torch import Tensor, nn

from nolabel.core.clock import Clock
from nolabel.core.types import Batch, DataInfo, Logs, Optim, ViewMaker


@dataclass_transform(kw_only_default=True, eq_default=False)
class Method(nn.Module):
    """One paper. Hyper-parameters are fields, `build` makes the networks, `forward` gives the loss.

    A subclass becomes a keyword-only dataclass and is final: nothing subclasses it and it never calls `super()`.
    `Method()` without arguments is the paper's recipe. All state lives in `state_dict`; what trains is `groups(t)`.
    """

    turns: ClassVar[tuple[str, ...]] = ("all",)
    """optimiser steps per batch, in order, e.g. ("critic", "painter")"""
    stages: ClassVar[int] = 1
    """restarts of clock and optimisers (greedy layers, self-training rounds); may be a property of the fields"""
    shares: ClassVar[tuple[float, ...]] = ()
    """of --minutes for each stage, together 1; empty: all alike"""
    undecayed: ClassVar[tuple[str, ...]] = ()
    """names of matrices that weight decay leaves alone, as norms and biases; any module may name its own"""
    labelled: ClassVar[float] = 0.0
    """share of every batch that carries labels, its first rows (see `labelled_rows`); may be a property of the fields"""
    steady: ClassVar[tuple[str, ...]] = ()
    """names of parameters or modules whose rate has no schedule but the warm-up's peak; any module may name its own"""
    views: ViewMaker
    optim: Optim = Optim()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        taken = set(inspect.get_annotations(cls)) & (set(dir(nn.Module)) | {"forward", "build", "groups"})
        if taken:
            raise TypeError(f"{cls.__name__}: fields {sorted(taken)} hide attributes of nn.Module; rename them")
        dataclass(eq=False, repr=False, kw_only=True)(cls)

    def __post_init__(self) -> None:
        nn.Module.__init__(self)

    def build(self, data: DataInfo, *args: Any, **kwargs: Any) -> None:
        """Make the networks. The names of the parameters after `data` say which modalities the method takes."""
        raise NotImplementedError

    def forward(self, views: Batch, t: Clock) -> tuple[Tensor, Logs]:
        """The loss of one batch of views (0-d, mean over the samples of this rank) and named things to log.

        Who compares embeddings logs their `std`, 1 where healthy and 0 where collapsed: the collapse alarm watches it.
        """
        raise NotImplementedError

    def groups(self, t: Clock) -> dict[str, Iterable[nn.Parameter]]:
        """The parameters each turn trains now: a pure function of the clock, so that a resumed run rebuilds it.

        By default one group with every parameter outside frozen averages (`EMA` marks its own as not trained).
        """
        frozen = {id(p) for m in self.modules() if getattr(m, "frozen", False) for p in m.parameters()}
        return {"all": [p for p in self.parameters() if id(p) not in frozen]}

    def after_backward(self, t: Clock) -> None:
        """Between gradient and optimiser step, e.g. to freeze prototypes."""

    def after_step(self, t: Clock) -> None:
        """After the last turn of a batch, without gradient, e.g. to move a running average."""

    def begin_stage(self, t: Clock, data: Any) -> None:
        """Before the first step of a stage, seeded alike on all ranks."""

    def begin_epoch(self, t: Clock, data: Any) -> None:
        """Before the first step of an epoch, seeded alike on all ranks, e.g. k-means over `data.encode(net)`."""

    def show(self, views: Batch, t: Clock) -> dict[str, Tensor]:
        """Pictures for the report: named rows of images (B, C, H, W) as the views made them, e.g. reconstructions."""
        return {}

    def predict(self, x: Tensor) -> Tensor | None:
        """Logits (B, classes) of plain views, where the method trains a classifier; its average where that is better."""
        return None

    def kept(self) -> nn.Module:
        """What is evaluated, exported and handed on: the encoder, or the teacher where the paper keeps it.

        Where several modalities have an encoder each: an `nn.ModuleDict` of them, by modality.
        """
        return self.encoder  # type: ignore[return-value]


def kept_by_modality(method: Method, inputs: Mapping[str, Any]) -> dict[str, nn.Module]:
    """What a method keeps, by modality; a single module goes with the first of `inputs`, what `views.plain` gives."""
    kept = method.kept()
    return dict(kept.items()) if isinstance(kept, nn.ModuleDict) else {next(iter(inputs)): kept}


dataclass(eq=False, repr=False, kw_only=True)(Method)


@dataclass(frozen=True)
class Preset:
    """A paper that is another paper's method with other numbers: a file with a header and a preset, without a class.

    Everywhere it is a method of its own, under the name of its file, with these defaults.
    """

    of: str
    """name of the method"""
    takes: str
    """the modality of its samples"""
    fields: dict[str, Any] = field(default_factory=dict)
    """what differs from the method's defaults"""
