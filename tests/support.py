"""What the suites share: small random data of every modality, and every method built small by its tiny recipe."""

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nolabel import encoders, methods, recipes
from nolabel.core import DataInfo, Method, Optim, labelled_rows
from nolabel.core.fields import override
from nolabel.core.random import fold, generator, seed_all
from nolabel.engine import Run, Settings
from nolabel.engine.precision import attention_for, channels_last

NARROW = {
    "codes": 40,
    "slices": 16,
    "queue": 64,
    "hidden": 48,
    "out": 32,
    "bottleneck": 24,
    "prototypes": 64,
    "clusters": 12,
    "codewords": 40,
    "width": 48,
    "depth": 1,
    "heads": 3,
}
"""what makes a head small, for whichever of these fields a method has"""
SIZE = 32
VOCABULARY = 60


@dataclass
class Noise:
    """A source of smooth random samples of the columns asked for, in the form in which they are stored."""

    rows: int = 64
    batch: int = 16
    reads: tuple[str, ...] = ("image",)
    labelled: float = 0.0

    def __post_init__(self):
        rng = generator(11)
        smooth = torch.nn.functional.interpolate
        coarse = torch.rand(self.rows, 3, 8, 8, generator=rng)
        image = smooth(coarse, SIZE, mode="bilinear")
        stored = {"image": (image * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()}
        if "video" in self.reads:
            coarse = torch.rand(self.rows, 3, 4, 4, 4, generator=rng)
            video = smooth(coarse, (16, SIZE, SIZE), mode="trilinear")
            stored["video"] = (video * 255).to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()
        if "audio" in self.reads:
            coarse = torch.rand(self.rows, 1, 2000, generator=rng) - 0.5
            audio = smooth(coarse, 8000, mode="linear")
            stored["audio"] = (audio[:, 0] * 30000).to(torch.int16)
        if "points" in self.reads:
            stored["points"] = torch.randn(self.rows, 256, 3, generator=rng).clamp(-2, 2) / 2
        if "text" in self.reads:
            stored["text"] = torch.randint(5, VOCABULARY, (self.rows, 24), generator=rng)
        if "depth" in self.reads:
            stored["depth"] = smooth(torch.rand(self.rows, 1, 4, 4, generator=rng), SIZE, mode="bilinear")[:, 0]
        if "segmentation" in self.reads:
            coarse = torch.randint(-1, 12, (self.rows, 1, 8, 8), generator=rng).float()
            stored["segmentation"] = smooth(coarse, SIZE, mode="nearest")[:, 0].long()
        stored["label"] = torch.randint(0, 2, (self.rows,), generator=rng)
        self.stored = {k: v for k, v in stored.items() if k in self.reads or (k == "label" and self.labelled)}
        shapes = {k: tuple(v.shape[1:]) for k, v in stored.items() if k != "label"}
        rates = {"video": 16.0, "audio": 8000.0}
        self.info = DataInfo(self.rows, ("a", "b"), shapes, {k: v for k, v in rates.items() if k in shapes}, VOCABULARY)
        self.epoch_steps = self.rows // self.batch

    @classmethod
    def of(cls, method: Method, **settings) -> "Noise":
        """What a method reads."""
        return cls(reads=tuple(method.views.reads), labelled=method.labelled, **settings)

    def at(self, seed, step):
        epoch, k = divmod(step, self.epoch_steps)
        rows = torch.randperm(self.rows, generator=generator(fold(seed, epoch)))[k * self.batch :][: self.batch]
        batch = {name: x[rows] for name, x in self.stored.items()}
        if "label" in batch:
            known = torch.arange(len(rows)) < labelled_rows(self.labelled, len(rows))
            batch["label"] = torch.where(known, batch["label"], -1)
        return {**batch, "index": rows}


class Feed:
    """Batches in order, made when asked for."""

    waited = 0.0

    def __init__(self, source, seed, start):
        self.source, self.seed, self.step = source, seed, start

    def __next__(self):
        self.step += 1
        return self.source.at(self.seed, self.step - 1)

    def close(self):
        pass


class Access:
    """What the hooks of a method may ask of the data."""

    def __init__(self, source, plain):
        self.info, self.source, self.plain = source.info, source, plain

    @property
    def labels(self):
        """A third of the samples have a label."""
        truth = self.source.stored.get("label", torch.full((self.info.size,), -1))
        return torch.where(torch.arange(self.info.size) % 3 == 0, truth, -1)

    def some(self, count):
        yield {name: x[:count] for name, x in self.source.stored.items() if name != "label"}

    def encode(self, net, modality=None):
        was = net.training
        net.eval()
        with torch.no_grad():
            plain = self.plain(self.source.stored)
            x = plain[modality or next(iter(plain))]
            features = torch.cat([net(part) for part in x.split(32)])
        net.train(was)
        return features


def small(name: str, **changes) -> Method:
    """The method by its tiny recipe, narrowed; not yet built."""
    kind = methods.load(name)
    recipe = recipes.find("tiny", name, SIZE)
    assert recipe is not None, f"{name} has no recipe in recipes/tiny/"
    method = override(kind(), recipe.fields)
    if getattr(method.views, "locals", None) == 0:  # the small recipe does without: no reason not to prove them
        method = override(method, {"views": {"locals": 2}})
    names = {f.name for f in dataclasses.fields(kind)}
    # as the paper has it: with centres, which checkpoints and ranks must share; Sinkhorn-Knopp has no state
    method = override(method, {k: getattr(kind(), k) for k in ("sinkhorn", "shared_head") if k in names})
    narrow = {k: v for k, v in NARROW.items() if k in names}
    return override(method, {**narrow, "optim": Optim("adamw", lr=1e-3, scaled=False, warmup_epochs=0), **changes})


def mask_makers(name: str) -> dict[str, Callable]:
    """What the file of a method imports from `views.masks` to draw masks for each sample of a batch."""
    module = inspect.getmodule(methods.load(name).forward)
    made = {k: f for k, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == "nolabel.views.masks"}
    return {k: f for k, f in made.items() if "batch" in inspect.signature(f).parameters}


def takes(method: Method) -> list[str]:
    """The names of the encoders that a method asks for."""
    return list(inspect.signature(type(method).build).parameters)[2:]


def nets(method: Method, noise: Noise, encoder: str | None = None) -> dict:
    """The encoders of the tiny recipe for what the method's views make of the noise; `encoder` stands in for images."""
    chosen = recipes.find("tiny", methods.name_of(method), SIZE).encoder
    shapes = {k: tuple(v.shape[1:]) for k, v in method.views.plain(noise.at(0, 0)).items()}
    made = {}
    for parameter in takes(method):
        name = chosen if isinstance(chosen, str) else chosen[parameter]
        shape = shapes[parameter] if parameter in shapes else next(iter(shapes.values()))
        if encoder and name in ("tiny", "tiny_tokens", "tiny_hybrid"):
            name = encoder
        made[parameter] = encoders.make(name, shape, vocabulary=noise.info.vocabulary)
    return made


def build(name: str, seed: int = 1, encoder: str | None = None, **changes) -> Method:
    """The small method with its networks."""
    method = small(name, **changes)
    noise = Noise.of(method)
    seed_all(seed)
    made = nets(method, noise, encoder)
    method.build(noise.info, **made)
    return attention_for(channels_last(method), torch.device("cpu"))


def run(name: str, folder=None, steps: int = 6, method: Method | None = None, **settings) -> Run:
    """A run of the engine over noise."""
    method = method or build(name)
    source = Noise.of(method)
    chosen = Settings(**{"steps": steps, "batch": source.batch, "log_every": 2, "precision": "fp32", **settings})
    data = Access(source, method.views.plain)
    return Run(method, source, chosen, feed=lambda s, start: Feed(source, s, start), data=data, folder=folder)
