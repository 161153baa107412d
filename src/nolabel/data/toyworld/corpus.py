"""A small language: sentences of a grammar with agreement in number across clauses, about one topic each text.

    S -> NP VP "."      NP -> the (ADJ) N (RC | PP)      RC -> who VP      PP -> PREP NP      VP -> V NP | V (PLACE)

A verb agrees with its own subject, however much lies between: "the cooks who see the pot slice it". Content words are of
the topic of the text with probability 0.8. Every choice is counted, so the bits that a text costs are known: what a
language model can reach at best, to the few ambiguities of the grammar.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nolabel.data.toyworld.factors import uniform

TOPICS = ("kitchen", "sea", "farm", "music", "sport", "school")
_NOUNS = (
    "cook baker pot pan spoon onion oven guest", "sailor fish boat whale net wave captain gull",
    "farmer cow horse barn field goat tractor hen", "singer drum song band violin pianist tune choir",
    "runner ball coach goal team referee racket keeper", "teacher pupil book lesson pen desk test tutor",
)  # fmt: skip
_VERBS = (
    "slice stir taste fry", "catch row haul steer", "milk feed plough herd", "play tune sing conduct",
    "kick throw chase score", "read learn mark teach",
)  # fmt: skip
_ADJECTIVES = ("hot salty", "wet deep", "muddy green", "loud soft", "fast strong", "clever strict")
_PLACES = ("at home", "at sea", "outside", "on stage", "in the stadium", "in class")
_COMMON_NOUNS, _COMMON_VERBS = "man woman child friend", "see know like help"
_COMMON_ADJECTIVES, _PREPOSITIONS = "old young big small", "near behind beside"
LANES = 160
MOST = 30
"""words of a text"""


def plural(noun: str) -> str:
    """Of a noun."""
    irregular = {"man": "men", "woman": "women", "child": "children", "fish": "fishes"}
    return irregular.get(noun) or (noun + "es" if noun.endswith(("s", "ch", "sh")) else noun + "s")


def third(verb: str) -> str:
    """The form of a verb that goes with one subject."""
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "es" if verb.endswith(("s", "ch", "sh")) else verb + "s"


_SINGULAR = [n for words in (*_NOUNS, _COMMON_NOUNS) for n in words.split()]
_BASE = [v for words in (*_VERBS, _COMMON_VERBS) for v in words.split()]
VOCABULARY = tuple(
    sorted(
        {*_SINGULAR, *map(plural, _SINGULAR), *_BASE, *map(third, _BASE)}
        | {a for words in (*_ADJECTIVES, _COMMON_ADJECTIVES, _PREPOSITIONS, *_PLACES) for a in words.split()}
        | {"the", "who", "."}
    )
)


class _Writer:
    """Writes one text from uniforms and counts the bits of its choices."""

    def __init__(self, u: Iterator[float], topic: int) -> None:
        self.u, self.topic, self.bits = u, topic, math.log2(len(TOPICS))
        self.words: list[str] = []

    def flip(self, p: float) -> bool:
        yes = next(self.u) < p
        self.bits -= math.log2(p if yes else 1 - p)
        return yes

    def pick(self, words: str) -> str:
        choices = words.split()
        self.bits += math.log2(len(choices))
        return choices[int(next(self.u) * len(choices))]

    def content(self, topical: tuple[str, ...], common: str) -> str:
        return self.pick(topical[self.topic]) if self.flip(0.8) else self.pick(common)

    def noun_phrase(self, depth: int) -> bool:
        """Writes it; True for more than one."""
        self.words.append("the")
        if self.flip(0.3):
            self.words.append(self.content(_ADJECTIVES, _COMMON_ADJECTIVES))
        many = self.flip(0.5)
        noun = self.content(_NOUNS, _COMMON_NOUNS)
        self.words.append(plural(noun) if many else noun)
        if depth < 2 and self.flip(0.35):
            if self.flip(0.6):
                self.words.append("who")
                self.verb_phrase(many, depth + 1)
            else:
                self.words.append(self.pick(_PREPOSITIONS))
                self.noun_phrase(depth + 1)
        return many

    def verb_phrase(self, many: bool, depth: int) -> None:
        verb = self.content(_VERBS, _COMMON_VERBS)
        self.words.append(verb if many else third(verb))
        if self.flip(0.75):
            self.noun_phrase(depth + 1)
        elif self.flip(0.5):
            self.words += _PLACES[self.topic].split()

    def sentence(self) -> bool:
        """Writes it; True for more than one subject."""
        many = self.noun_phrase(0)
        self.verb_phrase(many, 0)
        self.words.append(".")
        return many


def render(index: ArrayLike, seed: int = 0) -> dict[str, NDArray | list[str]]:
    """Texts `index` (B,) of the world `seed`, each the same in any batch.

    Returns text: B strings of at most 30 words; label: int64 (B,) the topic; number: int64 (B,), 1 where the subject of the
    first sentence is more than one, which takes grammar to tell (the subject number task of Conneau, Kruszewski, Lample,
    Barrault, Baroni, ACL 2018); bits: float64 (B,), what the text costs under the grammar that made it, stopping included.
    """
    rows = np.atleast_1d(np.asarray(index, np.int64))
    u = uniform(seed, "corpus", rows, LANES)
    topics = (uniform(seed, "corpus topic", rows, 1)[:, 0] * len(TOPICS)).astype(np.int64)
    texts, bits, number = [], np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    for b in range(len(rows)):
        writer = _Writer(iter(u[b].tolist()), int(topics[b]))
        number[b] = writer.sentence()
        while len(writer.words) < MOST - 12 and writer.flip(0.6):
            writer.sentence()
        texts.append(" ".join(writer.words[:MOST]))
        bits[b] = writer.bits
    return {"text": texts, "label": topics, "number": number, "bits": bits}
