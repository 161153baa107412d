"""`python -m docs.gallery`: draw docs/toyworld.png and write docs/toyworld.md, what every kind of the toy world looks like."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from nolabel.data.toyworld import captions, corpus, factors, images, shapes, speech, video
from nolabel.views.audio import LogMel

HERE = Path(__file__).parent
COLUMNS, SIDE = 8, 64
RATE = 8000
TAB = np.array(plt.get_cmap("tab20").colors)


def coloured(labels: NDArray) -> NDArray:
    """Numbers as colours, 0 as black."""
    return np.where((labels > 0)[..., None], TAB[labels.astype(np.int64) % 20], 0.0)


def arrows(flow: NDArray) -> NDArray:
    """Flow as colour: direction is hue, speed is saturation."""
    speed = np.hypot(flow[..., 0], flow[..., 1])
    hue = (np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi)) % 1.0
    return matplotlib.colors.hsv_to_rgb(np.stack((hue, np.clip(speed / 4, 0, 1), np.ones_like(hue)), -1))


def spectrogram(wave: NDArray) -> NDArray:
    """Log-mel of one sound, low tones below."""
    views = LogMel(rate=RATE, seconds=len(wave) / RATE)
    return views.plain({"audio": torch.from_numpy(wave)[None]})["audio"][0, 0].numpy()[::-1]


def rows() -> list[tuple[str, list[Any]]]:
    """What each row of the picture shows: its name and its cells, pictures or clouds."""
    some = np.arange(COLUMNS)
    found: list[tuple[str, list[Any]]] = []
    for profile in ("easy", "upright", "busy", "textured", "std", "hard"):
        made = images.render(some, SIDE, profile)
        found.append((f"images, {profile}", list(made["image"])))
    found.append(("masks, hard", list(coloured(np.where(made["mask"] == 255, 9, made["mask"])))))
    for name in ("shape", "material", "nuisance"):
        again = [images.render([3], SIDE, "std", resample=(name,), draw=d)["image"][0] for d in range(COLUMNS)]
        found.append((f"one scene,\n{name} drawn again", again))
    clip = video.render([5], 2 * COLUMNS, SIDE, "std", extras=("depth", "flow", "keypoints", "audio"))
    for name, shown in (("video", clip["video"][0]), ("its instances", coloured(clip["mask"][0])),
                        ("depth", clip["depth"][0])):  # fmt: skip
        found.append((name, list(shown[::2])))
    found.append(("flow", list(arrows(clip["flow"][0])[::2])))
    heard = video.render(some, 16, 32, "std", extras=("audio",))["audio"]
    found.append(("sound of impacts", [spectrogram(x) for x in heard]))
    found.append(("speech", [spectrogram(x) for x in speech.render(some, 1.0, RATE)["audio"]]))
    things = shapes.render(some, 512)
    found.append(("clouds and parts", list(zip(things["points"], things["part"]))))
    return found


def picture() -> plt.Figure:
    """All rows, one under the other."""
    made = rows()
    figure = plt.figure(figsize=(1.25 * COLUMNS + 1.5, 1.27 * len(made)), dpi=80)
    for y, (name, cells) in enumerate(made):
        for x, cell in enumerate(cells[:COLUMNS]):
            place = len(made), COLUMNS, y * COLUMNS + x + 1
            if isinstance(cell, tuple):
                axes = figure.add_subplot(*place, projection="3d")
                axes.scatter(*cell[0].T, c=TAB[cell[1] % 20], s=1.5)
                axes.set_box_aspect((1, 1, 1), zoom=1.5)
                axes.set_axis_off()
            else:
                axes = figure.add_subplot(*place)
                axes.imshow(cell, aspect="auto" if cell.ndim == 2 and cell.shape[0] != cell.shape[1] else "equal")
                axes.set_xticks([])
                axes.set_yticks([])
            if x == 0:
                figure.text(0.115, 1 - (y + 0.5) / len(made), name, ha="right", va="center", fontsize=8)
    figure.subplots_adjust(0.14, 0.005, 0.995, 0.995, 0.04, 0.06)
    return figure


def page() -> str:
    """The text beside the picture, with captions and sentences of the world itself."""
    some = np.arange(4)
    table = factors.factors(some, "std")
    told = captions.captions(table, factors.uniform(0, "caption", some, captions.LANES), 0.5)
    said = corpus.render(some)
    lines = ["# The toy world", "", textwrap.fill(
        "A procedural world that needs no download. Every sample is a function of its index and of the seed: still images, "
        "clips with instances, depth, flow and keypoints, the sound of their impacts, speech-like sound, captions, a small "
        "language, and clouds of things with their parts. `nolabel train METHOD` takes the columns that the method reads.",
        120,
    ), "", "![Every kind of the toy world](toyworld.png)", "", "Captions:", ""]  # fmt: skip
    lines += [f"- {caption}" for caption in told]
    lines += ["", "Sentences, with their topic:", ""]
    lines += [f"- {text} ({corpus.TOPICS[topic]})" for text, topic in zip(said["text"], said["label"])]
    lines += ["", "Words after the name choose what is in it, put together by colons:", ""]
    lines += [f"- `--data toyworld:{words}`: {meaning}" for words, meaning in WORDS]
    return "\n".join([*lines, "", "Written by `python -m docs.gallery`.", ""])


WORDS = [
    (
        "std",
        "a profile: easy (one large object, the default), std (two), hard (three, an occluder, wild backgrounds), "
        "upright (which way is up can be told), busy (one in front of wild patterns), "
        "textured (large ones whose material can be seen)",
    ),
    ("material", "another label of the same samples: shape, material, program, count, speaker, ..."),
    ("speech", "speech-like sound, labelled by word"),
    ("textured:grey", "no colours, which often tell a picture before anything else does"),
    ("reversible", "clips without gravity and losses: the control on which the arrow of time is at chance"),
    ("pairs", "pairs of shape and material that only the test split has; also `nuisance` and `speakers`"),
]


if __name__ == "__main__":
    picture().savefig(HERE / "toyworld.png")
    (HERE / "toyworld.md").write_text(page())
