"""From what the user said to what runs: data, size, recipe, encoder, fields. The result is `run.json`, and builds again
from it alone.
"""

import dataclasses
import glob
import inspect
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nolabel import encoders, methods, recipes
from nolabel.core import Batch, Clock, DataInfo, Method, UserError, kept_by_modality
from nolabel.core.fields import from_json, nearest, override, to_json
from nolabel.core.random import fold, seed_all
from nolabel.data import FRAMES, SECONDS, Data, Form, Source, give, open_data
from nolabel.engine import Settings
from nolabel.engine.parallel import cores, started
from nolabel.engine.precision import channels_last
from nolabel.recipes import Recipe

PROTOCOLS = (
    "knn", "linear", "low-shot", "fine-tune", "classify", "retrieval", "zero-shot", "perplexity", "segments", "propagation"
)  # fmt: skip
"""names of evaluations"""


@dataclass(frozen=True)
class Options:
    """What every run can be told. Everything left out follows from the data, the recipe and the machine."""

    data: str = "toyworld"
    """toyworld[:easy|std|hard|upright|textured] (alone: the one that suits the method), a folder of files of the method's
    kind, Parquet files, tar shards, .npz/.npy, .jsonl or .txt, a torchvision name, hf:owner/name"""
    labels: str | None = None
    """what methods that learn from labels may see: a number of them in all, or a CSV file of file,label; default: all"""
    encoder: str | None = None
    """tiny, tiny_tokens, any timm name (resnet18, vit_small_patch16_224, ...) or one of ours for other kinds of data;
    where a method takes several: video=NAME,audio=NAME"""
    size: int | None = None
    """side of images and frames that the encoder sees, in pixels; by default that of small ones, else the paper's in its recipe
    (imagenet), 64 on a CPU and 224 on a GPU in others; patches and small crops go with it"""
    frames: int | None = None
    """frames of a stored clip of video; by default what the views or the recipe want, from 16 to 64"""
    fps: float | None = None
    """frames a second of a stored clip; by default 8, or what the recipe says"""
    sample_rate: int | None = None
    """samples a second of stored sound; by default the commonest of the files, at most 16,000"""
    seconds: float | None = None
    """length of stored sound; by default that of the clip beside it, or what holds nine of ten files, at most 5"""
    points: int | None = None
    """points of a stored cloud; by default at most 1,024, or what the views want"""
    words: int | None = None
    """tokens of a stored text; by default what holds nine of ten texts, at most 128"""
    vocabulary: int | None = None
    """most different tokens of the tokenizer that is trained on the data; by default 4,096"""
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
    """weights (.safetensors or a state dict) that the encoder starts from; of one of several: audio=FILE"""
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
    """decode the samples once into memory-mapped files: auto (when they fit), always, never"""
    log_every: int = 50
    """steps between log lines, or fewer where they take over 10 s"""
    checkpoint_minutes: float = 5.0
    keep: int = 2
    """checkpoints that stay"""
    nonfinite: str = "stop"
    """stop at, or skip, steps whose loss or gradient is not finite"""
    evaluate: tuple[str, ...] = ("knn", "linear")
    """protocols run at the end, of knn, linear, low-shot, fine-tune; empty for none. What only some methods allow (classify,
    retrieval, zero-shot, perplexity, segments, propagation) is judged wherever it suits method and data"""
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
        _check_choice("evaluate", protocol, PROTOCOLS)
    if sum(x is not None for x in (options.epochs, options.minutes, options.steps)) > 1:
        raise UserError("give only one of --epochs, --minutes and --steps")
    override(kind(), changes)  # unknown fields fail before any data is touched
    nets, weights = (_each(what, getattr(options, what), takes(kind)) for what in ("encoder", "init"))
    gpu = torch.cuda.is_available() and options.device != "cpu"
    tiny = all(name.startswith("tiny") for name in nets.values())
    wanted = options.size or (224 if gpu or not tiny else None)
    large = not tiny if nets else gpu
    # the recipe says which columns are read; its numbers may follow from the size that the data then have
    setting, draft = _recipe(method, options, wanted or 64, large)
    if setting == "imagenet" and options.size is None:  # the paper's own
        wanted = _side(draft.fields.get("views", kind.views)) or wanted
    first = _made(kind, draft, changes, wanted or 64)
    reads = columns(first)
    asked = {f.name: getattr(options, f.name) for f in dataclasses.fields(Form) if hasattr(options, f.name)}
    form = Form(**asked).default(**draft.form).default(size=wanted).default(**_suited(first.views))
    source = f"toyworld:{draft.toyworld}" if options.data == "toyworld" and draft.toyworld else options.data
    source = located(source)
    data = open_data(source, reads, cache=options.cache, progress=progress, **form.given())
    size = options.size or _size(data.info, wanted)
    setting, recipe = _recipe(method, options, size, large)
    made = _made(kind, recipe, changes, size)
    if (rate := data.info.rates.get("audio")) and hasattr(made.views, "rate"):
        made = override(made, {"views.sound.rate" if hasattr(made.views, "sound") else "views.rate": int(rate)})
    labels = options.labels
    if labels is not None and not labels.isdecimal():
        labels = str(Path(labels).resolve())
    _give_labels(made, data, labels, options.seed)
    length = {"epochs": options.epochs, "minutes": options.minutes, "steps": options.steps}
    if said := next(((k, v) for k, v in length.items() if v is not None and not v > 0), None):
        raise UserError(f"--{said[0]} {said[1]}: nothing can be trained in that; say more than 0")
    if all(v is None for v in length.values()):
        length = {"epochs": recipe.epochs, "minutes": recipe.minutes, "steps": None}
    if len(data.splits["train"]) < 2:
        raise UserError(f"{data.name} has {len(data.splits['train'])} training samples; a method compares at least two")
    batch = min(recipe.batch, _largest_batch(data)) if options.batch is None else options.batch
    if not 1 <= batch <= len(data.splits["train"]):
        raise UserError(f"--batch {batch} does not fit the {len(data.splits['train'])} samples of {data.name}")
    with _blamed(method, changes):
        inputs = _inputs(made, data)
    chosen = {p: nets.get(p) or _of(recipe.encoder, p) for p in takes(kind)}
    settings = Settings(
        **length,  # type: ignore[arg-type]
        batch=batch,
        processes=_processes(options, all(name.startswith("tiny") for name in chosen.values()), batch, gpu),
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
    plan = Plan(
        method=method,
        fields=to_json(made),
        data=source,
        encoders={
            p: _arguments(
                name, inputs.get(p, next(iter(inputs.values()))), data.info, weights.get(p), options.pretrained
            )
            for p, name in chosen.items()
        },
        inputs=inputs,
        form=replace(data.form, size=_side(made.views) or size),
        recipe=setting,
        settings=settings,
        device=options.device,
        cache=options.cache,
        evaluate=options.evaluate,
        report=options.report,
        labels=labels,
        info=data.info,
        about=about(),
    )
    _check_encoders(plan)
    return plan, data


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
    _give_labels(method, data, plan.labels, plan.settings.seed)
    return Built(plan, data, channels_last(method.to(device)))  # type: ignore[arg-type]


def try_out(plan: Plan, device: torch.device, data: Data, changes: dict[str, Any], processes: int) -> Built:
    """`build`, before anything is written. What fails with fields that the user changed is the user's to mend: `UserError`."""
    with _blamed(plan.method, changes) as said, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers without weights, which are told below
        built = build(plan, device, data)
        finite = _views_are_finite(built) if any(name.split(".")[0] == "views" for name in changes) else True
    if not finite:
        raise UserError(f"the views of {plan.method} are not finite with {said}; change that")
    if changes and any(0 in p.shape for p in built.method.parameters()):
        raise UserError(f"a layer of {plan.method} has no weights with {said}; take widths above 0")
    parts = processes * plan.settings.accumulate
    alone = plan.settings.batch // parts < 2
    if alone and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in built.method.modules()):
        raise UserError(
            f"--batch {plan.settings.batch} gives parts of one sample, and {plan.method} normalises over several: "
            f"take {2 * parts} or more"
        )
    return built


