"""A resolved run, `run.json`, and the objects that it builds again from it alone."""

import glob
import inspect
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nolabel import encoders, methods
from nolabel.core import Batch, Clock, DataInfo, Method, UserError, kept_by_modality
from nolabel.core.fields import from_json, to_json
from nolabel.core.random import fold, seed_all
from nolabel.data import Data, Form, Source, give, open_data
from nolabel.engine import Settings
from nolabel.engine.precision import channels_last


@dataclass(frozen=True)
class Plan:
    """A resolved run. Its JSON form is `run.json`."""

    method: str
    fields: dict[str, Any]
    """every field of the method"""
    data: str
    encoders: dict[str, dict[str, Any]]
    """arguments of `encoders.make` for each parameter of the method's `build`"""
    inputs: dict[str, tuple[int, ...]]
    """shape of what an encoder takes, by modality, without the batch axis"""
    form: Form
    """how samples are stored"""
    recipe: str
    settings: Settings
    device: str = "auto"
    cache: str = "auto"
    evaluate: tuple[str, ...] = ("knn", "linear")
    report: bool = True
    labels: str | None = None
    info: DataInfo | None = None
    """what the method was told about the data, so that it can be built again without them; None in old runs"""
    about: dict[str, Any] = field(default_factory=dict)
    """command line, versions, git commit, machine, start: for the reader, not for the run"""

    def __post_init__(self) -> None:
        size = self.fields.get("views", {}).get("size", 1)
        if size < 1:
            raise UserError(f"a side of {size} pixels is too small; --size must be at least 1")

    @property
    def title(self) -> str:
        """What the data are called: the last part of a path."""
        return Path(self.data).name if os.path.isabs(self.data) else self.data

    @property
    def encoder(self) -> str:
        """The encoders in words: a name, or modality and name of each."""
        names = {parameter: str(each["name"]) for parameter, each in self.encoders.items()}
        return next(iter(names.values())) if len(names) == 1 else ", ".join(f"{k} {v}" for k, v in names.items())

    def parameter(self, modality: str) -> str:
        """The parameter of `build` that stands for a modality: of that name, or the first (`tokens`)."""
        return modality if modality in self.encoders else next(iter(self.encoders))

    def fresh(self, modality: str) -> nn.Module:
        """The encoder of a modality at its random initialisation, a function of the seed."""
        place = list(self.encoders).index(self.parameter(modality))
        seed_all(fold(self.settings.seed, 7, *([place] if place else [])))
        return encoders.make(**self.encoders[self.parameter(modality)])

    def shell(self, modality: str) -> nn.Module:
        """The same encoder on no memory: its kind and the shapes of its weights."""
        arguments = {
            k: v for k, v in self.encoders[self.parameter(modality)].items() if k not in ("init", "pretrained")
        }
        with torch.device("meta"):
            return encoders.make(**arguments)


@dataclass
class Built:
    """The objects of a plan."""

    plan: Plan
    data: Data
    method: Method

    def kept(self) -> dict[str, nn.Module]:
        """What the method keeps, by modality."""
        return kept_by_modality(self.method, self.plan.inputs)

    def transform(self, modality: str) -> Callable[[Batch], Tensor]:
        """From a stored batch to what the encoder of a modality takes: the plain view."""
        return lambda batch: self.method.views.plain(batch)[modality]

    def source(self, batch: int) -> Source:
        """Training batches of the columns that the method reads."""
        reads = tuple(self.method.views.reads)
        return Source(self.data.splits["train"], batch, reads, labelled=self.method.labelled)


def columns(method: Method) -> tuple[str, ...]:
    """The stored columns that a method reads; labels where it asks for them."""
    return (*method.views.reads, *(["label"] if method.labelled > 0 else []))


def takes(kind: type[Method]) -> list[str]:
    """The names of the encoders that a method asks for."""
    return list(inspect.signature(kind.build).parameters)[2:]


def located(data: str) -> str:
    """Data as they are found from any folder: a path or pattern absolute, a name as it is."""
    path = os.path.expanduser(data)
    return os.path.abspath(path) if os.path.exists(path) or _pattern(data) else data


def _pattern(data: str) -> bool:
    return (glob.has_magic(data) or "{" in data) and not data.lower().startswith(("hf:", "toyworld:"))


def moved(plan: Plan, data: str, progress: Callable[[str, float], None]) -> Plan:
    """The plan with its data at another place. Raises `UserError` where they are not like those it was made for."""
    plan = replace(plan, data=located(data))
    found = opened(plan, progress).info
    for what, then, now in (
        (name, getattr(plan.info, name), getattr(found, name))
        for name in ("size", "classes", "shapes", "rates", "vocabulary")
        if plan.info is not None
    ):
        if then != now:
            told = f"{what} {then}, not {now}" if what in ("size", "vocabulary") else f"other {what}"
            raise UserError(
                f"{data} is not what the run was trained on, which has {told}; name the data that were moved"
            )
    return plan


