"""Judge: every protocol on the encoder and on its two controls, as the rows of results.json.

A row is one number: what was measured (`protocol`, `version`, `metric`, `data`, `split`), with which `settings` and
`seed`, its `value`, and the same number for the untrained encoder (`random_init`) and for the input (`raw_input`), null
where that control was not asked for; `modality` says of which encoder. Accuracies are in percent. In the file `place` says
where data lie that have no name of their own: the path.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import permutations
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from nolabel.core import UserError
from nolabel.data.cache import remembered
from nolabel.evaluate.baselines import RawInput, random_init
from nolabel.evaluate.features import EvalData, Transform, fingerprint, to_device
from nolabel.evaluate.geometry import Geometry
from nolabel.evaluate.knn import KNN
from nolabel.evaluate.linear import Linear
from nolabel.evaluate.zeroshot import ZeroShot

Row = dict[str, Any]

_LOOKED_AT = 64
"""samples of a split that tell whether it is the one whose controls are remembered"""


class Evaluator(Protocol):
    """A frozen dataclass; its fields are the settings of the protocol.

    The result holds the protocol's `metrics`, and beside them what was chosen on the way (a penalty, a learning rate).
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int:
        """Grows when the same settings would give other numbers."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]: ...
    def __call__(self, encoder: nn.Module, data: EvalData) -> dict[str, float]: ...


class Judgement(NamedTuple):
    """Rows for results.json, and sentences about what could not be judged."""

    rows: list[Row]
    notes: list[str]


def judge(
    protocols: Sequence[Evaluator],
    encoder: nn.Module,
    fresh_encoder: Callable[[], nn.Module] | None,
    data: Any,
    transform: Transform,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: str = "auto",
    raw: Sequence[str] = ("knn",),
    geometry: Geometry | None = Geometry(),  # noqa: B008 - frozen
    modality: str = "image",
    share: float = 1.0,
) -> Judgement:
    """Evaluate `encoder` (on `device`) by each protocol.

    data           has `name` and `splits`, a mapping with "train" and, where there is one, "test"
    transform      stored batch on the device -> encoder input
    fresh_encoder  makes the same encoder untrained; None leaves that control out
    raw            names of the protocols that also judge the raw input
    modality       what the encoder takes
    share          of a stored sound that the transform keeps, in the middle
    geometry       label-free numbers, which are there even if no protocol can run; None leaves them out

    Controls do not depend on the training: what they reached on the same samples is remembered in the cache.
    """
    eval_data = EvalData(
        data.splits, transform, data.name, device, precision, seed=seed, modality=modality, share=share
    )  # fmt: skip
    train = data.splits["train"]
    runnable, notes = _runnable(protocols, data)
    if geometry is not None:
        runnable.append(geometry)
    if not runnable:
        return Judgement([], notes)

    untrained = None
    if fresh_encoder is not None:
        untrained = random_init(fresh_encoder, train, transform, seed, device)
    view = transform(to_device(train.take(torch.arange(1)), torch.device(device)))
    sizes = {getattr(protocol, "raw_size", 32) for protocol in runnable}
    inputs = {size: RawInput(modality, tuple(view.shape[1:]), size) for size in sizes}

    rows, stamp = [], _stamp(eval_data)

    def once(protocol: Evaluator, net: nn.Module) -> dict[str, float]:
        identity = f"{stamp} {type(protocol).__module__} {protocol!r} {protocol.version} {net!r} {fingerprint(net)}"
        return remembered("control", identity, lambda: protocol(net, eval_data))  # type: ignore[no-any-return]

    for protocol in runnable:
        try:
            result = protocol(encoder, eval_data)
            control = once(protocol, untrained) if untrained is not None else {}
            baseline = once(protocol, inputs[getattr(protocol, "raw_size", 32)]) if protocol.name in raw else {}
        except UserError as error:
            notes.append(f"{protocol.name} was left out: {error}")
            continue
        split = "train" if protocol is geometry else "test"
        rows += _rows(protocol, eval_data, split, modality, result, control, baseline)
    return Judgement(rows, notes)


def _stamp(data: EvalData) -> str:
    """What the numbers of an untrained net and of the raw input depend on, beside net and protocol.

    Of the samples some are looked at, and all labels, also those that a control is trained on.
    """
    sha = hashlib.sha256()
    for name, split in sorted(data.splits.items()):
        sha.update(f"{name} {len(split)} {split.classes}".encode())
        batch = split.take(torch.linspace(0, len(split) - 1, _LOOKED_AT).long().unique())
        seen = {**batch, "view": data.transform(to_device(batch, torch.device(data.device)))}
        for labels in {"label", "given"} & batch.keys():  # all that there are, and those that training may use
            seen[labels] = split.take(torch.arange(len(split)), [labels])[labels]
        for key, tensor in sorted(seen.items()):
            sha.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    how = (data.precision, torch.device(data.device).type, data.seed, data.modality, data.share, torch.__version__)
    return f"{sha.hexdigest()} {how}"


def judge_pairs(
    protocols: Sequence[Any],
    encoders: Mapping[str, nn.Module],
    fresh_encoder: Callable[[str], nn.Module] | None,
    data: Any,
    transforms: Mapping[str, Transform],
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: str = "auto",
    tokenizer: Any = None,
    words: int = 0,
) -> Judgement:
    """Evaluate encoders of several modalities against each other, each ordered pair by each protocol that suits it.

    tokenizer, words  of the text that the encoders were trained on
    Others as for `judge`, by modality. Zero-shot asks with samples of any modality for texts.
    """
    found, notes = _runnable(protocols, data)
    eval_data = {
        name: EvalData(
            data.splits, transforms[name], data.name, device, precision, seed=seed, modality=name,
            tokenizer=tokenizer, words=words,
        )
        for name in encoders
    }  # fmt: skip
    untrained: dict[str, nn.Module] = {}
    if fresh_encoder is not None and found:
        for name in encoders:
            make, split = partial(fresh_encoder, name), data.splits["train"]
            able = name != "text" or "text" in split.columns  # prompts alone: nothing to calibrate on
            untrained[name] = random_init(make, split, transforms[name], seed, device) if able else make().eval()
    rows = []
    for protocol in found:
        for query, target in permutations(encoders, 2):
            if isinstance(protocol, ZeroShot) and target != "text":
                continue
            try:
                both = (eval_data[query], eval_data[target])
                result = protocol(encoders[query], encoders[target], *both)
                control = protocol(untrained[query], untrained[target], *both) if untrained else {}
            except UserError as error:
                notes.append(f"{protocol.name} of {query} by {target} was left out: {error}")
                continue
            rows += _rows(protocol, eval_data[query], "test", f"{query} to {target}", result, control, {})
    return Judgement(rows, notes)


def _rows(
    protocol: Any,
    data: EvalData,
    split: str,
    modality: str,
    result: dict[str, float],
    control: dict[str, float],
    baseline: dict[str, float],
) -> list[Row]:
    chosen = {key: value for key, value in result.items() if key not in protocol.metrics}
    settings = {**asdict(protocol), **chosen, "precision": data.precision}
    return [
        {
            "modality": modality,
            "protocol": protocol.name,
            "version": protocol.version,
            "data": data.name,
            "split": split,
            "metric": metric,
            "value": result[metric],
            "random_init": control.get(metric),
            "raw_input": baseline.get(metric),
            "seed": data.seed,
            "settings": {key: _plain(value) for key, value in settings.items()},
        }
        for metric in protocol.metrics
        if metric in result
    ]


def _runnable(protocols: Sequence[Any], data: Any) -> tuple[list[Any], list[str]]:
    """The protocols that data suit, and a sentence about the others."""
    if "test" not in data.splits:
        return [], [f'data "{data.name}" has no test split, so nothing was judged with labels; only geometry is shown.']
    if all(split.classes for split in (data.splits["train"], data.splits["test"])):
        return list(protocols), []
    able = [protocol for protocol in protocols if not getattr(protocol, "labelled", True)]
    if len(able) == len(protocols):
        return able, []
    shown = " and ".join(protocol.name for protocol in able) or "geometry"
    return able, [f'data "{data.name}" has no labels, so nothing was judged with them; only {shown} is shown.']


def _plain(value: Any) -> Any:
    """A value that strict JSON can hold: infinity as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


STANDARD: tuple[Evaluator, ...] = (KNN(), Linear())
"""what a run is judged by unless told otherwise"""
