"""The verbs: train, resume, load, evaluate, embed, export. The command line calls these and adds nothing."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nolabel import methods
from nolabel import plan as plans
from nolabel.core import UserError
from nolabel.core.dist import barrier, rank, share, world
from nolabel.core.fields import nearest, override
from nolabel.core.random import fold, generator, seed_all
from nolabel.data import Data, Prefetcher, Source, open_data
from nolabel.encoders.files import load_encoder, save_encoder, to_onnx
from nolabel.engine import Checkpoints, Run
from nolabel.engine import parallel as processes
from nolabel.engine.checkpoint import disk_of, write_atomic
from nolabel.engine.monitor import Monitor
from nolabel.engine.observe import Bar, JsonLines, Observer, TensorBoard
from nolabel.engine.precision import keep_freed_memory
from nolabel.engine.shard import gathered, whole
from nolabel.evaluate import KNN, Evaluator, FineTune, Linear, LowShot, OnlineKNN, extract, judge
from nolabel.plan import Built, Options, Plan

PROTOCOLS: dict[str, Callable[[], Evaluator]] = {
    "knn": KNN, "linear": Linear, "low-shot": LowShot, "fine-tune": FineTune
}  # fmt: skip


def catalogue() -> list[methods.Entry]:
    """Every method with its family, paper and modality."""
    return [methods.describe(name) for name in methods.names()]


def train(method: str, data: str | Path = "toyworld", **settings: Any) -> "Trained":
    """Train a method on unlabelled data, judge it, write its run folder, and return the run.

    `settings` are the fields of `Options` (encoder, size, epochs, minutes, batch, seed, dir, ...) and those of the
    method, nested ones as dicts or with dots: `train("simclr", temperature=0.2, views={"strength": 0.5})`.
    Raises `UserError` with one line that says what to mend, and `engine.Interrupted` after a signal.
    """
    names = {f.name for f in dataclasses.fields(Options)}
    kind = methods.load(method)
    fields = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in settings:
        if name.split(".")[0] not in names | fields:
            raise UserError(f"'{name}' is neither an option nor a field of {method}{nearest(name, names | fields)}")
    chosen = {k: v for k, v in settings.items() if k in names}
    for path in ("dir", "init"):
        if isinstance(chosen.get(path), str):
            chosen[path] = Path(chosen[path])
    options = override(Options(data=str(data)), chosen)
    return train_with(method, options, {k: v for k, v in settings.items() if k not in names})


def train_with(method: str, options: Options, changes: dict[str, Any]) -> "Trained":
    """`train` with its settings sorted into options and changed fields."""
    alone = not processes.started()
    device = processes.device_of(options.device)
    processes.join(device)
    with _first_rank_first():
        plan, data = plans.resolve(method, options, changes, _progress(options.quiet))
    folder = Path(share(str(_new_folder(options, plan)) if rank() == 0 else ""))
    if rank() == 0:
        plans.write(plan, folder / "run.json")
        if every := [f"{name}\t{why}\n" for split in data.splits.values() for name, why in split.skipped]:
            write_atomic(folder / "skipped.txt", lambda file: file.write("".join(every).encode()))
        if not options.quiet:
            _tell(_headline(plan, data, folder))
            for line in [*data.notes, *skipped(data)]:
                _tell(line)
    barrier()
    if alone and plan.settings.processes > 1:
        return _launch(folder, plan, options.quiet)
    return _go(plans.build(plan, device, data), folder, device, options.quiet)


def resume(folder: str | Path, quiet: bool = False) -> "Trained":
    """Go on with a run where its newest intact checkpoint stands; the end is bitwise that of an uninterrupted run."""
    folder = _run_folder(folder)
    plan = plans.read(folder / "run.json")
    if plan.settings.processes > 1 and not processes.started():
        return _launch(folder, plan, quiet)
    device = processes.device_of(plan.device)
    processes.join(device)
    with _first_rank_first(), _as_its_settings_say(folder):
        built = plans.build(plan, device, progress=_progress(quiet))
    return _go(built, folder, device, quiet, again=True)


def _launch(folder: Path, plan: Plan, quiet: bool) -> "Trained":
    """Go on with the run in processes of their own, which find everything in its folder."""
    argv = ["-m", "nolabel.cli", "resume", str(folder), *(["--quiet"] if quiet else [])]
    code = processes.launch([*argv, "--no-table"], plan.settings.processes)
    if code:
        raise Stopped(code if code > 0 else 128 - code)
    return Trained(folder, plan)


def load(folder: str | Path) -> "Trained":
    """The run in a folder: its plan, its kept encoder, its results."""
    folder = _run_folder(folder)
    return Trained(folder, plans.read(folder / "run.json"))


@dataclass
class Trained:
    """A run that was trained: what it kept and how it was judged."""

    folder: Path
    plan: Plan

    @cached_property
    def encoder(self) -> nn.Module:
        """The kept encoder, in evaluation mode: normalised images (B, C, S, S) -> features (B, D)."""
        return load_encoder(self.folder / "encoder.safetensors")

    @property
    def results(self) -> list[dict[str, Any]]:
        """The rows of `results.json`."""
        path = self.folder / "results.json"
        return json.loads(path.read_text()) if path.exists() else []  # type: ignore[no-any-return]

    @cached_property
    def built(self) -> Built:
        """Data, method and fresh encoder of the plan."""
        with _as_its_settings_say(self.folder):
            return plans.build(self.plan, torch.device("cpu"))

    def embed(self, data: str | Path | np.ndarray | Tensor | None = None, split: str = "train") -> np.ndarray:
        """Features (N, D) float32 of images (N, H, W, C) uint8, or of a split of a data set; default: the run's own."""
        if isinstance(data, np.ndarray | Tensor):
            images = torch.as_tensor(data)
            if images.ndim != 4 or images.dtype != torch.uint8:
                raise UserError(f"images must be uint8 (N, H, W, C), these are {images.dtype} {tuple(images.shape)}")
            with torch.no_grad():
                parts = [self.encoder(self.built.transform({"image": x})).float() for x in images.split(256)]
            return torch.cat(parts).numpy()
        source = self._open(data)
        if split not in source.splits:
            raise UserError(f"{source.name} has no split '{split}'{nearest(split, source.splits)}")
        return self._features(source.splits[split]).x.numpy()

    def export(self, path: str | Path) -> Path:
        """Write the encoder: `.safetensors` (with a JSON card), `.pt` (timm's state dict) or `.onnx` by its ending."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        match path.suffix:
            case ".onnx":
                to_onnx(self.encoder, path)
            case ".safetensors" | ".pt" | ".pth":
                save_encoder(self.encoder, path, card=json.loads((self.folder / "encoder.json").read_text()))
            case other:
                raise UserError(f"cannot export to '{other or path}': end the name in .safetensors, .pt or .onnx")
        return path

    def judge(
        self, data: str | None = None, protocols: Sequence[str | Evaluator] = ("knn", "linear")
    ) -> list[dict[str, Any]]:
        """Run protocols, by name or with settings of their own, on the kept encoder.

        Replaces rows of the same protocol and data in `results.json`.
        """
        for name in protocols:
            if isinstance(name, str) and name not in PROTOCOLS:
                raise UserError(f"unknown protocol '{name}'{nearest(name, PROTOCOLS)}")
        chosen = [PROTOCOLS[p]() if isinstance(p, str) else p for p in protocols]
        source = self._open(data)
        device = processes.device_of(self.plan.device)
        rows, notes = judge(
            chosen,
            self.encoder.to(device),
            self.built.fresh_encoder,
            source,
            self.built.transform,
            seed=self.plan.settings.seed,
            device=device,
            precision=self.plan.settings.precision,
            raw=[p.name for p in chosen if p.name in ("knn", "linear", "low-shot")],
        )
        for note in notes:
            _tell(note)
        new = {(r["protocol"], r["data"], r["metric"]) for r in rows}
        kept = [r for r in self.results if (r["protocol"], r["data"], r["metric"]) not in new]
        write_json(self.folder / "results.json", kept + rows)
        return rows

    def report(self) -> Path:
        """Write `report.html`, one page that needs nothing else."""
        from nolabel.report import write_report

        data, rng = self.built.data, generator(0)
        split = data.splits.get("test", data.splits["train"])
        rows = torch.randperm(len(split), generator=rng)[:2000].sort().values
        taken = split.take(rows)
        with torch.no_grad():
            parts = [{"image": x} for x in taken["image"].split(256)]
            features = torch.cat([self.encoder(self.built.transform(part)).float() for part in parts])
        labels = taken["label"].numpy() if "label" in taken else None
        return write_report(
            self.folder,
            images=taken["image"].numpy(),
            features=features.numpy(),
            labels=labels,
            classes=data.info.classes,
            galleries=self._galleries(taken["image"][:8]),
            notes=[*data.notes, *skipped(data)],
        )

    def _galleries(self, images: Tensor) -> list[Any]:
        """What the method has to show on a few images, from its newest checkpoint; what a token encoder looks at."""
        from nolabel.report import Gallery, token_pictures
        from nolabel.views import to_uint8

        galleries = []
        method, found = self.built.method, Checkpoints(self.folder / "checkpoints").load(_tell)
        if found is not None:
            method.load_state_dict(found["method"])
            method.eval()
            with torch.no_grad():
                seed_all(1)
                shown = method.show(method.views({"image": images}, generator(1)), plans.clock_at_end(found))
            mean, std = getattr(method.views, "mean", (0.5,)), getattr(method.views, "std", (0.25,))
            rows = [(name, list(to_uint8(x, mean, std).numpy())) for name, x in shown.items()]
            if rows:
                galleries.append(Gallery("What the method makes", "One column an image, as its views see it.", rows))
        return galleries + token_pictures(self.encoder, images, self.built.transform)

    def _open(self, data: str | Path | None) -> Data:
        if data is None or str(data) == self.plan.data:
            return self.built.data
        return open_data(str(data), size=self.plan.size, channels=self.plan.encoder["channels"])

    def _features(self, split: Any) -> Any:
        device = processes.device_of(self.plan.device)
        return extract(self.encoder.to(device), split, self.built.transform, device, self.plan.settings.precision)


class Access:
    """What the hooks of a method may ask of the data: `info`, and features of every training sample."""

    def __init__(self, built: Built, device: torch.device) -> None:
        self.info, self.built, self.device = built.data.info, built, device

    def encode(self, net: nn.Module) -> Tensor:
        """Features (N, D) of all training samples in plain views, in evaluation mode, on the device."""
        split = self.built.data.splits["train"]
        precision = self.built.plan.settings.precision
        with whole(self.built.method):
            return extract(net, split, self.built.transform, self.device, precision).x.to(self.device)


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename."""
    text = json.dumps(value, indent=1)
    write_atomic(path, lambda file: file.write(text.encode()))


