"""What is left open about the form of samples is chosen by looking at the training files; then columns decode to it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nolabel.core import UserError
from nolabel.data import audio, points, text, video
from nolabel.data.arrays import ImageArray
from nolabel.data.cache import remembered
from nolabel.data.columns import Column, Decoder, EncodedColumn, Store
from nolabel.data.decode import Picture
from nolabel.data.files import TextStore
from nolabel.data.form import Form
from nolabel.data.listing import Listing
from nolabel.data.pieces import cut
from nolabel.data.size import probe, stored_size

FRAMES, FPS, WORDS, VOCABULARY, POINTS, SECONDS, RATE = 16, 8.0, 128, 4096, 1024, 5.0, 16000
"""what is chosen, or the most of it"""
_PROBES, _TEXTS = 64, 20_000
_SHARE = 0.9
"""of the files that a length holds whole"""


def settle(form: Form, train: Listing, columns: Sequence[str]) -> tuple[Form, Any]:
    """The form with nothing left open that the columns need, and the tokenizer of text."""
    have, tokenizer = train.columns, None
    if "image" in columns:
        form = form.default(side=_side(have["image"], form.size, probe))
    if "video" in columns:
        found = have["video"]
        if not isinstance(found, Store):  # made or cut already
            form = replace(form, fps=train.rates["video"], frames=found.shape[0])
        form = form.default(fps=train.rates.get("video", FPS), frames=_frames(found))
        form = form.default(side=_side(found, form.size, lambda store: probe(store, video.shorter_side)))
    if "audio" in columns:
        form = _settle_sound(form, train, "video" in columns)
    if "points" in columns:
        form = form.default(points=_points(have["points"]))
    if "text" in columns:
        tokenizer = train.tokenizer or _tokenizer(form, train)
        form = form.default(words=_words(have["text"], tokenizer))
        form = replace(form, vocabulary=tokenizer.size)
    return form, tokenizer


def cut_up(listing: Listing, form: Form, tokenizer: Any, columns: Sequence[str]) -> Listing:
    """Long recordings and documents as several rows."""
    if "video" in columns:
        timed = [name for name in ("video", "audio") if name in columns]
        return cut(listing, timed, form.frames / form.fps, video.seconds)  # type: ignore[operator]
    if "audio" in columns:
        return cut(listing, ["audio"], form.seconds or SECONDS, lambda source: audio.about(source)[0])
    if tuple(columns) == ("text",) and isinstance(listing.columns["text"], TextStore):
        return text.cut_documents(listing, form.words or WORDS, tokenizer)
    return listing


def decoded(name: str, found: Store | Column, form: Form, tokenizer: Any, workers: int | None) -> Column:
    """The column of a store; a column is one already."""
    if not isinstance(found, Store):
        return found
    if isinstance(found, ImageArray) and (ready := found.column(form.side or 0, form.channels)):
        return ready
    return EncodedColumn(found, _decoder(name, form, tokenizer), workers)


def _decoder(name: str, form: Form, tokenizer: Any) -> Decoder:
    match name:
        case "image":
            return Picture(form.side or 0, form.channels)
        case "video":
            return video.Clip(form.frames or 0, form.fps or 0, form.side or 0, form.channels)
        case "audio":
            return audio.Sound(form.sample_rate or 0, form.seconds or 0)
        case "points":
            return points.Cloud(form.points or 0)
        case _:
            return text.Sentence(form.words or 0, tokenizer)


def _shaped(found: Any) -> bool:
    """Whether the samples are of one shape already: a column, or a store of arrays."""
    return not isinstance(found, Store) or getattr(found, "raw", False)


def _side(found: Store | Column, size: int | None, look: Callable[[Store], list[int]]) -> int:
    return stored_size(look(found), size) if isinstance(found, Store) else found.shape[-2]


def _frames(found: Any) -> int:
    """T of arrays and columns; files are cut."""
    return found.shape[0] if _shaped(found) else FRAMES


def _settle_sound(form: Form, train: Listing, beside_video: bool) -> Form:
    found: Any = train.columns["audio"]
    if beside_video and form.frames and form.fps:
        form = replace(form, seconds=form.frames / form.fps)
    if _shaped(found):
        own = int(train.rates.get("audio", form.sample_rate or RATE))
        if form.sample_rate not in (None, own):
            raise UserError(
                f"the sound has {own} samples a second, not {form.sample_rate}: resample it, or leave --sample-rate out"
            )
        form = form.default(sample_rate=own)
        return form.default(seconds=found.shape[0] / (form.sample_rate or RATE))
    rows = _some(len(found), _PROBES)
    known = [each for row in rows if (each := _try(audio.about, found, row))]
    if not known:
        raise UserError(f"none of {len(rows)} files tried has sound, e.g. {found.name(0)}; check the data")
    form = form.default(sample_rate=min(RATE, Counter(rate for _, rate in known).most_common(1)[0][0]))
    longest = float(np.quantile([seconds for seconds, _ in known], _SHARE, method="inverted_cdf"))
    return form.default(seconds=round(min(SECONDS, max(0.1, np.ceil(10 * longest) / 10)), 1))


def _points(found: Any) -> int:
    if not _shaped(found):
        return POINTS
    return min(POINTS, found.shape[0]) if isinstance(found, Store) else found.shape[0]  # type: ignore[attr-defined]


def _tokenizer(form: Form, train: Listing) -> text.Tokenizer:
    """The one that was given, or one trained on the texts."""
    if form.tokenizer:
        try:
            with open(form.tokenizer, encoding="utf-8") as file:
                return text.load(file.read())
        except OSError as error:
            raise UserError(f"cannot read the tokenizer {form.tokenizer}: {error.strerror}; check the path") from None
    most, store = form.vocabulary or VOCABULARY, train.columns["text"]
    assert isinstance(store, Store)
    texts = (each for row in range(len(store)) if (each := _try(lambda x: x, store, row)))
    stamp = f"{train.identity} {most} {text.library().__version__}"
    return text.load(remembered("tokenizer", stamp, lambda: text.train(texts, most).to_json()))


def _words(found: Store | Column, tokenizer: Any) -> int:
    """What holds nine of ten texts, in steps of 8, at most 128; documents are cut."""
    if not isinstance(found, Store):
        return found.shape[0]
    if isinstance(found, TextStore):
        return WORDS
    texts = (_try(lambda x: x, found, row) for row in _some(len(found), _TEXTS))
    lengths = [2 + len(tokenizer.encode(each)) for each in texts if each]
    if not lengths:
        raise UserError(f"there is no text in {found.name(0)} and the others; check the data")
    return min(WORDS, 8 * -(-int(np.quantile(lengths, _SHARE, method="inverted_cdf")) // 8))


def _some(count: int, most: int) -> list[int]:
    """Rows, evenly spread."""
    return sorted({i * count // most for i in range(most)}) if count > most else list(range(count))


def _try(ask: Callable[[Any], Any], store: Store, row: int) -> Any:
    try:
        return ask(store.read(row))
    except UserError:
        raise
    except Exception:  # a damaged file can raise anything; decoding will name it
        return None
