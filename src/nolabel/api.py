"""The verbs: train, resume, load, evaluate, embed, export. The command line calls these and adds nothing."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nolabel import methods
from nolabel import plan as plans
from nolabel.core import Batch, DataInfo, Method, UserError, kept_by_modality
from nolabel.core.dist import barrier, rank, share, world
from nolabel.core.fields import from_json, nearest, override, to_json
from nolabel.core.random import fold, generator, seed_all
from nolabel.data import Data, Prefetcher, as_stored, at_rest, given, open_data
from nolabel.encoders.files import (
    encoder_file,
    encoder_files,
    load_encoder,
    load_into,
    read_card,
    save_encoder,
    to_onnx,
)
from nolabel.engine import Checkpoints, Interrupted, Run
from nolabel.engine import parallel as processes
from nolabel.engine.checkpoint import disk_of, held, write_atomic
from nolabel.engine.monitor import Monitor
from nolabel.engine.observe import Bar, JsonLines, Observer, TensorBoard
from nolabel.engine.precision import keep_freed_memory
from nolabel.engine.shard import gathered, whole
from nolabel.evaluate import (
    KNN,
    Classifier,
    Classify,
    Evaluator,
    FineTune,
    Judgement,
    Linear,
    LowShot,
    OnlineKNN,
    Perplexity,
    Propagation,
    Retrieval,
    Segments,
    ZeroShot,
    extract,
    judge,
    judge_pairs,
)
from nolabel.evaluate.features import to_device
from nolabel.networks.batchnorm import first_statistics
from nolabel.networks.tower import Tower
from nolabel.plan import Built, Options, Plan

PROTOCOLS: dict[str, Callable[[], Any]] = {
    "knn": KNN, "linear": Linear, "low-shot": LowShot, "fine-tune": FineTune, "classify": Classify,
    "retrieval": Retrieval, "zero-shot": ZeroShot, "perplexity": Perplexity, "segments": Segments,
    "propagation": Propagation,
}  # fmt: skip
RAW = ("knn", "linear", "low-shot", "perplexity", "segments", "propagation")
"""protocols that also judge the raw input"""


def catalogue() -> list[methods.Entry]:
    """Every method with its family, paper and modality."""
    return [methods.describe(name) for name in methods.names()]


def train(
    method: str, data: str | Path | np.ndarray | Tensor | Mapping[str, Any] = "toyworld", **settings: Any
) -> "Trained":
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


def train_with(method: str, options: Options, changes: dict[str, Any]) -> "Trained":
    """`train` with its settings sorted into options and changed fields."""
    alone = not processes.started()
    device = processes.device_of(options.device)
    processes.join(device)
    with _first_rank_first():  # all that can be wrong is found before there is a folder
        plan, data = plans.resolve(method, options, changes, _progress(options.quiet))
        launched = alone and plan.settings.processes > 1
        ranks = plan.settings.processes if alone else world()
        built = plans.try_out(plan, torch.device("cpu") if launched else device, data, changes, ranks)
        for protocol in plan.evaluate:
            if why := obstacle(protocol, plan.data, built.method, built.kept()):
                raise UserError(f"--evaluate {protocol}: {why}")
    with _new_folder(options, plan) if rank() == 0 else nullcontext((None, None)) as (made, lock):
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
                    _tell(line)
            _note_skipped(folder, data, options.quiet)
        barrier()
        if launched:
            del built  # the processes make their own
            return _launch(folder, plan, options.quiet, lock)
        return _go(built, folder, device, options.quiet)


def resume(folder: str | Path, quiet: bool = False, data: str | Path | None = None) -> "Trained":
    """Go on with a run where its newest intact checkpoint stands; the end is bitwise that of an uninterrupted run.

    `data` says where the data of the run are now, if they were moved: as many samples, alike in classes and shapes.
    """
    folder = _run_folder(folder)
    plan = plans.read(folder / "run.json")
    launched = plan.settings.processes > 1 and not processes.started()
    device = torch.device("cpu") if launched else processes.device_of(plan.device)
    if not launched:
        processes.join(device)
    with held(folder) if rank() == 0 else nullcontext() as lock:
        if data is not None:
            with _first_rank_first():
                plan = plans.moved(plan, str(data), _progress(quiet))
                if rank() == 0:
                    plans.write(plan, folder / "run.json")
        if launched:
            return _launch(folder, plan, quiet, lock)
        with _first_rank_first(), _as_its_settings_say(folder):
            built = plans.build(plan, device, progress=_progress(quiet))
        return _go(built, folder, device, quiet, again=True)


def data_named(data: Any) -> str:
    """Data as the command line names them; arrays are kept in the cache and named by their file there."""
    return str(data if isinstance(data, str | Path) else at_rest(data))


def _launch(folder: Path, plan: Plan, quiet: bool, lock: int | None) -> "Trained":
    """Go on with the run in processes of their own, which find everything in its folder."""
    argv = ["resume", str(folder), *(["--quiet"] if quiet else []), "--no-table"]
    code = processes.launch("nolabel.cli", argv, plan.settings.processes, lock)
    if code:
        raise Stopped(folder, code if code > 0 else 128 - code)
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
    def encoders(self) -> dict[str, nn.Module]:
        """What the run kept, by modality, in evaluation mode: inputs as `views.plain` makes them -> features (B, D)."""
        paths = encoder_files(self.folder)
        if not paths:
            raise UserError(f"{self.folder} holds no encoder; finish the run with 'nolabel resume {self.folder}'")
        if all("name" in read_card(path) for path in paths):
            return {read_card(path).get("modality", "image"): load_encoder(path) for path in paths}
        if self.plan.info is None:
            raise UserError(f"{self.folder} does not say what its method was told about the data; train it again")
        method = plans.build_method(self.plan, self.plan.info)
        kept = kept_by_modality(method, self.plan.inputs)
        for path in paths:
            load_into(kept[read_card(path)["modality"]], path)
        return {modality: net.eval() for modality, net in kept.items()}

    @property
    def encoder(self) -> nn.Module:
        """The kept encoder, the first where there are several: for images normalised (B, C, S, S) -> features (B, D)."""
        return next(iter(self.encoders.values()))

    def _modality(self, modality: str | None) -> str:
        """One of the modalities that have an encoder; the first by default."""
        if modality is not None and modality not in self.encoders:
            raise UserError(f"{self.folder} has no encoder of '{modality}'{nearest(modality, self.encoders)}")
        return modality or next(iter(self.encoders))

    @property
    def results(self) -> list[dict[str, Any]]:
        """The rows of `results.json`."""
        path = self.folder / "results.json"
        if not path.exists():
            return []
        try:
            rows = json.loads(path.read_text())
            if not all({"protocol", "metric", "data", "value", "random_init", "raw_input"} <= set(row) for row in rows):
                raise ValueError("its rows are incomplete")
        except (OSError, ValueError, TypeError) as error:
            aside = path.with_name("results.json.damaged")
            with suppress(OSError):
                path.replace(aside)
            _tell(f"{path} is damaged ({error}); it is now {aside.name}, and a new one is begun")
            return []
        return rows  # type: ignore[no-any-return]

    @cached_property
    def built(self) -> Built:
        """Data, method and fresh encoder of the plan."""
        with _as_its_settings_say(self.folder):
            return plans.build(self.plan, torch.device("cpu"))

    @cached_property
    def _fields(self) -> Method:
        """The method without its networks, and so without its data."""
        with _as_its_settings_say(self.folder):
            return from_json(methods.load(self.plan.method), self.plan.fields)  # type: ignore[no-any-return]

    @property
    def _views(self) -> Any:
        return self._fields.views

    def _transform(self, modality: str) -> Callable[[Batch], Tensor]:
        """From a stored batch to what the encoder of a modality takes: the plain view."""
        return lambda batch: self._views.plain(batch)[modality]

    @property
    def _info(self) -> DataInfo:
        """What the method was told about the data."""
        return self.plan.info or self.built.data.info

    @cached_property
    def method(self) -> Method:
        """The method as its newest checkpoint left it, in evaluation mode."""
        found = Checkpoints(self.folder / "checkpoints").load(_tell)
        if found is None:
            raise UserError(f"{self.folder} holds no checkpoint of {self.plan.method}")
        method = plans.build_method(self.plan, self._info)
        method.load_state_dict(found["method"])
        return method.eval()

    def embed(
        self,
        data: str | Path | np.ndarray | Tensor | Mapping[str, Any] | None = None,
        split: str = "train",
        modality: str | None = None,
    ) -> np.ndarray:
        """Features (N, D) float32 of stored samples, or of a split of a data set; default: the run's own.

        Stored samples are an array of the column that the run reads first, such as images uint8 (N, H, W, C), or a dict
        of columns; their forms are those of `core.Batch`. `modality` chooses among several encoders.
        """
        modality = self._modality(modality)
        if data is not None and not isinstance(data, str | Path):
            return self._embed_stored(data, modality)
        source = self._open(data)
        if split not in source.splits:
            raise UserError(f"{source.name} has no split '{split}'{nearest(split, source.splits)}")
        found = self._features(source.splits[split], modality).x.numpy()
        self._tell_skipped(source)
        return found

    def _embed_stored(self, data: Any, modality: str) -> np.ndarray:
        """Features of stored samples. Raises `UserError` for what is not in their form."""
        reads = self._views.reads
        found = dict(data) if isinstance(data, Mapping) else {reads[0]: data}
        if unknown := next((name for name in found if name not in reads), None):
            raise UserError(f"the run reads no '{unknown}'{nearest(str(unknown), reads)}")
        try:
            stored = {name: as_stored(name, x) for name, x in found.items()}
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"the data are no array of samples: {' '.join(str(error).split())[:120]}") from error
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in stored.items())
        if {len(x) for x in stored.values()} & {0} or len({len(x) for x in stored.values()}) != 1:
            raise UserError(f"there must be samples, equally many of each: {shapes or 'no array was given'}")
        net, transform = self.encoders[modality], self._transform(modality)
        device = next((p.device for p in net.parameters()), torch.device("cpu"))
        try:
            with torch.no_grad():
                parts = zip(*(x.split(256) for x in stored.values()))
                made = [net(transform(to_device(dict(zip(stored, part)), device))).float().cpu() for part in parts]
        except (RuntimeError, ValueError, KeyError, IndexError) as error:
            seen = f"{' x '.join(map(str, self.plan.inputs.get(modality, ())))} of {modality}"
            raise UserError(f"the encoder sees {seen}, which cannot be made of {shapes}: {_line(error)}") from error
        return torch.cat(made).numpy()

    def _tell_skipped(self, data: Data) -> None:
        """Name the files that could not be read, but those that training has named."""
        for line in skipped(data, _known_skipped(self.folder)):
            _tell(line)

    def export(self, path: str | Path, modality: str | None = None) -> list[Path]:
        """Write the encoder: `.safetensors` (with a JSON card), `.pt` (timm's state dict) or `.onnx` by its ending.

        Of several encoders each goes to a file of its own, NAME-MODALITY, unless `modality` chooses one.
        """
        path = Path(path)
        if path.suffix not in (".onnx", ".safetensors", ".pt", ".pth"):
            raise UserError(f"cannot export to '{path.suffix or path}': end the name in .safetensors, .pt or .onnx")
        chosen = [self._modality(modality)] if modality else list(self.encoders)
        _writable(path.parent)
        written = []
        for name in chosen:
            target = path.with_stem(f"{path.stem}-{name}") if len(chosen) > 1 else path
            if path.suffix == ".onnx":
                to_onnx(self.encoders[name], target, name, self.plan.inputs[name])
            else:
                save_encoder(self.encoders[name], target, card=read_card(encoder_file(self.folder, name)))
            written.append(target)
        return written

    def judge(
        self, data: str | None = None, protocols: Sequence[str | Evaluator] = ("knn", "linear")
    ) -> list[dict[str, Any]]:
        """Run protocols, by name or with settings of their own, on what was kept.

        Replaces rows of the same protocol and data in `results.json`.
        """
        for name in protocols:
            if isinstance(name, str) and name not in PROTOCOLS:
                raise UserError(f"unknown protocol '{name}'{nearest(name, PROTOCOLS)}")
        chosen = [PROTOCOLS[p]() if isinstance(p, str) else p for p in protocols]
        place = plans.located(data or self.plan.data)
        for p in chosen:
            if why := obstacle(p.name, place, self._fields, self.encoders):
                raise UserError(f"{p.name}: {why}")
        _writable(self.folder)
        own = [p for p in chosen if isinstance(p, Classify)]
        pairs = [p for p in chosen if isinstance(p, Retrieval | ZeroShot)]
        dense = [p for p in chosen if hasattr(p, "needs")]
        plain = [p for p in chosen if p not in own and p not in pairs and p not in dense]
        found: list[Judgement] = []
        if plain or not (pairs or dense):
            found += self._judge_each(plain, own, self._open(data))
        for p in dense:
            found += self._judge_each([p], [], self._open(data, p.needs), geometry=None)
        if pairs:
            found.append(self._judge_pairs(pairs, data))
        where = place if os.path.isabs(place) else None
        rows = [{**row, "place": where} for judgement in found for row in judgement.rows]
        for note in dict.fromkeys(note for judgement in found for note in judgement.notes):
            _tell(note)
        new = {row_key(r) for r in rows}
        unplaced = {row_key({**r, "place": None}) for r in rows}  # rows of before there were places
        kept = [r for r in self.results if row_key(r) not in (new if "place" in r else unplaced)]
        write_json(self.folder / "results.json", kept + rows)
        return rows

    def _how(self) -> dict[str, Any]:
        """Seed, device and precision of an evaluation."""
        settings = self.plan.settings
        device = processes.device_of(self.plan.device)
        return {"seed": settings.seed, "device": device, "precision": settings.precision}

    def _judge_each(
        self, protocols: list[Any], own: list[Any], source: Data, **options: Any
    ) -> list[Judgement]:  # fmt: skip
        """Each encoder by some protocols, and the classifier of the method by its `own`."""
        how, views = self._how(), self._views
        raw = [p.name for p in protocols if p.name in RAW]
        found = []
        for modality, net in self.encoders.items():
            fresh, transform = partial(self._untrained, modality), self._transform(modality)
            stored = source.info.shapes.get(modality, (0,))[0] / source.rates.get(modality, 1.0)
            share = min(1.0, views.seconds / stored) if modality == "audio" and hasattr(views, "seconds") else 1.0
            net = net.to(how["device"])
            found.append(judge(
                protocols, net, fresh, source, transform, raw=raw, modality=modality, share=share, **how, **options
            ))  # fmt: skip
        for protocol in own:
            modality = next(iter(self.plan.inputs))
            fresh, transform = partial(self._untrained, modality), self._transform(modality)
            net = Classifier(self.method.to(how["device"]))
            found.append(judge([protocol], net, fresh, source, transform, geometry=None, modality=modality, **how))
        return found

    def _judge_pairs(self, protocols: list[Any], data: str | None) -> Judgement:
        """All encoders against each other."""
        how, reads = self._how(), self._views.reads
        try:
            source = self._open(data)
        except UserError:  # pictures without texts can still be told apart by prompts
            if "text" not in reads or not all(isinstance(p, ZeroShot) for p in protocols):
                raise
            form = replace(self.plan.form, side=None)
            source = open_data(
                plans.located(data or self.plan.data), [name for name in reads if name != "text"], **form.given()
            )
        nets = {modality: net.to(how["device"]) for modality, net in self.encoders.items()}
        transforms = {modality: self._transform(modality) for modality in nets}
        words = self._info.shapes.get("text", (0,))[0]
        tokenizer = source.tokenizer or self.built.data.tokenizer
        return judge_pairs(
            protocols, nets, self._untrained, source, transforms, tokenizer=tokenizer, words=words, **how
        )

    def suited(self) -> tuple[str, ...]:
        """The protocols beyond the usual ones that what was kept, and the data, allow."""
        nets, data = self.encoders, self.plan.data

        def able(name: str) -> bool:
            return obstacle(name, data, self._fields, nets) is None

        names = ["classify"] if able("classify") else []
        if able("retrieval") and all(isinstance(net, Tower) for net in nets.values()):
            names += ["retrieval", *(["zero-shot"] if able("zero-shot") and self._info.classes else [])]
        names += ["perplexity"] if able("perplexity") else []
        names += ["segments"] if able("segments") and ("points" in nets or ":speech" in data) else []
        names += ["propagation"] if able("propagation") else []
        return tuple(names)

    def _untrained(self, modality: str) -> nn.Module:
        """What the run keeps for a modality, at its random initialisation."""
        if "name" in read_card(encoder_file(self.folder, modality)):
            fresh = self.plan.fresh(modality)
            if (pool := getattr(self.encoders[modality], "pool", None)) is not None:  # a method may have chosen it
                fresh.pool = pool
            return fresh
        return kept_by_modality(plans.build_method(self.plan, self._info), self.plan.inputs)[modality]

    def report(self) -> Path:
        """Write `report.html`, one page that needs nothing else."""
        from nolabel.report import sample_pictures, write_report

        data, rng = self.built.data, generator(0)
        split = data.splits.get("test", data.splits["train"])
        rows = torch.randperm(len(split), generator=rng)[:2000].sort().values
        taken = split.take(rows)
        modality = self._modality(None)
        features = self._features(split, modality, rows=taken["index"])
        labels = taken["label"].numpy() if "label" in taken else None
        reads = self.built.method.views.reads
        return write_report(
            self.folder,
            images=sample_pictures(taken, reads, data),
            features=features.x.numpy(),
            labels=labels,
            classes=data.info.classes,
            galleries=self._galleries({name: taken[name][:8] for name in reads}),
            notes=[*data.notes, *skipped(data)],
        )

    def _galleries(self, few: Batch) -> list[Any]:
        """What the method has to show on a few samples, from its newest checkpoint; what token encoders look at."""
        from nolabel.report import Gallery, shown_pictures, still, token_pictures

        galleries = []
        method, found = self.built.method, Checkpoints(self.folder / "checkpoints").load(_tell)
        if found is not None:
            method.load_state_dict(found["method"])
            method.eval()
            few = {**few, "index": torch.arange(len(next(iter(few.values()))))}
            with torch.no_grad():
                seed_all(1)
                shown = method.show(method.views(few, generator(1)), plans.clock_at_end(found))
            rows = [(name, shown_pictures(x, method.views, self.built.data)) for name, x in shown.items()]
            if rows:
                galleries.append(Gallery("What the method makes", "One column a sample, as its views see it.", rows))
        for modality, net in self.encoders.items():
            x = method.views.plain(few)[modality]
            galleries += token_pictures(net, x, shown_pictures(still(x), method.views, self.built.data))
        return galleries

    def _open(self, data: str | Path | None, more: Sequence[str] = ()) -> Data:
        place = self.plan.data if data is None else plans.located(str(data))
        if place == self.plan.data and not more:
            return self.built.data
        if place == self.plan.data:
            reads = (*self._views.reads, *more)
            return open_data(self.plan.data, reads, cache=self.plan.cache, **self.plan.form.given())
        # kept at the size that suits the other data, and cut, resampled and tokenised like the run's own
        form = replace(self.plan.form, side=None)
        return open_data(place, (*self._views.reads, *more), **form.given())

    def _features(self, split: Any, modality: str, rows: Tensor | None = None) -> Any:
        device = processes.device_of(self.plan.device)
        transform, precision = self._transform(modality), self.plan.settings.precision
        return extract(self.encoders[modality].to(device), split, transform, device, precision, rows=rows)


def obstacle(protocol: str, data: str, method: Method, nets: Mapping[str, nn.Module]) -> str | None:
    """Why a protocol cannot judge what a method keeps on some data; None where it can."""
    if protocol in ("retrieval", "zero-shot") and len(nets) < 2:
        return "it compares modalities, and this run keeps one encoder"
    if protocol == "zero-shot" and "text" not in nets:
        return "it asks in words, and this run keeps no encoder of text"
    if protocol == "perplexity" and not any(getattr(net, "causal", False) for net in nets.values()):
        return "it needs an encoder of text that predicts each word from those before"
    if protocol == "classify" and type(method).predict is Method.predict:
        return f"it needs a classifier, and {methods.name_of(method)} trains none"
    if protocol == "propagation" and not ("video" in method.views.reads and hasattr(nets.get("image"), "maps")):
        return "it needs an encoder of images with maps that is trained on video"
    if protocol == "segments" and not (hasattr(nets.get("points"), "points") or "audio" in nets):
        return "it needs an encoder with features of single points or moments of sound"
    if protocol in ("propagation", "segments") and not data.startswith("toyworld"):
        return "it needs segmentations, which only the toy world has"
    return None


def row_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row of `results.json` measures; rows without a modality are of images."""
    return row.get("modality", "image"), row["protocol"], row["data"], row.get("place"), row["metric"]


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


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename."""
    text = json.dumps(value, indent=1)
    write_atomic(path, lambda file: file.write(text.encode()))


def skipped(data: Data, known: Iterable[str] = ()) -> list[str]:
    """One line about every split with files that could not be read, beyond those `known` by a line of `skipped.txt`."""
    lines, known = [], set(known)
    for split in data.splits.values():
        if new := [(name, why) for name, why in split.skipped if f"{name}\t{why}" not in known]:
            names = "; ".join(f"{name} ({why})" for name, why in new[:5])
            more = f"; and {len(new) - 5} more" if len(new) > 5 else ""
            lines.append(f"skipped {len(new)} unreadable files of {split.name}: {names}{more}")
    return lines


def _known_skipped(folder: Path) -> list[str]:
    """The lines of `skipped.txt`."""
    path = folder / "skipped.txt"
    return path.read_text().splitlines() if path.exists() else []


def _note_skipped(folder: Path, data: Data, quiet: bool) -> None:
    """Tell which files could not be read, and list them in `skipped.txt`, each once."""
    known = _known_skipped(folder)
    every = list(
        dict.fromkeys([*known, *(f"{name}\t{why}" for split in data.splits.values() for name, why in split.skipped)])
    )
    if len(every) > len(known):
        for line in [] if quiet else skipped(data, known):
            _tell(line)
        write_atomic(folder / "skipped.txt", lambda file: file.write("".join(f"{x}\n" for x in every).encode()))


def _go(built: Built, folder: Path, device: torch.device, quiet: bool, again: bool = False) -> Trained:
    """Train to the end on all ranks; then rank 0 judges, exports and reports."""
    keep_freed_memory()
    processes.spread()
    plan, settings, first = built.plan, built.plan.settings, rank() == 0
    if settings.batch % (world() * settings.accumulate):
        raise UserError(
            f"--batch {settings.batch} does not divide into {world()} processes x {settings.accumulate} parts"
        )
    source = built.source(settings.batch // settings.accumulate)

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
            _note_skipped(folder, built.data, quiet)
    except KeyboardInterrupt:
        raise Unjudged(folder) from None
    return trained


def _observers(built: Built, folder: Path, device: torch.device, quiet: bool) -> list[Observer]:
    split = built.data.splits["train"]
    settings = built.plan.settings
    rows = torch.randperm(len(split), generator=generator(fold(settings.seed, 9)))[:256].sort().values
    inputs = built.method.views.plain(split.take(rows, built.method.views.reads))
    transform = built.transform(next(iter(built.kept())))
    labels = split.classes and "label" in split.columns
    knn = OnlineKNN(split, transform, device, settings.precision) if labels else None
    looks = (len(knn.bank_rows) + len(knn.query_rows)) / len(rows) if knn else 0.0
    monitor = Monitor(inputs, knn=knn, knn_looks=looks, tell=_tell)
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


@contextmanager
def _new_folder(options: Options, plan: Plan) -> Iterator[tuple[Path, int | None]]:
    """A folder for the run that holds none yet, and what `held` gives for it."""
    folder = options.dir
    if folder is None:
        stem = f"{plan.method}-{Path(plan.data.rstrip('/')).stem.replace(':', '-')}"
        folder = next(
            p for i in range(1, 10**6) if not (p := Path("runs") / (stem if i == 1 else f"{stem}-{i}")).exists()
        )
    _writable(folder, "another --dir")
    with held(folder) as lock:
        if _has_begun(folder):
            other = plans.read(folder / "run.json").method
            what = "a run" if other == plan.method else f"a run of {other}"
            raise UserError(
                f"{folder} holds {what} already: 'nolabel resume {folder}' goes on with it, or choose another --dir"
            )
        yield folder, lock


def _has_begun(folder: Path) -> bool:
    """Whether a folder holds a run with something to lose: a logged step, a checkpoint or an encoder."""
    log = folder / "metrics.jsonl"
    kept = Checkpoints(folder / "checkpoints").found() or encoder_files(folder) or (log.exists() and log.stat().st_size)
    return (folder / "run.json").exists() and bool(kept)


def _writable(folder: Path, other: str = "another place") -> None:
    """Make sure that a folder is there and takes files. Raises `UserError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose {other}") from error


def _run_folder(folder: str | Path) -> Path:
    if not isinstance(folder, str | Path):
        raise UserError(f"{folder!r:.60} is no folder of a run; name one, e.g. 'runs/simclr-toyworld'")
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
        raise UserError(f"{folder / 'run.json'} cannot be built: {type(error).__name__}: {_line(error)}") from error


def _line(error: Exception) -> str:
    """The first line of an error."""
    return next(iter(str(error).splitlines()), "")[:200]


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


def embed_to(
    folder: str | Path, out: Path, data: str | None = None, split: str = "train", modality: str | None = None
) -> str:
    """Write features to `.npy` or `.parquet` (columns index, name, label, feature); returns what was written.

    Several encoders give several columns, feature_MODALITY; `.npy` holds the features of one.
    """
    run = load(folder)
    if out.suffix not in (".npy", ".parquet"):
        raise UserError(f"cannot write features to '{out.suffix or out}': end the name in .parquet or .npy")
    source = run._open(data)
    if split not in source.splits:
        raise UserError(f"{source.name} has no split '{split}'{nearest(split, source.splits)}")
    chosen = source.splits[split]
    modalities = [run._modality(modality)] if modality or out.suffix == ".npy" else list(run.encoders)
    _writable(out.parent)
    found = {name: run._features(chosen, name) for name in modalities}
    run._tell_skipped(source)
    first = next(iter(found.values()))
    if out.suffix == ".npy":
        write_atomic(out, lambda file: np.save(file, first.x.numpy(), allow_pickle=False))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = range(len(first)) if first.rows is None else first.rows.tolist()
        columns: dict[str, Any] = {"index": pa.array(rows)}
        if chosen.names is not None:
            columns["name"] = pa.array([chosen.name_of(i) for i in rows])
        if first.y is not None:
            columns["label"] = pa.array(first.y.numpy())
        for name, features in found.items():
            title = "feature" if len(found) == 1 else f"feature_{name}"
            columns[title] = pa.FixedSizeListArray.from_arrays(
                pa.array(features.x.numpy().reshape(-1)), features.x.shape[1]
            )
        table = pa.table(columns)
        write_atomic(out, lambda file: pq.write_table(table, file))
    sizes = ", ".join(f"{len(f):,} x {f.x.shape[1]}" for f in found.values())
    return f"{out}: {sizes} features of {source.name} {split}"
