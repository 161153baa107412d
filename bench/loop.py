"""Whole training loops: our data, views, loss and engine beside lightly's SimCLR example under Lightning.

Both train the same network by the same optimiser at the same batch from the same images in memory, on two cores; the
peer has two loader workers. Start-up and the first steps are left out.
"""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import nn

from bench.harness import Row, installed
from nolabel.core import Optim

Look = Callable[[nn.Module, int, float], bool]
"""of the encoder, the steps done and the seconds spent on them: whether to stop"""

CASES: dict[str, tuple[dict[str, Any], int, int]] = {
    # what is trained, steps between two looks, looks
    "training loop, ResNet-18 (ImageNet stem), 32 px, batch 128": (
        {"encoder": "resnet18", "stem": "imagenet", "size": 32, "batch": 128,
         "optim": Optim("sgd", lr=0.06, weight_decay=5e-4, scaled=False)}, 4, 3,
    ),
    "training loop, tiny encoder, 32 px, batch 256": (
        {"encoder": "tiny", "size": 32, "batch": 256, "optim": Optim("sgd", lr=0.06, scaled=False)}, 8, 3,
    ),
}  # fmt: skip


def ours(data: Any, look: Look, *, encoder: str, size: int, batch: int, optim: Optim, stem: str = "auto", every: int = 100,
         epochs: float = 24) -> None:  # fmt: skip
    """Train SimCLR by the engine."""
    from nolabel import methods
    from nolabel.data import Prefetcher, Source
    from nolabel.encoders import image_encoder
    from nolabel.engine import Run, Settings
    from nolabel.engine.precision import keep_freed_memory
    from nolabel.views import TwoViews

    keep_freed_memory()
    views = TwoViews(size=size, test_size=32, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0))
    method = methods.load("simclr")(hidden=512, temperature=0.1, views=views, optim=optim)
    method.build(data.info, image_encoder(encoder, 32, stem=stem))
    method.to(memory_format=torch.channels_last)
    source = Source(data.splits["train"], batch)
    run = Run(
        method, source, Settings(epochs=epochs, batch=batch), feed=lambda seed, start: Prefetcher(source, seed, start)
    )
    spent, stop = 0.0, False
    while not stop:
        start = time.perf_counter()
        run.train(until=run.step + every)
        spent += time.perf_counter() - start
        stop = look(method.encoder, run.step, spent)


def lightly(data: Any, look: Look, *, encoder: str, size: int, batch: int, optim: Optim, stem: str = "auto",
            every: int = 100, epochs: float = 24) -> None:  # fmt: skip
    """Train it by lightly's transform and loss under Lightning."""
    import lightning
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform
    from PIL import Image

    from nolabel.networks.mlp import mlp
    from nolabel.optim import optimizer

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    images = data.splits["train"].take(torch.arange(len(data.splits["train"])))["image"].numpy()
    transform = SimCLRTransform(input_size=size, cj_strength=0.5, min_scale=0.2, gaussian_blur=0.0)
    net, dim = peer_net(encoder, stem)

    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, i: int):
            return transform(Image.fromarray(images[i]))

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential(net, mlp(dim, 512, 128))
            self.criterion = NTXentLoss(temperature=0.1)

        def training_step(self, batch, index):
            return self.criterion(self.model(batch[0]), self.model(batch[1]))

        def configure_optimizers(self):
            made = optimizer(optim, self.parameters())
            steps = int(epochs * (len(images) // batch))
            cosine = torch.optim.lr_scheduler.CosineAnnealingLR(made, steps)
            return [made], [{"scheduler": cosine, "interval": "step"}]

    class Clock(lightning.Callback):
        spent, since = 0.0, 0.0

        def on_train_start(self, trainer, module) -> None:
            self.since = time.perf_counter()

        def on_train_batch_end(self, trainer, module, outputs, batch, index) -> None:
            if trainer.global_step % every == 0:
                self.spent += time.perf_counter() - self.since
                trainer.should_stop = look(net, trainer.global_step, self.spent)
                self.since = time.perf_counter()

    loader = torch.utils.data.DataLoader(
        Pictures(), batch, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )
    trainer = lightning.Trainer(
        max_epochs=-1, min_epochs=0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Clock()], accelerator="cpu",
    )  # fmt: skip
    trainer.fit(Module(), loader)


def peer_net(encoder: str, stem: str) -> tuple[nn.Module, int]:
    """torchvision's ResNet-18, as in the example, whose convolutions do what they do everywhere; our tiny one, and its D."""
    if stem == "imagenet":
        from torchvision.models import resnet18

        net = resnet18()
        net.fc = nn.Identity()
        return net, 512
    from nolabel.encoders import image_encoder

    ours = image_encoder(encoder, 32, stem=stem)
    return ours, ours.dim


def pace(side: str, case: str) -> float:
    """Views a second, median of the looks after the first."""
    from nolabel.data import open_data

    torch.set_num_threads(2)
    torch.manual_seed(0)
    settings, every, looks = CASES[case]
    spent: list[float] = []

    def look(net: nn.Module, step: int, seconds: float) -> bool:
        spent.append(seconds)
        return len(spent) > looks

    {"ours": ours, "lightly": lightly}[side](open_data("toyworld", size=32), look, every=every, **settings)
    return 2 * settings["batch"] * every / median(b - a for a, b in pairwise(spent))


def apart(side: str, call: str) -> float:
    """The number that a call gives in a fresh process."""
    code = f"from bench import loop, end_to_end; print('GIVES', {call})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side}: {done.stderr.strip().splitlines()[-1]}")
    return float(json.loads(done.stdout.rpartition("GIVES")[2]))


def rows(device: str = "cpu", quick: bool = False) -> list[Row]:
    """Both sides in turns, each in a fresh process."""
    found = []
    sides = ("ours", "lightly") if installed("lightly") and installed("lightning") else ("ours",)
    for case in CASES:
        paces: dict[str, list[float]] = {side: [] for side in sides}
        rounds = 1 if quick else 3
        for i in range(rounds):
            for side in sides if i % 2 == 0 else reversed(sides):
                paces[side].append(apart(side, f"loop.pace({side!r}, {case!r})"))
        row = {"bench": "loop", "case": case, "ours": median(paces["ours"]), "unit": "views/s", "rounds": rounds,
               "peer": None, "peer_name": "-", "ratio": None}  # fmt: skip
        if "lightly" in paces:
            ratio = median(o / p for o, p in zip(paces["ours"], paces["lightly"]))
            row |= {"peer": median(paces["lightly"]), "peer_name": "lightly's example under Lightning", "ratio": ratio}
        found.append(row)
    return found


if __name__ == "__main__":
    for row in rows():
        print(row)
