"""From what the user said to what runs: data, size, recipe, encoder, fields. The result is `run.json`, and builds again
from it alone.
"""

import dataclasses
import inspect
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nolabel import methods, recipes
from nolabel.core import Batch, Clock, Method, UserError
from nolabel.core.fields import from_json, nearest, override, to_json
from nolabel.core.random import fold, seed_all
from nolabel.data import Data, open_data
from nolabel.encoders import image_encoder
from nolabel.engine import Settings
from nolabel.engine.parallel import cores, started
from nolabel.recipes import Recipe
from nolabel.views import plain


@dataclass(frozen=True)
class Options:
    """What every run can be told. Everything left out follows from the data, the recipe and the machine."""

    data: str = "toyworld"
    """toyworld[:easy|std|hard], a folder of images, Parquet files, tar shards, .npz/.npy, a torchvision name, hf:owner/name"""
    encoder: str | None = None
    """tiny, tiny_tokens, or any timm name (resnet18, vit_small_patch16_224, ...)"""
    size: int | None = None
    """side of the images that the encoder sees, in pixels; by default that of small images, 64 on a CPU, 224 on a GPU"""
    recipe: str = "auto"
    """tiny, cifar10, imagenet (the paper); auto chooses by encoder, size and device"""
    epochs: float | None = None
    minutes: float | None = None
    """wall time of training; all schedules end with it"""
    steps: int | None = None
    batch: int | None = None
    """samples per optimiser step, over all processes"""
    accumulate: int = 1
    """forward-backward passes per optimiser step"""
    seed: int = 0
    dir: Path | None = None
    """the run folder; by default runs/METHOD-DATA"""
    init: Path | None = None
    """weights (.safetensors or a state dict) that the encoder starts from"""
    pretrained: bool = False
    """start from timm's pretrained weights"""
    precision: str = "auto"
    """auto (bfloat16 where the device is fast at it), bf16, fp32"""
    compile: bool = False
    """torch.compile the networks"""
    device: str = "auto"
    """auto, cpu, cuda"""
    processes: int | None = None
    """processes on this machine that share the batch; by default one, and one a CPU core for the tiny encoders"""
    shard: bool = False
    """deal weights, gradients and optimiser state out over the processes (FSDP2)"""
    cache: str = "auto"
    """decode the images once into a memory-mapped file: auto (when it fits), always, never"""
    log_every: int = 50
    """steps between log lines"""
    checkpoint_minutes: float = 5.0
    keep: int = 2
    """checkpoints that stay"""
    nonfinite: str = "stop"
    """stop at, or skip, steps whose loss or gradient is not finite"""
    evaluate: tuple[str, ...] = ("knn", "linear")
    """protocols run at the end, of knn, linear, low-shot, fine-tune; empty for none"""
    report: bool = True
    """write report.html at the end"""
    quiet: bool = False


@dataclass(frozen=True)
class Plan:
    """A resolved run. Its JSON form is `run.json`."""

    method: str
    fields: dict[str, Any]
    """every field of the method"""
    data: str
    encoder: dict[str, Any]
    """arguments of `image_encoder`"""
    size: int
    recipe: str
    settings: Settings
    device: str = "auto"
    cache: str = "auto"
    evaluate: tuple[str, ...] = ("knn", "linear")
    report: bool = True
    about: dict[str, Any] = field(default_factory=dict)
    """command line, versions, git commit, machine, start: for the reader, not for the run"""

    def __post_init__(self) -> None:
        sizes = (self.size, self.fields.get("views", {}).get("size", self.size))
        if min(sizes) < 1:
            raise UserError(f"a side of {min(sizes)} pixels is too small; --size must be at least 1")


@dataclass
class Built:
    """The objects of a plan."""

    plan: Plan
    data: Data
    method: Method
    fresh_encoder: Callable[[], nn.Module]
    """the encoder at its random initialisation"""
    transform: Callable[[Batch], Tensor]
    """a stored batch to what the encoder takes: the plain view"""


def resolve(
    method: str, options: Options, changes: dict[str, Any], progress: Callable[[str, float], None]
) -> tuple[Plan, Data]:
    """Choose what was left open, and check what was not. Raises `UserError`."""
    kind = methods.load(method)
    _check_choice("precision", options.precision, ("auto", "bf16", "fp32"))
    _check_choice("nonfinite", options.nonfinite, ("stop", "skip"))
    _check_choice("cache", options.cache, ("auto", "always", "never"))
    _check_choice("recipe", options.recipe, ("auto", *recipes.SETTINGS))
    for protocol in options.evaluate:
        _check_choice("evaluate", protocol, ("knn", "linear", "low-shot", "fine-tune"))
    if sum(x is not None for x in (options.epochs, options.minutes, options.steps)) > 1:
        raise UserError("give only one of --epochs, --minutes and --steps")
    override(kind(), changes)  # unknown fields fail before any data is touched
    gpu = torch.cuda.is_available() and options.device != "cpu"
    small_net = options.encoder is None or options.encoder.startswith("tiny")
    wanted = options.size or (224 if gpu or not small_net else None)
    data = open_data(options.data, size=wanted, cache=options.cache, progress=progress)
    stored = data.info.shapes["image"]
    size = options.size or (min(stored[:2]) if min(stored[:2]) <= 96 else wanted or 64)
    setting, recipe = _recipe(method, options, size, gpu and not (options.encoder or "").startswith("tiny"))
    fields = {**recipe.fields}
    if "views" not in fields and hasattr(kind.views, "size"):
        fields["views"] = _resized(kind.views, size)
    made = override(kind(**{k: from_json_if_dict(kind, k, v) for k, v in fields.items()}), changes)
    views_size = getattr(made.views, "size", size)
    length = {"epochs": options.epochs, "minutes": options.minutes, "steps": options.steps}
    if not any(length.values()):
        length = {"epochs": recipe.epochs, "minutes": recipe.minutes, "steps": None}
    name = options.encoder or recipe.encoder
    batch = options.batch or min(recipe.batch, _largest_batch(data))
    if not 1 <= batch <= len(data.splits["train"]):
        raise UserError(f"--batch {batch} does not fit the {len(data.splits['train'])} samples of {data.name}")
    settings = Settings(
        **length,  # type: ignore[arg-type]
        batch=batch,
        processes=_processes(options, str(name), batch, gpu),
        shard=options.shard,
        accumulate=options.accumulate,
        seed=options.seed,
        precision=options.precision,
        compile=options.compile,
        log_every=options.log_every,
        checkpoint_minutes=options.checkpoint_minutes,
        keep=options.keep,
        nonfinite=options.nonfinite,
    )
    encoder = {
        "name": name,
        "size": views_size,
        "channels": stored[2],
        "stem": "imagenet" if options.pretrained else "auto",
        "pretrained": options.pretrained,
        "init": str(options.init.resolve()) if options.init else None,
    }
    _check_encoder(method, encoder)
    plan = Plan(
        method, to_json(made), options.data, encoder, views_size, setting, settings,
        options.device, options.cache, options.evaluate, options.report, about(),
    )  # fmt: skip
    return plan, data


