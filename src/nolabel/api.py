"""The verbs: train, resume, load, evaluate, embed, export. The command line calls these and adds nothing."""

import dataclasses
import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nolabel import methods
from nolabel import plan as plans
from nolabel.access import Access
from nolabel.core import UserError
from nolabel.core.dist import barrier, rank, share, world
from nolabel.core.errors import nearest
from nolabel.core.fields import override, to_json
from nolabel.core.folders import run_folder
from nolabel.core.random import fold, generator
from nolabel.data import Data, Prefetcher, at_rest
from nolabel.encoders.files import save_encoder
from nolabel.engine import Interrupted, OutOfMemory, Run
from nolabel.engine import parallel as processes
from nolabel.engine.checkpoint import disk_of, held
from nolabel.engine.monitor import Monitor
from nolabel.engine.observe import Bar, JsonLines, Observer, TensorBoard
from nolabel.engine.precision import keep_freed_memory
from nolabel.engine.shard import gathered
from nolabel.evaluate import OnlineKNN
from nolabel.options import Options
from nolabel.plan import Built, Plan
from nolabel.resolve import resolve, try_out
from nolabel.runs import as_its_settings_say, begun_before, new_folder, note_skipped, tell
from nolabel.trained import Trained, obstacle


def catalogue() -> list[methods.Entry]:
    """Every method with its family, paper and modality."""
    return [methods.describe(name) for name in methods.names()]


def train(
    method: str, data: str | Path | np.ndarray | Tensor | Mapping[str, Any] = "toyworld", **settings: Any
) -> Trained:
    """Train a method on unlabelled data, judge it, write its run folder, and return the run.

    `data` is what the command line takes, or an array such as images uint8 (N, H, W, C), or arrays by name:
    `{"image": x, "label": y, "test_image": ..., "test_label": ...}`. Arrays are kept in the cache for `resume`.
    `settings` are the fields of `Options` (encoder, size, epochs, minutes, batch, seed, dir, ...) and those of the
    method, nested ones as dicts or with dots: `train("simclr", temperature=0.2, views={"strength": 0.5})`; several
    encoders are a dict, too: `train("avid", "clips/", encoder={"video": "tiny_video", "audio": "tiny_mel"})`.
    Raises `UserError` with one line that says what to mend, and `engine.Interrupted` after a signal.
    """
    names = {f.name for f in dataclasses.fields(Options)}
    kind = methods.load(method)
    fields = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in settings:
        if name.split(".")[0] not in names | fields:
            raise UserError(f"'{name}' is neither an option nor a field of {method}{nearest(name, names | fields)}")
    chosen = {k: v for k, v in settings.items() if k in names}
    for name in ("encoder", "init"):
        if isinstance(each := chosen.get(name), dict):
            chosen[name] = ",".join(f"{k}={v}" for k, v in each.items())
    for path in ("dir", "init"):
        if isinstance(chosen.get(path), str):
            chosen[path] = Path(chosen[path])
    if isinstance(chosen.get("labels"), int | Path):
        chosen["labels"] = str(chosen["labels"])
    options = override(Options(data=data_named(data)), chosen)
    return train_with(method, options, {k: v for k, v in settings.items() if k not in names})


def train_with(method: str, options: Options, changes: dict[str, Any]) -> Trained:
    """`train` with its settings sorted into options and changed fields."""
    alone = not processes.started()
    device = processes.device_of(options.device)
    processes.join(device)
    with _first_rank_first():  # all that can be wrong is found before there is a folder
        plan, data = resolve(method, options, changes, _progress(options.quiet))
        launched = alone and plan.settings.processes > 1
        ranks = plan.settings.processes if alone else world()
        built = try_out(plan, torch.device("cpu") if launched else device, data, changes, ranks)
        for protocol in plan.evaluate:
            if why := obstacle(protocol, plan.data, built.method, built.kept()):
                raise UserError(f"--evaluate {protocol}: {why}")
    if processes.restarted() and (begun := share(str((rank() == 0 and begun_before(options, plan)) or ""))):
        return resume(begun, options.quiet)
    with _by_first_rank(lambda: new_folder(options, plan)) as held_here:
        made, lock = held_here or (None, None)
        folder = Path(share(str(made)))
        if rank() == 0:
            # of a start that failed, whose folder this may be
            for name in ("tokenizer.json", "skipped.txt"):
                (folder / name).unlink(missing_ok=True)
            plans.write(plan, folder / "run.json")
            if data.tokenizer is not None:
                data.tokenizer.save(folder / "tokenizer.json")
            if not options.quiet:
                for line in [_headline(plan, data, folder), *data.notes]:
                    tell(line)
            note_skipped(folder, data, options.quiet)
        barrier()
        if launched:
            del built  # the processes make their own
            return _launch(folder, plan, options.quiet, lock)
        return _go(built, folder, device, options.quiet, shrink=options.batch is None and ranks == 1)