@contextmanager
def _blamed(method: str, changes: dict[str, Any]) -> Iterator[str]:
    """What fails inside is laid to the fields that the user changed, if any; gives them in words."""
    said = " ".join(f"--{name} {value}" for name, value in sorted(_flat(changes).items()))
    try:
        yield said
    except UserError:
        raise
    except Exception as error:
        if not changes:
            raise
        line = next(iter(str(error).splitlines()), "")[:200]
        raise UserError(f"{method} cannot be built with {said}: {type(error).__name__}: {line}") from error


def _flat(changes: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Changed fields by dots, whether they were said by dots or by dicts."""
    found: dict[str, Any] = {}
    for name, value in changes.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _views_are_finite(built: Built) -> bool:
    """Whether the views of some samples are numbers."""
    split, method = built.data.splits["train"], built.method
    few = split.take(torch.arange(min(16, len(split))), columns(method))
    views = method.views(few, torch.Generator().manual_seed(0))
    return all(bool(x.isfinite().all()) for x in views.values() if torch.is_tensor(x) and x.is_floating_point())


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
    made = _arguments(old["name"], (old["channels"], old["size"], old["size"]), None, old["init"], old["pretrained"])
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


def from_json_if_dict(kind: type, name: str, value: Any) -> Any:
    """A recipe's field: an object as it is, or its JSON form."""
    return from_json(kind.__annotations__[name], value) if isinstance(value, dict) else value


def _each(what: str, said: Any, parameters: list[str]) -> dict[str, str]:
    """NAME, or video=NAME,audio=NAME, as one value for each parameter that it names."""
    if said is None:
        return {}
    if "=" not in (text := str(said)):
        if len(parameters) == 1:
            return {parameters[0]: text}
        example = ",".join(f"{p}=..." for p in parameters)
        raise UserError(f"--{what} {text}: this method takes {' and '.join(parameters) or 'none'}; say {example}")
    pairs = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    if unknown := next((p for p in pairs if p not in parameters), None):
        raise UserError(f"--{what}: this method takes no encoder of '{unknown}'{nearest(unknown, parameters)}")
    return pairs


def _of(encoder: str | dict[str, str], parameter: str) -> str:
    return encoder if isinstance(encoder, str) else encoder[parameter]


def _arguments(
    name: str, shape: tuple[int, ...], info: DataInfo | None, init: str | None, pretrained: bool
) -> dict[str, Any]:
    """Arguments of `encoders.make`; only networks of timm have pretrained weights."""
    made: dict[str, Any] = {"name": name, "shape": list(shape), "init": str(Path(init).resolve()) if init else None}
    if info and info.vocabulary:
        made["vocabulary"] = info.vocabulary
    return {**made, "pretrained": True, "stem": "imagenet"} if pretrained else made


def _suited(views: Any) -> dict[str, Any]:
    """What views ask of the stored form: long enough clips, up to 64 frames; clouds from which crops can be cut; the rate of
    sound, and its length if great.
    """
    asked: dict[str, Any] = {}
    if "video" in views.reads and hasattr(views, "stored"):
        asked["frames"] = max(FRAMES, min(64, views.stored))
    if "points" in views.reads and hasattr(views, "stored") and views.stored > 512:  # which every store has
        asked["points"] = views.stored
    if "audio" in views.reads and hasattr(views, "rate"):
        asked["sample_rate"] = int(views.rate)
    if "audio" in views.reads and "video" not in views.reads and getattr(views, "seconds", 0) > SECONDS:
        asked["seconds"] = views.seconds
    return asked


def _inputs(method: Method, data: Data) -> dict[str, tuple[int, ...]]:
    """Shapes of what the plain view makes of stored samples, by modality."""
    split = data.splits["train"]
    few = split.take(torch.arange(min(8, len(split))), method.views.reads)
    return {modality: tuple(x.shape[1:]) for modality, x in method.views.plain(few).items()}


def _size(info: DataInfo, wanted: int | None) -> int:
    """Side of the views in pixels: that of small pictures, else the wanted one."""
    stored = next((info.shapes[name] for name in ("image", "video") if name in info.shapes), None)
    side = min(stored[-3:-1]) if stored else 64
    return side if side <= 96 else wanted or 64


def _made(kind: type[Method], recipe: Recipe, changes: dict[str, Any], size: int) -> Method:
    """The method with the fields of a recipe, the paper's views at another size, and what the user changed."""
    fields = {**recipe.fields}
    if "views" not in fields and hasattr(kind.views, "size"):
        fields["views"] = _resized(kind.views, size)
    return override(kind(**{k: from_json_if_dict(kind, k, v) for k, v in fields.items()}), changes)  # type: ignore[no-any-return]


def _recipe(method: str, options: Options, size: int, large: bool) -> tuple[str, Recipe]:
    setting = options.recipe
    if setting == "auto":
        setting = ("cifar10" if size <= 64 else "imagenet") if large else "tiny"
    found = recipes.find(setting, method, size)
    if found is None and options.recipe == "auto":
        found = next((r for s in ("tiny", "cifar10", "imagenet") if (r := recipes.find(s, method, size))), None)
    if found is None:
        raise UserError(f"{method} has no recipe '{setting}'")
    return setting, found


def _give_labels(method: Method, data: Data, labels: str | None, seed: int) -> None:
    """Choose the labels that the method may see, if it wants any."""
    if method.labelled > 0:
        give(data, labels, seed)
    elif labels is not None:
        raise UserError(f"{methods.name_of(method)} learns from no labels; leave --labels out")


def _resized(views: Any, size: int) -> Any:
    """The paper's views where the encoder sees `size` pixels a side, with what they count in pixels in proportion.

    Views with patches or tiles know how, other crops keep their proportion in steps of 16 pixels.
    """
    if size == (seen := _side(views)):
        return views
    side = round(views.size * size / seen)
    if hasattr(views, "resized"):
        views = views.resized(side)
    crops = [name for name in ("crop_size", "local_size") if hasattr(views, name)]
    changes = {name: max(16, round(getattr(views, name) * side / views.size / 16) * 16) for name in crops}
    if getattr(views, "test_size", None):
        changes["test_size"] = size
    return dataclasses.replace(views, size=side, **changes)


def _side(views: Any) -> int | None:
    """Pixels a side that the encoder sees in the end; None for views of no pictures."""
    return getattr(views, "test_size", None) or getattr(views, "size", None)


def _check_encoders(plan: Plan) -> None:
    """Build them on no memory: a wrong name, size or kind is told before a run folder exists."""
    for parameter, arguments in plan.encoders.items():
        modality = parameter if parameter in plan.inputs else next(iter(plan.inputs))
        encoders.check_modality(arguments["name"], modality, plan.inputs[modality])
        net = plan.shell(parameter)
        if parameter == "tokens" and not hasattr(net, "patchify"):
            name = arguments["name"]
            raise UserError(
                f"{plan.method} needs an encoder of tokens and {name} is none: take tiny_tokens or a vit_..."
            )


def _processes(options: Options, tiny: bool, batch: int, gpu: bool) -> int:
    """Tiny networks do not fill several threads: on CPUs one process a core is a quarter faster than one with threads."""
    if options.processes is not None:
        if options.processes < 1 or batch % (options.processes * options.accumulate):
            raise UserError(
                f"--processes {options.processes}: the batch of {batch} does not divide into that many parts"
            )
        return options.processes
    each = 32 * options.accumulate
    if gpu or not tiny or started():
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