def build(
    plan: Plan,
    device: torch.device,
    data: Data | None = None,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> Built:
    """The objects of a plan; weights are a function of its seed alone."""
    data = data or open_data(plan.data, size=plan.size, cache=plan.cache, progress=progress)
    kind = methods.load(plan.method)
    method: Method = from_json(kind, plan.fields)

    def fresh() -> nn.Module:
        seed_all(fold(plan.settings.seed, 7))
        arguments = {**plan.encoder, "init": Path(plan.encoder["init"]) if plan.encoder["init"] else None}
        return image_encoder(**arguments)

    takes = list(inspect.signature(kind.build).parameters)[2:]
    for modality in takes:
        if modality in methods.MODALITIES and modality not in data.info.shapes:
            raise UserError(f"{plan.method} takes {modality}, and {plan.data} has {', '.join(data.info.shapes)}")
    encoders = {name: fresh() for name in takes}
    seed_all(fold(plan.settings.seed, 8))
    method.build(data.info, **encoders)
    method.to(device).to(memory_format=torch.channels_last)
    mean, std = getattr(method.views, "mean", (0.5,)), getattr(method.views, "std", (0.25,))

    def transform(batch: Batch) -> Tensor:
        return plain(batch["image"], plan.size, mean, std)

    return Built(plan, data, method, fresh, transform)


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
    """Read `run.json`."""
    import json

    try:
        return from_json(Plan, json.loads(path.read_text()))  # type: ignore[no-any-return]
    except (OSError, ValueError, TypeError, RecursionError, UserError) as error:
        raise UserError(f"{path} is no settings file of a run ({error}); name the folder of a run") from error


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


def from_json_if_dict(kind: type, name: str, value: Any) -> Any:
    """A recipe's field: an object as it is, or its JSON form."""
    return from_json(kind.__annotations__[name], value) if isinstance(value, dict) else value


def _recipe(method: str, options: Options, size: int, large: bool) -> tuple[str, Recipe]:
    setting = options.recipe
    if setting == "auto":
        own_net = options.encoder is not None and not options.encoder.startswith("tiny")
        setting = ("cifar10" if size <= 64 else "imagenet") if large or own_net else "tiny"
    found = recipes.find(setting, method, size)
    if found is None and options.recipe == "auto":
        found = next((r for s in ("tiny", "cifar10", "imagenet") if (r := recipes.find(s, method, size))), None)
    if found is None:
        raise UserError(f"{method} has no recipe '{setting}'")
    return setting, found


def _resized(views: Any, size: int) -> Any:
    """The paper's views at another size; local crops keep their proportion in steps of 16 pixels."""
    changes = {"size": size}
    if hasattr(views, "local_size"):
        changes["local_size"] = max(16, round(views.local_size * size / views.size / 16) * 16)
    return dataclasses.replace(views, **changes)


def _check_encoder(method: str, arguments: dict[str, Any]) -> None:
    """Build it on no memory: a wrong name, size or kind is told before a run folder exists."""
    with torch.device("meta"):
        net = image_encoder(**{**arguments, "pretrained": False, "init": None})
    if "tokens" in inspect.signature(methods.load(method).build).parameters and not hasattr(net, "patchify"):
        name = arguments["name"]
        raise UserError(f"{method} needs an encoder of tokens and {name} is none: take tiny_tokens or a vit_...")


def _processes(options: Options, encoder: str, batch: int, gpu: bool) -> int:
    """Tiny networks do not fill several threads: on CPUs one process a core is a quarter faster than one with threads."""
    if options.processes is not None:
        if options.processes < 1 or batch % (options.processes * options.accumulate):
            raise UserError(
                f"--processes {options.processes}: the batch of {batch} does not divide into that many parts"
            )
        return options.processes
    each = 32 * options.accumulate
    if gpu or not encoder.startswith("tiny") or started():
        return 1
    return max(
        n for n in range(1, cores() + 1) if n == 1 or (batch % (n * options.accumulate) == 0 and batch // n >= each)
    )


def _largest_batch(data: Data) -> int:
    """The largest power of two that a small data set can fill."""
    return 2 ** max(1, len(data.splits["train"]).bit_length() - 1)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"unknown --{name} '{value}'{nearest(value, choices)}")
