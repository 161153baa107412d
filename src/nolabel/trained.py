"""A run that was trained: its encoders, its judgement, its features, its files, its page."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
from nolabel.core.errors import nearest
from nolabel.core.fields import from_json
from nolabel.core.random import generator, seed_all
from nolabel.data import Data, as_stored, open_data
from nolabel.encoders.files import (
    encoder_file,
    encoder_files,
    load_encoder,
    load_into,
    read_card,
    save_encoder,
    to_onnx,
)
from nolabel.engine import Checkpoints
from nolabel.engine import parallel as processes
from nolabel.engine.checkpoint import write_atomic
from nolabel.evaluate import (
    KNN,
    Classifier,
    Classify,
    Evaluator,
    FineTune,
    Judgement,
    Linear,
    LowShot,
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
from nolabel.networks.tower import Tower
from nolabel.plan import Built, Plan
from nolabel.runs import as_its_settings_say, known_skipped, line_of, skipped, tell, writable, write_json

PROTOCOLS: dict[str, Callable[[], Any]] = {
    "knn": KNN, "linear": Linear, "low-shot": LowShot, "fine-tune": FineTune, "classify": Classify,
    "retrieval": Retrieval, "zero-shot": ZeroShot, "perplexity": Perplexity, "segments": Segments,
    "propagation": Propagation,
}  # fmt: skip
RAW = ("knn", "linear", "low-shot", "perplexity", "segments", "propagation")
"""protocols that also judge the raw input"""


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
            tell(f"{path} is damaged ({error}); it is now {aside.name}, and a new one is begun")
            return []
        return rows  # type: ignore[no-any-return]

    @cached_property
    def built(self) -> Built:
        """Data, method and fresh encoder of the plan."""
        with as_its_settings_say(self.folder):
            return plans.build(self.plan, torch.device("cpu"))

    @cached_property
    def _fields(self) -> Method:
        """The method without its networks, and so without its data."""
        with as_its_settings_say(self.folder):
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
        found = Checkpoints(self.folder / "checkpoints").load(tell)
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
            raise UserError(f"the encoder sees {seen}, which cannot be made of {shapes}: {line_of(error)}") from error
        return torch.cat(made).numpy()

    def _tell_skipped(self, data: Data) -> None:
        """Name the files that could not be read, but those that training has named."""
        for line in skipped(data, known_skipped(self.folder)):
            tell(line)

    def embed_to(
        self, out: str | Path, data: str | None = None, split: str = "train", modality: str | None = None
    ) -> str:
        """Write features to `.npy` or `.parquet` (columns index, name, label, feature); returns what was written.

        Several encoders give several columns, feature_MODALITY; `.npy` holds the features of one.
        """
        out = Path(out)
        if out.suffix not in (".npy", ".parquet"):
            raise UserError(f"cannot write features to '{out.suffix or out}': end the name in .parquet or .npy")
        source = self._open(data)
        if split not in source.splits:
            raise UserError(f"{source.name} has no split '{split}'{nearest(split, source.splits)}")
        chosen = source.splits[split]
        modalities = [self._modality(modality)] if modality or out.suffix == ".npy" else list(self.encoders)
        writable(out.parent)
        found = {name: self._features(chosen, name) for name in modalities}
        self._tell_skipped(source)
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

    def export(self, path: str | Path, modality: str | None = None) -> list[Path]:
        """Write the encoder: `.safetensors` (with a JSON card), `.pt` (timm's state dict) or `.onnx` by its ending.

        Of several encoders each goes to a file of its own, NAME-MODALITY, unless `modality` chooses one.
        """
        path = Path(path)
        if path.suffix not in (".onnx", ".safetensors", ".pt", ".pth"):
            raise UserError(f"cannot export to '{path.suffix or path}': end the name in .safetensors, .pt or .onnx")
        chosen = [self._modality(modality)] if modality else list(self.encoders)
        writable(path.parent)
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
        writable(self.folder)
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
            tell(note)
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

    def report(self, data: str | None = None) -> Path:
        """Write `report.html`, one page that needs nothing else; its pictures are of `data`, by default the run's own."""
        from nolabel.report import sample_pictures, write_report

        seen, rng = self._open(data), generator(0)
        split = seen.splits.get("test", seen.splits["train"])
        rows = torch.randperm(len(split), generator=rng)[:2000].sort().values
        taken = split.take(rows)
        modality = self._modality(None)
        features = self._features(split, modality, rows=taken["index"])
        labels = taken["label"].numpy() if "label" in taken else None
        reads = self._views.reads
        return write_report(
            self.folder,
            images=sample_pictures(taken, reads, seen),
            features=features.x.numpy(),
            labels=labels,
            classes=seen.info.classes,
            galleries=self._galleries({name: taken[name][:8] for name in reads}, seen),
            notes=[*seen.notes, *skipped(seen)],
        )

    def _galleries(self, few: Batch, data: Data) -> list[Any]:
        """What the method has to show on a few samples, from its newest checkpoint; what token encoders look at."""
        from nolabel.report import Gallery, shown_pictures, still, token_pictures

        galleries = []
        found = Checkpoints(self.folder / "checkpoints").load(tell)
        if found is not None:
            method = plans.build_method(self.plan, self._info)
            method.load_state_dict(found["method"])
            method.eval()
            few = {**few, "index": torch.arange(len(next(iter(few.values()))))}
            with torch.no_grad():
                seed_all(1)
                shown = method.show(method.views(few, generator(1)), plans.clock_at_end(found))
            rows = [(name, shown_pictures(x, method.views, data)) for name, x in shown.items()]
            if rows:
                galleries.append(Gallery("What the method makes", "One column a sample, as its views see it.", rows))
        for modality, net in self.encoders.items():
            x = self._views.plain(few)[modality]
            galleries += token_pictures(net, x, shown_pictures(still(x), self._views, data))
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