def skipped(data: Data) -> list[str]:
    """One line about every split with files that could not be read."""
    lines = []
    for split in data.splits.values():
        if split.skipped:
            names = "; ".join(f"{name} ({why})" for name, why in split.skipped[:5])
            more = f"; and {len(split.skipped) - 5} more" if len(split.skipped) > 5 else ""
            lines.append(f"skipped {len(split.skipped)} unreadable files of {split.name}: {names}{more}")
    return lines


def _go(built: Built, folder: Path, device: torch.device, quiet: bool, again: bool = False) -> Trained:
    """Train to the end on all ranks; then rank 0 judges, exports and reports."""
    keep_freed_memory()
    plan, settings, first = built.plan, built.plan.settings, rank() == 0
    if settings.batch % (world() * settings.accumulate):
        raise UserError(
            f"--batch {settings.batch} does not divide into {world()} processes x {settings.accumulate} parts"
        )
    source = Source(built.data.splits["train"], settings.batch // settings.accumulate)

    def feed(seed: int, start: int) -> Prefetcher:
        def to_device(batch: dict[str, Any], step: int) -> dict[str, Any]:
            if device.type != "cuda":
                return batch
            return {k: v.pin_memory().to(device, non_blocking=True) for k, v in batch.items()}

        return Prefetcher(source, seed, start, then=to_device)

    run = Run(
        built.method, source, settings, feed=feed, data=Access(built, device), device=device, folder=folder, tell=_tell,
        observers=_observers(built, folder, device, quiet) if first else [],
    )  # fmt: skip
    if again:
        run.resume()
    if settings.compile:
        for net in built.method.children():
            net.compile()
    run.train()
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
    with disk_of(folder):
        save_encoder(built.method.kept(), folder / "encoder.safetensors", card=_card(plan, built))
        trained.encoder = built.method.kept().eval()
        if plan.evaluate:
            trained.judge(None, plan.evaluate)
        if plan.report:
            trained.report()
    return trained


def _observers(built: Built, folder: Path, device: torch.device, quiet: bool) -> list[Observer]:
    split = built.data.splits["train"]
    settings = built.plan.settings
    rows = torch.randperm(len(split), generator=generator(fold(settings.seed, 9)))[:256].sort().values
    knn = OnlineKNN(split, built.transform, device, settings.precision) if split.classes else None
    monitor = Monitor(built.transform(split.take(rows)), knn=knn, tell=_tell)
    return [monitor, JsonLines(folder / "metrics.jsonl"), TensorBoard(folder / "tensorboard"), Bar(quiet)]


def _card(plan: Plan, built: Built) -> dict[str, Any]:
    """What someone needs to use the encoder without us."""
    views = built.method.views
    return {
        **{k: v for k, v in plan.encoder.items() if k not in ("init", "pretrained")},
        "dim": built.method.kept().dim,
        "mean": list(getattr(views, "mean", ())),
        "std": list(getattr(views, "std", ())),
        "method": plan.method,
        "data": plan.data,
    }


def _new_folder(options: Options, plan: Plan) -> Path:
    """A folder for the run that holds none yet."""
    if options.dir is not None:
        folder = options.dir
        if (folder / "run.json").exists():
            other = plans.read(folder / "run.json").method
            what = "a run" if other == plan.method else f"a run of {other}"
            raise UserError(
                f"{folder} holds {what} already: 'nolabel resume {folder}' goes on with it, or choose another --dir"
            )
    else:
        stem = f"{plan.method}-{Path(plan.data.rstrip('/')).stem.replace(':', '-')}"
        folder = next(
            p for i in range(1, 10**6) if not (p := Path("runs") / (stem if i == 1 else f"{stem}-{i}")).exists()
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another --dir") from error
    return folder


def _run_folder(folder: str | Path) -> Path:
    folder = Path(folder)
    if not (folder / "run.json").exists():
        runs = [p.parent.name for p in folder.parent.glob("*/run.json")]
        raise UserError(f"{folder} holds no run (no run.json){nearest(folder.name, runs)}")
    return folder


@contextmanager
def _as_its_settings_say(folder: Path) -> Iterator[None]:
    """A run.json that was changed by hand can ask for the impossible in any way: that is the user's to mend."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if processes.started():  # the settings are those that `train` has just resolved
            raise
        line = next(iter(str(error).splitlines()), "")[:200]
        raise UserError(f"{folder / 'run.json'} cannot be built: {type(error).__name__}: {line}") from error


def _headline(plan: Plan, data: Data, folder: Path) -> str:
    s = plan.settings
    length = f"{s.minutes:g} minutes" if s.minutes else f"{s.epochs:g} epochs" if s.epochs else f"{s.steps} steps"
    return (
        f"{plan.method} on {data.name} ({len(data.splits['train']):,} samples, {plan.size} px), encoder "
        f"{plan.encoder['name']}, batch {s.batch}, {length}, recipe {plan.recipe} -> {folder}"
    )


class Stopped(Exception):
    """A process of the run failed and has said why; `code` is its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__("")
        self.code = code


def _tell(line: str) -> None:
    if rank() == 0:
        print(line, file=sys.stderr, flush=True)


def _progress(quiet: bool) -> Callable[[str, float], None]:
    """Shows how far decoding is, on one line of a terminal."""
    if quiet or not sys.stderr.isatty():
        return lambda what, done: None
    return lambda what, done: print(
        f"\r{what} {100 * done:3.0f} %" + ("\n" if done >= 1 else ""), end="", file=sys.stderr
    )


@contextmanager
def _first_rank_first() -> Iterator[None]:
    """Rank 0 goes through the block before the others: it decodes, they find the cache."""
    if rank() != 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


def embed_to(folder: str | Path, out: Path, data: str | None = None, split: str = "train") -> str:
    """Write features to `.npy` or `.parquet` (columns index, name, label, feature); returns what was written."""
    run = load(folder)
    if out.suffix not in (".npy", ".parquet"):
        raise UserError(f"cannot write features to '{out.suffix or out}': end the name in .parquet or .npy")
    source = run._open(data)
    if split not in source.splits:
        raise UserError(f"{source.name} has no split '{split}'{nearest(split, source.splits)}")
    chosen = source.splits[split]
    found = run._features(chosen)
    out.parent.mkdir(parents=True, exist_ok=True)
    x = found.x.numpy()
    if out.suffix == ".npy":
        write_atomic(out, lambda file: np.save(file, x, allow_pickle=False))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = range(len(x)) if found.rows is None else found.rows.tolist()
        columns: dict[str, Any] = {"index": pa.array(rows)}
        if chosen.names is not None:
            columns["name"] = pa.array([chosen.name_of(i) for i in rows])
        if found.y is not None:
            columns["label"] = pa.array(found.y.numpy())
        columns["feature"] = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])
        table = pa.table(columns)
        write_atomic(out, lambda file: pq.write_table(table, file))
    return f"{out}: {x.shape[0]:,} x {x.shape[1]} features of {source.name} {split}"