def resume(folder: str | Path, quiet: bool = False, data: str | Path | None = None) -> Trained:
    """Go on with a run where its newest intact checkpoint stands; the end is bitwise that of an uninterrupted run.

    `data` says where the data of the run are now, if they were moved: as many samples, alike in classes and shapes.
    """
    folder = run_folder(folder)
    plan = plans.read(folder / "run.json")
    launched = plan.settings.processes > 1 and not processes.started()
    device = torch.device("cpu") if launched else processes.device_of(plan.device)
    if not launched:
        processes.join(device)
    with _by_first_rank(lambda: held(folder)) as lock:
        if data is not None:
            with _first_rank_first():
                plan = plans.moved(plan, str(data), _progress(quiet))
                if rank() == 0:
                    plans.write(plan, folder / "run.json")
        if launched:
            return _launch(folder, plan, quiet, lock)
        with _first_rank_first(), as_its_settings_say(folder):
            built = plans.build(plan, device, progress=_progress(quiet))
        return _go(built, folder, device, quiet, again=True)


def data_named(data: Any) -> str:
    """Data as the command line names them; arrays are kept in the cache and named by their file there."""
    return str(data if isinstance(data, str | Path) else at_rest(data))


def _launch(folder: Path, plan: Plan, quiet: bool, lock: int | None) -> Trained:
    """Go on with the run in processes of their own, which find everything in its folder."""
    argv = ["resume", str(folder), *(["--quiet"] if quiet else []), "--no-table"]
    code = processes.launch("nolabel.cli", argv, plan.settings.processes, lock)
    if code:
        raise Stopped(folder, code if code > 0 else 128 - code)
    return Trained(folder, plan)


def load(folder: str | Path) -> Trained:
    """The run in a folder: its plan, its kept encoder, its results."""
    folder = run_folder(folder)
    return Trained(folder, plans.read(folder / "run.json"))


