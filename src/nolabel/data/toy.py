"""The embedded toy world as a data set: whatever columns are asked for, of the same samples, without a download.

    image (text, segmentation, depth)   still images (segmentation: the material of a pixel, from 1, -1 for an occluder);
                                        label: shape
    video, audio (text, segmentation)   clips of 15 frames a second and the sound of their impacts; label: program, and
                                        material where there is sound
    audio, with the word `speech`       speech-like sound (segmentation: the phone of each 10 ms); label: word
    points (segmentation)               clouds of things (segmentation: their parts); label: kind
    text alone                          a small language; label: topic

What follows the name chooses, in any order and put together by colons: a profile (easy, std, hard, upright, busy, textured);
another label of the same samples (shape, material, program, count, speaker, number, ...); how many training samples; `grey`,
without colours; `reversible` physics; and what the test split has that the training split has not: `pairs` of shape and
material, `nuisance` beyond its range, `speakers`.
"""

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nolabel.core import UserError
from nolabel.core.errors import nearest
from nolabel.data.columns import Column
from nolabel.data.form import Form
from nolabel.data.listing import Listing
from nolabel.data.text import Sentence, Words

TRAIN, TEST = 20_000, 4_000
"""images and texts"""
CLIPS = 6_000, 1_500
"""clips and clouds"""
TEST_FROM = 10**9
"""index of the first test sample, out of reach of any training set"""
PROFILES = ("easy", "std", "hard", "upright", "busy", "textured")
RATE, FRAMES, SECONDS, POINTS, LENGTH, SIZE = 8000, 16, 1.0, 512, 32, 32
"""what is chosen where nothing is said"""


class ToyColumn(Column):
    """One column of a world, made when asked for."""

    made = True
    """cheap to make again, so that only a small one is kept"""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        example = world.take(torch.zeros(1, dtype=torch.int64))[name]
        self.shape: tuple[int, ...] = tuple(example.shape[1:])
        self.dtype = example.dtype

    def __len__(self) -> int:
        return len(self.world.index)

    def take(self, rows: Tensor) -> Tensor:
        """(B,) int64 -> (B, *shape)."""
        return torch.from_numpy(self.world.take(rows)[self.name])


