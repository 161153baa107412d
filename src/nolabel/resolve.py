"""From what the user said to a plan: data, size, recipe, encoder, fields; and what cannot work, before anything is written."""

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nolabel import encoders, methods, recipes
from nolabel.core import Clock, DataInfo, Method, UserError
from nolabel.core.dist import world
from nolabel.core.errors import nearest
from nolabel.core.fields import from_json, override, to_json
from nolabel.core.random import generator
from nolabel.data import FRAMES, SECONDS, Data, Form, open_data
from nolabel.engine import Settings
from nolabel.engine.parallel import cores, started
from nolabel.evaluate.features import to_device
from nolabel.options import PROTOCOLS, Options
from nolabel.plan import Built, Plan, about, arguments_of, build, columns, give_labels, located, takes
from nolabel.recipes import Recipe


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
        if protocol == "none":
            raise UserError("--evaluate none: to judge nothing say --evaluate without a name")
        _check_choice("evaluate", protocol, PROTOCOLS)
    if sum(x is not None for x in (options.epochs, options.minutes, options.steps)) > 1:
        raise UserError("give only one of --epochs, --minutes and --steps")
    override(kind(), changes)  # unknown fields fail before any data is touched
    nets, weights = (_each(what, getattr(options, what), takes(kind)) for what in ("encoder", "init"))
    gpu = torch.cuda.is_available() and options.device != "cpu"
    tiny = all(name.startswith("tiny") for name in nets.values())
    toy = options.data.partition(":")[0] == "toyworld"  # to be learned in minutes on any machine
    large = not tiny if nets else gpu and not toy
    # the recipe says which columns are read; its numbers may follow from the size that the data then have
    setting, draft = _recipe(method, options, options.size or (224 if large and not toy else 64), large)
    wanted = options.size
    if wanted is None and setting == "imagenet" and (not toy or options.recipe == setting):  # the paper's own
        wanted = _side(draft.fields.get("views", kind.views)) or 224
    elif wanted is None and setting == "cifar10" and large and not toy:
        wanted = 224
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
    give_labels(made, data, labels, options.seed)
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
            p: arguments_of(
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


def try_out(plan: Plan, device: torch.device, data: Data, changes: dict[str, Any], processes: int) -> Built:
    """`build`, before anything is written. What fails with fields that the user changed is the user's to mend: `UserError`."""
    with _blamed(plan.method, changes) as said, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers without weights, which are told below
        built = build(plan, device, data)
        views = _some_views(built) if any(name.split(".")[0] == "views" for name in changes) else {}
    if not all(bool(x.isfinite().all()) for x in views.values() if torch.is_tensor(x) and x.is_floating_point()):
        raise UserError(f"the views of {plan.method} are not finite with {said}; change that")
    if views:
        with _blamed(plan.method, changes, "cannot train"):
            _look(built, views)
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
def _blamed(method: str, changes: dict[str, Any], failed: str = "cannot be built") -> Iterator[str]:
    """What fails inside is laid to the fields that the user changed, if any; gives them in words."""
    said = " ".join(f"--{name} {value}" for name, value in sorted(_flat(changes).items()))
    if len(said) > 300:  # whole objects, from Python
        said = "other " + ", ".join(sorted(changes))
    try:
        yield said
    except UserError:
        raise
    except Exception as error:
        if not changes:
            raise
        line = next(iter(str(error).splitlines()), "")[:200]
        raise UserError(f"{method} {failed} with {said}: {type(error).__name__}: {line}") from error


def _flat(changes: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Changed fields by dots, whether they were said by dots or by dicts."""
    found: dict[str, Any] = {}
    for name, value in changes.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _some_views(built: Built) -> dict[str, Any]:
    """The views of some samples."""
    split, method = built.data.splits["train"], built.method
    few = split.take(torch.arange(min(16, len(split))), columns(method))
    device = next(method.parameters()).device
    return method.views(to_device(few, device), generator(0, device))


def _look(built: Built, views: dict[str, Any]) -> None:
    """One look of a copy of the method at views, for sizes that do not go together fail no earlier. Methods that wait for
    an epoch or a stage to begin, or fill a queue with whole batches, are left to their first step; so are several ranks,
    which go through here one after the other and would wait for each other in a loss.
    """
    method, kind = built.method, type(built.method)
    waits = kind.begin_epoch is not Method.begin_epoch or kind.begin_stage is not Method.begin_stage
    if waits or world() > 1 or getattr(method, "queue", False):
        return
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        copy.deepcopy(method)(views, Clock(0, 1, 1, turn=next(iter(method.turns))))


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
    return override(kind(**{k: _from_json_if_dict(kind, k, v) for k, v in fields.items()}), changes)  # type: ignore[no-any-return]


def _recipe(method: str, options: Options, size: int, large: bool) -> tuple[str, Recipe]:
    """The setting that suits best of those that have a recipe for the method, or the one that was asked for."""
    by_size = ("cifar10", "imagenet") if size <= 64 else ("imagenet", "cifar10")
    suited = (*by_size, "tiny") if large else ("tiny", *by_size)
    for setting in suited if options.recipe == "auto" else (options.recipe,):
        if found := recipes.find(setting, method, size):
            return setting, found
    there = ", ".join(name for name in recipes.SETTINGS if recipes.find(name, method, size))
    raise UserError(f"{method} has no recipe '{options.recipe}'; it has {there}, and --recipe auto chooses")


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
        if gpu and options.processes > (count := torch.cuda.device_count()):
            raise UserError(f"--processes {options.processes}: each has a GPU of its own, and there are {count}")
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


def _from_json_if_dict(kind: type, name: str, value: Any) -> Any:
    """A recipe's field: an object as it is, or its JSON form."""
    return from_json(kind.__annotations__[name], value) if isinstance(value, dict) else value
