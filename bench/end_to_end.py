"""From file to learned features: JPEGs to two views on one core, and the CIFAR-10 clock on two.

    python -m bench.end_to_end --clock --data cifar10/          minutes until 20-NN passes 54 %, ours and lightly's loop
    python -m bench.end_to_end --gpu-clock --data cifar10/      SimCLR, ResNet-18, 200 epochs, batch 512; resumes itself

The clock leaves evaluation out on both sides: the same tiny encoder, AdamW, batch 256 and two cores; the peer is lightly's
transform, NTXentLoss and a Lightning loop with two loader workers.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench.harness import Row, compare, installed

GOAL, LIMIT = 54.0, 1200.0


def photographs(folder: Path, count: int) -> list[Path]:
    """JPEGs of 500 x 375 pixels, cut from the two photographs that scikit-learn carries."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng, paths = np.random.default_rng(0), []
    for i in range(count):
        picture = load_sample_images().images[i % 2]
        y, x = rng.integers(0, picture.shape[0] - 375), rng.integers(0, picture.shape[1] - 500)
        buffer = io.BytesIO()
        Image.fromarray(picture[y : y + 375, x : x + 500]).save(buffer, "JPEG", quality=90)
        path = folder / f"{i}.jpg"
        path.write_bytes(buffer.getvalue())
        paths.append(path)
    return paths


def rows(device: str = "cpu", quick: bool = False) -> list[Row]:
    """JPEG files of 500 x 375 to two SimCLR views of 224 px, on one core."""
    from nolabel.core.random import generator
    from nolabel.data import Source, open_data
    from nolabel.engine.precision import keep_freed_memory
    from nolabel.views import TwoViews

    torch.set_num_threads(1)
    keep_freed_memory()
    count = 16 if quick else 64
    with tempfile.TemporaryDirectory() as place:
        paths = photographs(Path(place), count)
        source = Source(open_data(place, size=224, cache="never", workers=1).splits["train"], count)
        views, rng = TwoViews(size=224), generator(0)

        def ours() -> None:
            views(source.at(0, 0), rng)

        peers = {}
        if installed("lightly"):
            from lightly.transforms import SimCLRTransform
            from PIL import Image

            transform = SimCLRTransform(input_size=224)

            def lightly() -> None:
                torch.stack([torch.stack(transform(Image.open(path).convert("RGB"))) for path in paths])

            peers["lightly transform"] = lightly
        case = "JPEG 500x375 to two 224 px views, one core"
        return compare("end_to_end", case, ours, peers, work=2 * count, unit="views", rounds=3 if quick else 5)


def accuracy(encoder: nn.Module, data) -> float:
    """20-NN on the full bank and test set, in percent."""
    from nolabel.evaluate import KNN, EvalData
    from nolabel.views import IMAGENET_MEAN, IMAGENET_STD, plain

    return KNN()(encoder, EvalData(data.splits, lambda b: plain(b["image"], 32, IMAGENET_MEAN, IMAGENET_STD)))["top1"]


def clock_ours(folder: str) -> float:
    """Seconds of training until the goal: our views, loss and engine, the encoder's recipe."""
    from nolabel import methods, recipes
    from nolabel.core.fields import override
    from nolabel.data import Prefetcher, Source, open_data
    from nolabel.encoders import image_encoder
    from nolabel.engine import Run, Settings
    from nolabel.engine.precision import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    data = open_data(folder)
    method = override(methods.load("simclr")(), recipes.find("tiny", "simclr", 32).fields)
    method.build(data.info, image_encoder("tiny", 32))
    method.to(memory_format=torch.channels_last)
    source, settings = Source(data.splits["train"], 256), Settings(epochs=24, batch=256)
    run = Run(method, source, settings, feed=lambda seed, start: Prefetcher(source, seed, start))
    spent = 0.0
    while spent < LIMIT:
        start = time.perf_counter()
        run.train(until=run.step + 100)
        spent += time.perf_counter() - start
        if spent > 15 and accuracy(method.encoder, data) >= GOAL:
            break
    return spent