@dataclass(eq=False)
class World:
    """Samples `index` (N,) of one kind; the last batch is kept, since its columns are asked for one by one."""

    index: NDArray[np.int64]
    columns: tuple[str, ...]
    form: Form
    profile: Any = "easy"
    words: frozenset[str] = frozenset()
    """what the user said"""
    apart: bool = False
    """of the split that is unlike the training split"""

    labels: ClassVar[dict[str, tuple[str, ...]]] = {}
    """names of the classes by the label that is asked for; the first is the default"""
    rates: ClassVar[dict[str, float]] = {}
    _last: tuple[bytes, dict[str, NDArray]] | None = field(default=None, init=False)
    _lock: Any = field(default_factory=threading.Lock, init=False)

    def take(self, rows: Tensor) -> dict[str, NDArray]:
        """All columns of some rows."""
        key = rows.numpy().tobytes()
        with self._lock:
            last = self._last
            if last is None or last[0] != key:
                self._last = last = key, self.render(self.index[rows.numpy()])
        return last[1]

    def render(self, index: NDArray) -> dict[str, NDArray]:
        """The columns of samples."""
        raise NotImplementedError

    def facts(self, index: NDArray) -> dict[str, NDArray]:
        """What may be a label (B,), by name."""
        raise NotImplementedError

    @property
    def tokenizer(self) -> Words | None:
        """Of its text."""
        return None

    def _written(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Texts as ids (B, L)."""
        decoder = Sentence(self.form.words or LENGTH, self.tokenizer)
        out = np.empty((len(texts), *decoder.shape), np.int64)
        for text, row in zip(texts, out):
            decoder(text, row)
        return out

    def _grey(self, pixels: NDArray) -> NDArray[np.uint8]:
        if self.form.channels == 3 and "grey" not in self.words:
            return pixels
        grey: NDArray[np.uint8] = np.rint(pixels @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]
        return grey.repeat(self.form.channels, -1)


class Images(World):
    """Still images."""

    def facts(self, index: NDArray) -> dict[str, NDArray]:
        """The factors of the object in front."""
        from nolabel.data.toyworld.factors import factors

        table = factors(index, self.profile)
        return {k: table[k][:, 0] for k in ("shape", "material")} | {k: table[k] for k in ("count", "background")}

    def render(self, index: NDArray) -> dict[str, NDArray]:
        """image, segmentation, depth, text."""
        from nolabel.data.toyworld import factors, images
        from nolabel.data.toyworld.captions import LANES, captions
        from nolabel.data.toyworld.profiles import profile_of

        found = images.render(index, self.form.size or SIZE, self.profile, 0)
        out: dict[str, NDArray] = {"image": self._grey(found["image"])}
        if "segmentation" in self.columns:
            # not the shape, which is the label: a method that reads or paints class maps would be told what it is judged by
            material = factors.factors(index, self.profile)["material"] + 1
            kinds: NDArray = np.zeros((len(index), 256), np.int8)
            kinds[:, 1 : 1 + material.shape[1]], kinds[:, 255] = material, -1
            out["segmentation"] = np.take_along_axis(kinds[:, None], found["mask"].astype(np.intp), 2)
        if "depth" in self.columns:
            out["depth"] = images.depths(profile_of(self.profile).objects)[found["mask"]]
        if "text" in self.columns:
            table, u = factors.factors(index, self.profile), factors.uniform(0, "caption", index, LANES)
            out["text"] = self._written(captions(table, u, _middle(self.profile)))
        return out

    @property
    def tokenizer(self) -> Words | None:
        """Of captions."""
        from nolabel.data.toyworld.captions import VOCABULARY

        return Words(VOCABULARY) if "text" in self.columns else None


class Clips(Images):
    """Videos and the sounds in them."""

    rates: ClassVar[dict[str, float]] = {"video": 15.0}

    @property
    def frames(self) -> int:
        """T."""
        if "video" in self.columns or self.form.seconds is None:
            return self.form.frames or FRAMES
        return int(np.ceil(15 * self.form.seconds - 1e-6))

    def facts(self, index: NDArray) -> dict[str, NDArray]:
        """The factors of the object in front, and the program of motion."""
        from nolabel.data.toyworld.factors import factors

        return super().facts(index) | {"program": factors(index, self.profile)["program"]}

    def render(self, index: NDArray) -> dict[str, NDArray]:
        """video, audio, segmentation, text."""
        from nolabel.data.toyworld import factors, video
        from nolabel.data.toyworld.captions import LANES, captions

        size = (self.form.size or SIZE) if {"video", "segmentation"} & set(self.columns) else 4
        extras = ("audio",) if "audio" in self.columns else ()
        rate = self.form.sample_rate or RATE
        found = video.render(
            index, self.frames, size, self.profile, extras=extras, reversible="reversible" in self.words, rate=rate
        )
        out = {"video": self._grey(found["video"]), "segmentation": found["mask"]}
        if extras:
            seconds = self.form.seconds if "video" not in self.columns else None
            out["audio"] = found["audio"][:, : round(rate * seconds) if seconds else None]
        if "text" in self.columns:
            table, u = factors.factors(index, self.profile), factors.uniform(0, "caption", index, LANES)
            out["text"] = self._written(captions(table, u, _middle(self.profile), moving=True))
        return out


class Speech(World):
    """Speech-like sound."""

    def facts(self, index: NDArray) -> dict[str, NDArray]:
        """Word and speaker."""
        found = self._said(index, silent=True)
        return {"word": found["label"], "speaker": found["speaker"]}

    def render(self, index: NDArray) -> dict[str, NDArray]:
        """audio, segmentation: the phone of each frame."""
        found = self._said(index)
        return {"audio": found["audio"], "segmentation": found["phone"]}

    def _said(self, index: NDArray, silent: bool = False) -> dict[str, NDArray]:
        from nolabel.data.toyworld import speech

        unheard = self.apart and "speakers" in self.words
        return speech.render(
            index, self.form.seconds or SECONDS, self.form.sample_rate or RATE, unheard=unheard, silent=silent
        )


class Things(World):
    """Clouds of points."""

    def facts(self, index: NDArray) -> dict[str, NDArray]:
        """The kind of thing."""
        from nolabel.data.toyworld import shapes

        return {"kind": shapes.kinds(index)}

    def render(self, index: NDArray) -> dict[str, NDArray]:
        """points, segmentation: the part of each."""
        from nolabel.data.toyworld import shapes

        found = shapes.render(index, self.form.points or POINTS)
        return {"points": found["points"], "segmentation": found["part"]}


class Corpus(World):
    """Texts of a small language."""

    def facts(self, index: NDArray) -> dict[str, NDArray]:
        """The topic, and the number of the first subject."""
        from nolabel.data.toyworld import corpus

        made = corpus.render(index)
        return {"topic": np.asarray(made["label"]), "number": np.asarray(made["number"])}

    def render(self, index: NDArray) -> dict[str, NDArray]:
        """text."""
        from nolabel.data.toyworld import corpus

        return {"text": self._written(corpus.render(index)["text"])}  # type: ignore[arg-type]

    @property
    def tokenizer(self) -> Words | None:
        """Of the language."""
        from nolabel.data.toyworld.corpus import VOCABULARY

        return Words(VOCABULARY)


def listings(option: str, columns: Sequence[str], form: Form) -> dict[str, Listing]:
    """Training and test samples of the columns asked for. Raises UserError for words and columns it does not know."""
    said = [word for word in option.split(":") if word]
    words = [word for word in said if not word.isdecimal()]
    kind = _kind(columns, words)
    classes = _classes(kind)
    own = {Images: ["grey"], Clips: ["grey", "reversible"], Speech: ["speech"]}.get(kind, [])
    known = [*PROFILES, *classes, *_UNLIKE[kind], *own]
    if unknown := next((word for word in words if word not in known), None):
        raise UserError(f"the toy world of {' and '.join(columns)} has no '{unknown}'{nearest(unknown, known)}")
    profile = next((word for word in words if word in PROFILES), "easy")
    label = next(
        (word for word in words if word in classes), "material" if "audio" in columns and kind is Clips else ""
    )
    label = label or ("program" if kind is Clips else next(iter(classes)))
    stamp = f"toyworld {' '.join(sorted(words))} {' '.join(columns)} {form} {_code()}"
    result = {}
    counts = [TRAIN, TEST] if kind in (Images, Corpus) else [min(a, b) for a, b in zip(CLIPS, (TRAIN, TEST))]
    number = next((int(word) for word in said if word.isdecimal()), None)
    if number == 0:
        raise UserError("toyworld:0 has no samples; say how many are to train, as toyworld:4000")
    if number is not None:
        counts[0] = min(number, TEST_FROM // 7)
    for split, first, count in zip(("train", "test"), (0, TEST_FROM), counts):
        apart = split == "test"
        made = _beyond(profile) if apart and "nuisance" in words else profile
        world = kind(np.arange(first, first + count), tuple(columns), form, made, frozenset(words), apart)
        if "pairs" in words:
            world.index = _of_pairs(world, first, count, held=apart)
        facts = torch.from_numpy(world.facts(world.index)[label].astype(np.int64))
        made_columns: dict[str, Any] = {name: ToyColumn(world, name) for name in columns}
        rates = {**kind.rates, "audio": float(form.sample_rate or RATE)}
        result[split] = Listing(
            made_columns, f"{stamp} {first} {made}", facts, classes[label],
            rates={k: v for k, v in rates.items() if k in columns}, tokenizer=world.tokenizer,
        )  # fmt: skip
    return result


def _kind(columns: Sequence[str], words: Sequence[str]) -> type[World]:
    wanted = set(columns) - {"segmentation"}
    for kind, able in _ABLE.items():
        if wanted and wanted <= set(able) and (kind is not Speech or "speech" in words):
            return kind
    raise UserError(f"the toy world has no samples with {' and '.join(columns)} (see its page for what goes together)")


_ABLE: dict[type[World], tuple[str, ...]] = {
    Speech: ("audio",), Corpus: ("text",), Images: ("image", "text", "depth"), Clips: ("video", "audio", "text"),
    Things: ("points",),
}  # fmt: skip
_UNLIKE: dict[type[World], tuple[str, ...]] = {
    Speech: ("speakers",), Corpus: (), Images: ("pairs", "nuisance"), Clips: ("pairs", "nuisance"), Things: ()
}  # fmt: skip


def _classes(kind: type[World]) -> dict[str, tuple[str, ...]]:
    """Names of the classes, by what may be the label."""
    from nolabel.data.toyworld import corpus, factors, shapes, speech

    of_objects = {
        "shape": factors.SHAPES, "material": factors.MATERIALS, "count": ("none", "one", "two", "three"),
        "background": factors.BACKGROUNDS,
    }  # fmt: skip
    speakers = tuple(f"speaker {i}" for i in range(speech.SPEAKERS + speech.TEST_SPEAKERS))
    every: dict[type[World], dict[str, tuple[str, ...]]] = {
        Images: of_objects,
        Clips: {**of_objects, "program": factors.PROGRAMS},
        Speech: {"word": speech.WORDS, "speaker": speakers},
        Things: {"kind": shapes.CLASSES},
        Corpus: {"topic": corpus.TOPICS, "number": ("singular", "plural")},
    }
    return every[kind]


def _middle(profile: Any) -> float:
    """The radius above which things are big."""
    from nolabel.data.toyworld.profiles import profile_of

    return sum(profile_of(profile).radius) / 2


def _beyond(profile: str) -> Any:
    """A profile whose nuisance goes beyond that of `profile`: light, ground and camera."""
    from nolabel.data.toyworld.profiles import profile_of

    p = profile_of(profile)
    return replace(
        p, light=1.8 * p.light, background=2 * p.background, chroma=min(0.6, 2 * p.chroma), camera=p.camera + 0.05
    )


def held_out_pair(shape: NDArray, material: NDArray) -> NDArray[np.bool_]:
    """The pairs of shape and material that only the test split of `pairs` has: one material of each shape."""
    return (shape % 6) == material  # type: ignore[no-any-return]


def _of_pairs(world: World, first: int, count: int, held: bool) -> NDArray[np.int64]:
    """The first `count` samples from `first` on with, or without, a pair that is held out."""
    candidates = np.arange(first, first + (7 * count if held else 2 * count))
    facts = world.facts(candidates)
    return candidates[held_out_pair(facts["shape"], facts["material"]) == held][:count]


def _code() -> str:
    """A change of the world makes new samples."""
    code = hashlib.sha256()
    for file in sorted((Path(__file__).parent / "toyworld").glob("*.py")):
        code.update(file.read_bytes())
    return code.hexdigest()
