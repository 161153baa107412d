"""Every method of the folder listing, built small: the tiny recipe with narrow heads, on noise that looks like images."""

import dataclasses
import inspect
from dataclasses import dataclass

import pytest
import torch

from nolabel import methods, recipes
from nolabel.core import DataInfo, Method, Optim
from nolabel.core.fields import override
from nolabel.core.random import fold, generator, seed_all
from nolabel.encoders import image_encoder
from nolabel.engine import Run, Settings

NARROW = {"hidden": 48, "out": 32, "bottleneck": 24, "prototypes": 64, "width": 48, "depth": 1, "heads": 3}
"""what makes a head small, for whichever of these fields a method has"""
SIZE = 32


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", methods.names())


@dataclass
class Noise:
    """A source of smooth random images: uint8 (B, S, S, 3)."""

    rows: int = 64
    batch: int = 16

    def __post_init__(self):
        coarse = torch.rand(self.rows, 3, 8, 8, generator=generator(11))
        fine = torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear")
        self.image = (fine * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        self.info = DataInfo(self.rows, ("a", "b"), {"image": (SIZE, SIZE, 3)})
        self.epoch_steps = self.rows // self.batch

    def at(self, seed, step):
        epoch, k = divmod(step, self.epoch_steps)
        rows = torch.randperm(self.rows, generator=generator(fold(seed, epoch)))[k * self.batch :][: self.batch]
        return {"image": self.image[rows], "index": rows}


class Feed:
    waited = 0.0

    def __init__(self, source, seed, start):
        self.source, self.seed, self.step = source, seed, start

    def __next__(self):
        self.step += 1
        return self.source.at(self.seed, self.step - 1)

    def close(self):
        pass


class Access:
    def __init__(self, source):
        self.info, self.source = source.info, source

    def encode(self, net):
        from nolabel.views import plain

        net.eval()
        with torch.no_grad():
            x = plain(self.source.image, SIZE, (0.5,), (0.25,))
            return torch.cat([net(part) for part in x.split(32)])


def small(name: str, **changes) -> Method:
    """The method by its tiny recipe, narrowed; not yet built."""
    kind = methods.load(name)
    recipe = recipes.find("tiny", name, SIZE)
    assert recipe is not None, f"{name} has no recipe in recipes/tiny.py"
    method = override(kind(), recipe.fields)
    names = {f.name for f in dataclasses.fields(kind)}
    narrow = {k: v for k, v in NARROW.items() if k in names}
    return override(method, {**narrow, "optim": Optim("adamw", lr=1e-3, scaled=False, warmup_epochs=0), **changes})


def build(name: str, info: DataInfo, seed: int = 1, encoder: str | None = None, **changes) -> Method:
    """The small method with its networks."""
    method = small(name, **changes)
    takes = list(inspect.signature(type(method).build).parameters)[2:]
    seed_all(seed)
    nets = {t: image_encoder(encoder or ("tiny_tokens" if t == "tokens" else "tiny"), SIZE) for t in takes}
    method.build(info, **nets)
    return method.to(memory_format=torch.channels_last)


def run(name: str, folder=None, steps: int = 6, method: Method | None = None, **settings) -> Run:
    source = Noise()
    method = method or build(name, source.info)
    chosen = Settings(**{"steps": steps, "batch": source.batch, "log_every": 2, "precision": "fp32", **settings})
    return Run(method, source, chosen, feed=lambda s, start: Feed(source, s, start), data=Access(source), folder=folder)


@pytest.fixture(scope="session")
def noise():
    return Noise()