def opened(plan: Plan, progress: Callable[[str, float], None] = lambda what, share: None) -> Data:
    """The data of a plan. Raises `UserError` that says what to do where they have gone."""
    if os.path.isabs(plan.data) and not os.path.exists(plan.data) and not _pattern(plan.data):
        raise UserError(
            f"the data of the run are no longer at {plan.data}: say where they are, 'nolabel resume RUN --data PLACE'"
        )
    made = from_json(methods.load(plan.method), plan.fields)
    return open_data(plan.data, columns(made), cache=plan.cache, progress=progress, **plan.form.given())


def build(
    plan: Plan,
    device: torch.device,
    data: Data | None = None,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> Built:
    """The objects of a plan; weights are a function of its seed alone."""
    data = data or opened(plan, progress)
    method = build_method(plan, data.info)
    give_labels(method, data, plan.labels, plan.settings.seed)
    return Built(plan, data, channels_last(method.to(device)))  # type: ignore[arg-type]


def build_method(plan: Plan, info: DataInfo) -> Method:
    """The method of a plan with its networks."""
    kind = methods.load(plan.method)
    method: Method = from_json(kind, plan.fields)
    nets = {parameter: plan.fresh(parameter) for parameter in takes(kind)}
    seed_all(fold(plan.settings.seed, 8))
    method.build(info, **nets)
    return method


def clock_at_end(state: dict[str, Any]) -> Clock:
    """The clock of a checkpoint, for pictures: its last step as one epoch."""
    return Clock(state["step"], state["steps"], max(1, state["steps"]), state["stage"])


def write(plan: Plan, path: Path) -> None:
    """Write `run.json`."""
    import json

    from nolabel.engine.checkpoint import write_atomic

    text = json.dumps(to_json(plan), indent=1)
    write_atomic(path, lambda file: file.write(text.encode()))


def read(path: Path) -> Plan:
    """Read `run.json`, also of the first version; a tokenizer.json beside it is the one of the run."""
    import json

    try:
        plan: Plan = from_json(Plan, _upgraded(json.loads(path.read_text())))
    except (OSError, ValueError, TypeError, KeyError, RecursionError, UserError) as error:
        raise UserError(f"{path} is no settings file of a run ({error}); name the folder of a run") from error
    words = path.with_name("tokenizer.json")
    return replace(plan, form=replace(plan.form, tokenizer=str(words))) if words.exists() else plan


def _upgraded(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of version 0.1, which knew images alone and one encoder, in the form of today."""
    if "encoder" not in settings:
        return settings
    old, size = settings["encoder"], settings["size"]
    (parameter,) = takes(methods.load(settings["method"]))
    made = arguments_of(old["name"], (old["channels"], old["size"], old["size"]), None, old["init"], old["pretrained"])
    rest = {k: v for k, v in settings.items() if k not in ("encoder", "size")}
    form = {"size": size, "channels": old["channels"]}
    return {**rest, "encoders": {parameter: made}, "inputs": {"image": made["shape"]}, "form": form}


def about() -> dict[str, Any]:
    """Where, when and with what."""
    import numpy
    import timm
    import torchvision

    def git() -> str | None:
        here = Path(__file__).parent
        try:
            done = subprocess.run(
                ["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=5
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() or None

    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "nolabel": version("nolabel"),
            "python": platform.python_version(),
            **{m.__name__: m.__version__ for m in (torch, torchvision, timm, numpy)},
        },
        "git": git(),
        "machine": {
            "system": platform.platform(),
            "cpu": _cpu(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def _cpu() -> str:
    """The model of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), platform.processor())


def give_labels(method: Method, data: Data, labels: str | None, seed: int) -> None:
    """Choose the labels that the method may see, if it wants any."""
    if method.labelled > 0:
        give(data, labels, seed)
    elif labels is not None:
        raise UserError(f"{methods.name_of(method)} learns from no labels; leave --labels out")


def arguments_of(
    name: str, shape: tuple[int, ...], info: DataInfo | None, init: str | None, pretrained: bool
) -> dict[str, Any]:
    """Arguments of `encoders.make`; only networks of timm have pretrained weights."""
    made: dict[str, Any] = {"name": name, "shape": list(shape), "init": str(Path(init).resolve()) if init else None}
    if info and info.vocabulary:
        made["vocabulary"] = info.vocabulary
    return {**made, "pretrained": True, "stem": "imagenet"} if pretrained else made