def clock_lightly(folder: str) -> float:
    """The same with lightly's transform and loss under Lightning, two loader workers."""
    import logging

    import lightning
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform
    from PIL import Image

    from nolabel import recipes
    from nolabel.data import open_data
    from nolabel.encoders import image_encoder
    from nolabel.networks.mlp import mlp

    logging.getLogger("lightning").setLevel(logging.ERROR)
    torch.set_num_threads(2)
    torch.manual_seed(0)
    data = open_data(folder)
    fields = recipes.find("tiny", "simclr", 32).fields
    images = data.splits["train"].take(torch.arange(len(data.splits["train"])))["image"].numpy()
    transform = SimCLRTransform(input_size=32, cj_strength=0.5, min_scale=0.2, gaussian_blur=0.0)
    encoder = image_encoder("tiny", 32)

    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, i: int):
            return transform(Image.fromarray(images[i]))

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential(encoder, mlp(encoder.dim, 512, 128))
            self.criterion = NTXentLoss(temperature=0.1)

        def training_step(self, batch, index):
            return self.criterion(self.model(batch[0]), self.model(batch[1]))

        def configure_optimizers(self):
            optim = torch.optim.AdamW(
                self.parameters(), lr=fields["optim"].lr, weight_decay=fields["optim"].weight_decay
            )
            steps = 24 * (len(images) // 256)
            return [optim], [
                {"scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optim, steps), "interval": "step"}
            ]

    class Clock(lightning.Callback):
        spent, since = 0.0, 0.0

        def on_train_start(self, trainer, module) -> None:
            self.since = time.perf_counter()

        def on_train_batch_end(self, trainer, module, outputs, batch, index) -> None:
            if (trainer.global_step % 100) == 0:
                self.spent += time.perf_counter() - self.since
                done = self.spent > 15 and accuracy(encoder, data) >= GOAL
                trainer.should_stop = done or self.spent > LIMIT
                self.since = time.perf_counter()

    clock = Clock()
    loader = torch.utils.data.DataLoader(
        Pictures(), 256, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )
    trainer = lightning.Trainer(
        max_epochs=24, min_epochs=0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[clock], accelerator="cpu",
    )  # fmt: skip
    trainer.fit(Module(), loader)
    return clock.spent


def clock(folder: str, rounds: int = 1) -> None:
    """Both sides in turns, each in a fresh process."""
    took: dict[str, list[float]] = {"ours": [], "lightly": []}
    for _ in range(rounds):
        for side in took:
            code = f"from bench.end_to_end import clock_{side}; print('TOOK', clock_{side}({folder!r}))"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            took[side].append(float(done.stdout.split("TOOK")[1]))
            print(side, f"{took[side][-1]:.0f} s", flush=True)
    mean = {side: float(np.median(s)) for side, s in took.items()}
    print(
        json.dumps({"case": f"CIFAR-10, tiny, until 20-NN {GOAL} %", **mean, "ratio": mean["lightly"] / mean["ours"]})
    )


def gpu_clock(folder: str, epochs: float, batch: int, encoder: str) -> None:
    """SimCLR on CIFAR-10, ResNet-18 with the small stem; goes on with itself when it was cut off."""
    import nolabel as nl

    place = Path("runs/cifar10-clock")
    if (place / "run.json").exists():
        run = nl.resume(place)
    else:
        run = nl.train("simclr", data=folder, encoder=encoder, recipe="cifar10", epochs=epochs, batch=batch, dir=place)
    print(json.dumps(run.results, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clock", action="store_true")
    parser.add_argument("--gpu-clock", action="store_true")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--epochs", type=float, default=200)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--encoder", default="resnet18")
    chosen = parser.parse_args()
    if chosen.clock:
        clock(chosen.data)
    elif chosen.gpu_clock:
        gpu_clock(chosen.data, chosen.epochs, chosen.batch, chosen.encoder)
    else:
        for row in rows():
            print(row)
