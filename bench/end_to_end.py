"""From file to learned features: JPEGs to two views on one core, and the CIFAR-10 clock on two.

    python -m bench.end_to_end --clock --data cifar10/          minutes until 20-NN passes 54 %, ours and lightly's loop
    python -m bench.end_to_end --gpu-clock --data cifar10/      SimCLR, ResNet-18, 200 epochs, batch 512; resumes itself

The clock leaves evaluation out on both sides: the same tiny encoder, optimiser, batch 256 and two cores; the peer is lightly's
transform, NTXentLoss and a Lightning loop with two loader workers.
"""

import argparse
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench import loop
from bench.harness import Row, compare, installed, keep

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


def seconds_until_goal(side: str, folder: str) -> float:
    """Seconds of training until 20-NN passes the goal, or the limit; both sides by the optimiser and at the views' size
    of the tiny recipe.
    """
    from nolabel import recipes
    from nolabel.data import open_data

    torch.set_num_threads(2)
    torch.manual_seed(0)
    data, spent = open_data(folder), [0.0]
    fields = recipes.find("tiny", "simclr", 32).fields

    def look(net: nn.Module, step: int, seconds: float) -> bool:
        spent[0] = seconds
        return seconds > LIMIT or (seconds > 15 and accuracy(net, data) >= GOAL)

    train = {"ours": loop.ours, "lightly": loop.lightly}[side]
    train(data, look, encoder="tiny", size=fields["views"].size, batch=256, optim=fields["optim"])
    return spent[0]


def clock(folder: str, rounds: int = 1) -> None:
    """Both sides in turns, each in a fresh process."""
    took: dict[str, list[float]] = {"ours": [], "lightly": []}
    for _ in range(rounds):
        for side in took:
            took[side].append(loop.apart(side, f"end_to_end.seconds_until_goal({side!r}, {folder!r})"))
            print(side, f"{took[side][-1]:.0f} s", flush=True)
    ours, peer = (float(np.median(took[side])) for side in took)
    row = {"bench": "clock", "case": f"CIFAR-10, tiny, two cores: until 20-NN passes {GOAL:g} %", "ours": ours,
           "peer": peer, "peer_name": "lightly's example under Lightning", "ratio": peer / ours, "unit": "s",
           "rounds": rounds}  # fmt: skip
    print(json.dumps(row))
    keep([row])


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