def _go(
    built: Built, folder: Path, device: torch.device, quiet: bool, again: bool = False, shrink: bool = False
) -> Trained:
    """Train to the end on all ranks; then rank 0 judges, exports and reports.

    `shrink`: a batch of which not even the first step fits into memory is halved, until one fits.
    """
    keep_freed_memory()
    processes.spread()
    while True:
        try:
            run = _trained(built, folder, device, quiet, again)
            break
        except OutOfMemory as error:
            settings = built.plan.settings
            if not shrink or error.steps or settings.batch < 4 * settings.accumulate:
                raise
        plan = replace(built.plan, settings=replace(settings, batch=settings.batch // 2))
        tell(f"a batch of {settings.batch} does not fit into the memory of the device; trying {plan.settings.batch}")
        plans.write(plan, folder / "run.json")
        built.method.to("meta")  # others still hold it
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        built = plans.build(plan, device, built.data)
    plan, first = built.plan, rank() == 0
    weights = gathered(run.method.state_dict()) if run.sharded else None
    processes.stop()
    trained = Trained(folder, plan)
    if not first:
        return trained
    if device.type == "cpu":  # the cores of the other ranks are free now
        torch.set_num_threads(max(torch.get_num_threads(), processes.cores()))
    if weights is not None:
        built = plans.build(plan, device, built.data)
        built.method.load_state_dict(weights)
    trained.built = built
    trained.encoders = {modality: net.eval() for modality, net in built.kept().items()}
    trained.method = built.method.eval()
    try:
        with disk_of(folder):
            for modality, net in trained.encoders.items():
                name = f"encoder-{modality}.safetensors" if len(trained.encoders) > 1 else "encoder.safetensors"
                save_encoder(net, folder / name, card=_card(plan, built, modality, net))
            if plan.evaluate:
                more = [name for name in trained.suited() if name not in plan.evaluate]
                trained.judge(None, (*plan.evaluate, *more))
            if plan.report:
                trained.report()
            note_skipped(folder, built.data, quiet)
    except KeyboardInterrupt:
        raise Unjudged(folder) from None
    return trained


def _trained(built: Built, folder: Path, device: torch.device, quiet: bool, again: bool) -> Run:
    """Train to the end on all ranks."""
    settings = built.plan.settings
    if settings.batch % (world() * settings.accumulate):
        raise UserError(
            f"--batch {settings.batch} does not divide into {world()} processes x {settings.accumulate} parts"
        )
    source = built.source(settings.batch // settings.accumulate)

    def feed(seed: int, start: int) -> Prefetcher:
        def to_device(batch: dict[str, Any], step: int) -> dict[str, Any]:
            if device.type == "cpu":
                return batch
            return {k: v.pin_memory().to(device, non_blocking=True) for k, v in batch.items()}

        return Prefetcher(source, seed, start, then=to_device)

    run = Run(
        built.method, source, settings, feed=feed, data=Access(built, device), device=device, folder=folder, tell=tell,
        observers=_observers(built, folder, device, quiet) if rank() == 0 else [],
    )  # fmt: skip
    if again:
        run.resume()
    if settings.compile:
        for net in built.method.children():
            net.compile()
    run.train()
    return run


def _observers(built: Built, folder: Path, device: torch.device, quiet: bool) -> list[Observer]:
    split = built.data.splits["train"]
    settings = built.plan.settings
    rows = torch.randperm(len(split), generator=generator(fold(settings.seed, 9)))[:256].sort().values
    inputs = built.method.views.plain(split.take(rows, built.method.views.reads))
    transform = built.transform(next(iter(built.kept())))
    labels = split.classes and "label" in split.columns
    knn = OnlineKNN(split, transform, device, settings.precision) if labels else None
    looks = (len(knn.bank_rows) + len(knn.query_rows)) / len(rows) if knn else 0.0
    monitor = Monitor(inputs, knn=knn, knn_looks=looks, tell=tell)
    return [monitor, JsonLines(folder / "metrics.jsonl"), TensorBoard(folder / "tensorboard"), Bar(quiet)]


def _card(plan: Plan, built: Built, modality: str, net: nn.Module) -> dict[str, Any]:
    """What someone needs to use the encoder without us; `name` stands there if `encoders.make` builds it alone."""
    views = built.method.views
    shell = plan.shell(modality) if plan.encoders else None
    own = type(shell) is type(net) and _outline(shell) == _outline(net)
    arguments = plan.encoders[plan.parameter(modality)] if own else {}
    return {
        **{k: v for k, v in arguments.items() if k not in ("init", "pretrained")},
        "modality": modality,
        "shape": list(plan.inputs[modality]),
        "dim": getattr(net, "dim", None),
        "mean": to_json(getattr(views, "mean", ())),
        "std": to_json(getattr(views, "std", ())),
        "method": plan.method,
        "data": plan.title,
    }


def _outline(net: nn.Module) -> dict[str, Any]:
    return {name: tensor.shape for name, tensor in net.state_dict().items()}


def _headline(plan: Plan, data: Data, folder: Path) -> str:
    s = plan.settings
    length = f"{s.minutes:g} minutes" if s.minutes else f"{s.epochs:g} epochs" if s.epochs else f"{s.steps} steps"
    return (
        f"{plan.method} on {data.name} ({len(data.splits['train']):,} samples, {_seen(plan)}), encoder "
        f"{plan.encoder}, batch {s.batch}, {length}, recipe {plan.recipe} -> {folder}"
    )


def _seen(plan: Plan) -> str:
    """What the encoders see, e.g. "32 px" or "video 3 x 8 x 32 x 32, audio 1 x 64 x 96"."""
    if list(plan.inputs) == ["image"]:
        return f"{plan.form.size} px"
    return ", ".join(f"{modality} {' x '.join(map(str, shape))}" for modality, shape in plan.inputs.items())


class Unjudged(Interrupted):
    """Ctrl-C came after the training, while its encoder was written, judged or shown."""

    def __init__(self, folder: Path) -> None:
        super().__init__(130, None)
        self.folder = folder

    def __str__(self) -> str:
        return f"stopped after the training, which is complete: 'nolabel resume {self.folder}' judges and reports it"


class Stopped(Exception):
    """A process of the run failed or was stopped, and has said why on the terminal; `code` is its exit code."""

    told = True
    """the command adds nothing"""

    def __init__(self, folder: Path, code: int) -> None:
        super().__init__(
            f"the processes of {folder} ended with code {code}; nolabel.resume('{folder}') goes on with it"
        )
        self.code = code


def _progress(quiet: bool) -> Callable[[str, float], None]:
    """Shows how far decoding is, on one line of a terminal."""
    if quiet or not sys.stderr.isatty():
        return lambda what, done: None
    return lambda what, done: print(
        f"\r{what} {100 * done:3.0f} %" + ("\n" if done >= 1 else ""), end="", file=sys.stderr
    )


@contextmanager
def _first_rank_first() -> Iterator[None]:
    """Rank 0 goes through the block before the others: it decodes, they find the cache. What the user must mend is the
    same for all: then the others do not go through it.
    """
    if rank() != 0:
        with _same_for_all():
            pass
        yield
    else:
        with _same_for_all():
            yield


@contextmanager
def _same_for_all() -> Iterator[None]:
    """What rank 0 goes through, and the others wait for: they raise its `UserError`, too."""
    failed: UserError | None = None
    try:
        yield
    except UserError as error:
        failed = error
    if said := share(str(failed) if failed else None):
        raise failed or UserError(said)


@contextmanager
def _by_first_rank(enter: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """A context that rank 0 alone enters; gives None to the others."""
    with ExitStack() as stack:
        got = None
        with _same_for_all():
            if rank() == 0:
                got = stack.enter_context(enter())
        yield got
