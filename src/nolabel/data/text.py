"""Text to token ids of one length: START, the tokens, END, and PAD to the end. Tokenizers are trained on the data.

`Pieces` is byte-level BPE by Hugging Face tokenizers (nolabel[text]): any text, and back without loss. `Words` is a closed
vocabulary of words and needs nothing. Both are a tokenizer.json.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from nolabel.core import UserError
from nolabel.core.types import END, PAD, START, UNKNOWN
from nolabel.data.cache import keep, remembered
from nolabel.data.columns import Store
from nolabel.data.listing import Listing
from nolabel.data.pieces import chosen

SPECIAL = ("[PAD]", "[MASK]", "[START]", "[END]", "[UNKNOWN]")
"""in the order of their ids"""


class Tokenizer(Protocol):
    """From text to ids and back."""

    @property
    def size(self) -> int:
        """Number of different tokens, special ones included."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids without START and END."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special ones are left out."""
        ...

    def to_json(self) -> str:
        """The whole tokenizer."""
        ...

    def save(self, path: Path) -> None:
        """Write a tokenizer.json."""
        ...


@dataclass(frozen=True)
class Words:
    """A closed vocabulary: words and punctuation apart, in lower case."""

    words: tuple[str, ...]

    @property
    def size(self) -> int:
        """Words and the special tokens."""
        return len(SPECIAL) + len(self.words)

    def encode(self, text: str) -> list[int]:
        """Words that are not in the vocabulary are UNKNOWN."""
        place = _places(self.words)
        return [place.get(word, UNKNOWN) for word in text.lower().replace(".", " . ").replace(",", " , ").split()]

    def decode(self, ids: Sequence[int]) -> str:
        """Words with spaces between."""
        known = [self.words[i - len(SPECIAL)] for i in ids if i >= len(SPECIAL)]
        return " ".join(known).replace(" .", ".").replace(" ,", ",")

    def to_json(self) -> str:
        """{"words": [...]}."""
        return json.dumps({"words": self.words})

    def save(self, path: Path) -> None:
        """Write a tokenizer.json."""
        keep(path, lambda file: file.write(self.to_json().encode()))


_known: dict[tuple[str, ...], dict[str, int]] = {}


def _places(words: tuple[str, ...]) -> dict[str, int]:
    if words not in _known:
        _known[words] = {word: i for i, word in enumerate(words, len(SPECIAL))}
    return _known[words]


class Pieces:
    """Byte-level BPE."""

    def __init__(self, made: Any) -> None:
        """`made` is a `tokenizers.Tokenizer`."""
        self.made = made

    @property
    def size(self) -> int:
        """Tokens of the vocabulary."""
        return self.made.get_vocab_size()  # type: ignore[no-any-return]

    def encode(self, text: str) -> list[int]:
        """Ids."""
        return self.made.encode(text, add_special_tokens=False).ids  # type: ignore[no-any-return]

    def decode(self, ids: Sequence[int]) -> str:
        """The text."""
        return self.made.decode(list(ids), skip_special_tokens=True).strip()  # type: ignore[no-any-return]

    def to_json(self) -> str:
        """As Hugging Face writes it."""
        return self.made.to_str()  # type: ignore[no-any-return]

    def save(self, path: Path) -> None:
        """Write a tokenizer.json, which `tokenizers.Tokenizer.from_file` reads."""
        keep(path, lambda file: file.write(self.to_json().encode()))


def library() -> Any:
    """Hugging Face tokenizers. Raises UserError where they are not installed."""
    try:
        import tokenizers
    except ImportError:
        raise UserError("training a tokenizer needs one more package: pip install 'nolabel[text]'") from None
    return tokenizers


def train(texts: Iterable[str], vocabulary: int) -> Pieces:
    """A tokenizer of at most `vocabulary` tokens from texts; the same for the same texts."""
    hf = library()
    made = hf.Tokenizer(hf.models.BPE())
    made.normalizer = hf.normalizers.NFC()
    made.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = hf.decoders.ByteLevel()
    alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
    if vocabulary < len(alphabet) + len(SPECIAL):
        least = len(alphabet) + len(SPECIAL)
        raise UserError(
            f"a vocabulary of {vocabulary} has no room for the {least} bytes and special tokens; set it higher"
        )
    trainer = hf.trainers.BpeTrainer(
        vocab_size=vocabulary, min_frequency=2, special_tokens=list(SPECIAL), initial_alphabet=sorted(alphabet),
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(texts, trainer)
    return Pieces(made)


def load(text: str) -> Tokenizer:
    """The tokenizer of a JSON text. Raises UserError where it is none, or one with other special tokens."""
    try:
        found = json.loads(text)
        if "words" in found:
            return Words(tuple(found["words"]))
        made = Pieces(library().Tokenizer.from_str(text))
    except UserError:
        raise
    except Exception as error:  # tokenizers raises bare exceptions
        raise UserError(f"this is no tokenizer.json: {' '.join(str(error).split())[:150]}") from None
    ids = tuple(made.made.token_to_id(name) for name in SPECIAL)
    if ids != tuple(range(len(SPECIAL))):
        raise UserError(f"the first tokens of a tokenizer must be {' '.join(SPECIAL)}; let nolabel train one")
    return made


@dataclass(frozen=True)
class Sentence:
    """The decoder of text: (L,) ids. Text that is too long ends without END."""

    words: int
    tokenizer: Any
    dtype: ClassVar[type] = np.int64

    @property
    def shape(self) -> tuple[int, ...]:
        """(L,)."""
        return (self.words,)

    def __repr__(self) -> str:
        """Length and fingerprint of the tokenizer: part of the name of the cache."""
        return f"Sentence({self.words}, {hashlib.sha256(self.tokenizer.to_json().encode()).hexdigest()[:16]})"

    def __call__(self, blob: str, out: NDArray[np.int64]) -> None:
        """Write START, tokens, END and PAD into `out` (L,). Raises ValueError where there are no tokens."""
        ids = self.tokenizer.encode(blob)
        if not ids:
            raise ValueError("empty text")
        found = [START, *ids, END][: self.words]
        out[: len(found)], out[len(found) :] = found, PAD


def spans(text: str, encode: Callable[[str], list[int]], room: int) -> list[tuple[int, int]]:
    """Where to cut a document into parts of at most `room` tokens, before white space: [(first, last + 1), ...].

    A word of more tokens than that is a part of its own, of which the rest is lost.
    """
    counts: dict[str, int] = {}
    parts, start, used = [], 0, 0
    for match in re.finditer(r"\s*\S+", text):
        word = match.group()
        if word not in counts:
            counts[word] = len(encode(word))
        if used and used + counts[word] > room:
            parts.append((start, match.start()))
            start, used = match.start(), 0
        used += counts[word]
    return [*parts, (start, len(text))] if used else parts


class Parts:
    """The parts of the documents of a store, one a row."""

    def __init__(self, store: Store, of_row: Sequence[int], ends: Sequence[tuple[int, int]]) -> None:
        self.store, self.of_row, self.ends = store, of_row, ends
        self._last: tuple[int, str] | None = None

    def __len__(self) -> int:
        return len(self.of_row)

    def name(self, row: int) -> str:
        """The document, and the character where it is not the beginning."""
        name, (first, _) = self.store.name(self.of_row[row]), self.ends[row]
        return f"{name} at {first}" if first else name

    def read(self, row: int) -> str:
        """The text of the part."""
        last = self._last  # rows of one document are mostly read one after the other
        if last is None or last[0] != self.of_row[row]:
            last = self._last = self.of_row[row], self.store.read(self.of_row[row])
        return last[1][slice(*self.ends[row])]


def cut_documents(listing: Listing, words: int, tokenizer: Tokenizer) -> Listing:
    """The listing with a row for each part of its texts that fits into `words` tokens."""
    store: Any = listing.columns["text"]

    def find() -> list[list[tuple[int, int]]]:
        found = []
        for row in range(len(store)):
            try:
                found.append(spans(store.read(row), tokenizer.encode, words - 2))
            except Exception:  # a damaged file can raise anything; decoding will name it
                found.append([(0, 1)])
        return found

    stamp = f"{listing.identity} {Sentence(words, tokenizer)!r}"
    ends = remembered("parts", stamp, find)
    of_row = [row for row, each in enumerate(ends) for _ in each]
    parts = Parts(store, of_row, [(first, last) for each in ends for first, last in each])
    return chosen(replace(listing, columns={**listing.columns, "text": parts}), torch.tensor(of_row), keep=["text"])
