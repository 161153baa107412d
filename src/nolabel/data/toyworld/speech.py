"""Speech-like sound: words of a small lexicon, spelt in phones with formants, said by speakers who differ in pitch.

A phone is a triple of resonances on a pulse train (vowels) or on noise (the last six). A clip is a run of words drawn from
a Markov chain; every phone lasts 60 to 160 ms. A speaker has a pitch, a length of the throat (which scales all formants)
and a breathiness; loudness and room noise are nuisance.

Legend: B clips, S samples, F frames of 10 ms.
"""

import math
from collections.abc import Collection

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from nolabel.data.toyworld.factors import Floats, uniform
from nolabel.data.toyworld.sound import _white

PHONES = ("a", "e", "i", "o", "u", "y", "m", "l", "s", "f", "k", "t", "p", "h")
FORMANTS = (
    (750, 1200, 2500), (530, 1850, 2500), (290, 2250, 3000), (500, 900, 2400), (320, 800, 2250), (300, 1800, 2200),
    (250, 1000, 2100), (380, 1100, 2700), (2800, 3400, 3800), (1400, 2300, 3300), (1500, 1900, 2600), (2200, 3000, 3600),
    (500, 900, 1300), (700, 1400, 2600),
)  # fmt: skip
"""resonances in Hz"""
NOISY = 8
"""the first phone that is noise"""
WORDS = (
    "mala", "kito", "sefu", "poma", "huly", "taka", "lime", "solu", "fipa", "keho", "yami", "tusa", "pelo", "kafy", "hisu",
    "omat", "eluk", "maha", "uspi", "alfe",
)  # fmt: skip
SPEAKERS = 12
TEST_SPEAKERS = 4
"""more of them, for the split of speakers that were not heard"""
HOP = 0.01
"""seconds a frame"""

_jit = njit(nogil=True, cache=True, error_model="numpy")


@_jit
def _say(waves, rate, phones, lengths, formants, noisy, voice, keys):
    for b in range(len(waves)):
        wave = waves[b]
        pitch, throat, breath, gain, floor, wobble = voice[b]
        y1, y2 = np.zeros(3), np.zeros(3)
        a1, a2, g = np.zeros(3), np.zeros(3), np.zeros(3)
        n, left, phase = -1, 0, 0.0
        for i in range(len(wave)):
            if left == 0:
                n += 1
                left = lengths[b, n]
                for k in range(3):
                    f = min(formants[phones[b, n], k] * throat, 0.47 * rate)
                    wide = 60.0 + 0.06 * f
                    if phones[b, n] >= noisy:
                        wide *= 3
                    r = math.exp(-math.pi * wide / rate)
                    a1[k], a2[k] = 2 * r * math.cos(2 * math.pi * f / rate), -r * r
                    g[k] = (1 - r) * (1.0, 0.6, 0.3)[k] * 3
            left -= 1
            hiss = _white(keys[b], i)
            phase += pitch * (1 + 0.05 * math.sin(2 * math.pi * wobble * i / rate)) / rate
            source = breath * hiss
            if phones[b, n] >= noisy:
                source = hiss
            elif phase >= 1:
                source += 5.0
            if phase >= 1:
                phase -= 1
            out = 0.0
            for k in range(3):
                y = g[k] * source + a1[k] * y1[k] + a2[k] * y2[k]
                y2[k], y1[k] = y1[k], y
                out += y
            edge = min(1.0, min(left, lengths[b, n] - left) / (0.008 * rate))  # no clicks between phones
            wave[i] = gain * out * edge + floor * _white(keys[b] + np.uint64(77), i)


def render(
    index: ArrayLike,
    seconds: float = 1.0,
    rate: int = 8000,
    seed: int = 0,
    unheard: bool = False,
    resample: Collection[str] = (),
    draw: int = 0,
    silent: bool = False,
) -> dict[str, NDArray]:
    """Clips `index` (B,) of the world `seed`, each the same in any batch.

    Returns audio: int16 (B, S); phone, word: int64 (B, F), what is said in the middle of each frame of 10 ms; speaker:
    int64 (B,); label: int64 (B,) the word that is said longest. `unheard`: by other speakers. `resample`: any of words,
    speaker, room. `silent`: all but the sound.
    """
    rows = np.atleast_1d(np.asarray(index, np.int64))

    def stream(name: str, lanes: int) -> Floats:
        return uniform(seed, f"speech {name}", rows, lanes, 1 + draw if name in resample else 0)

    most = 2 + math.ceil(seconds / 0.06)
    u = stream("words", 2 * most + 1)
    phones, words = _script(u, most)
    lengths = np.rint(rate * (0.06 + 0.1 * u[:, -most:])).astype(np.int64)
    speaker = (stream("speaker", 1)[:, 0] * (TEST_SPEAKERS if unheard else SPEAKERS)).astype(np.int64)
    speaker += SPEAKERS if unheard else 0
    middle = ((np.arange(round(seconds / HOP)) + 0.5) * HOP * rate)[None, :, None]
    at = (middle >= lengths.cumsum(1)[:, None]).sum(2).clip(max=most - 1)
    word = np.take_along_axis(words, at, 1)
    told = {
        "phone": np.take_along_axis(phones, at, 1),
        "word": word,
        "speaker": speaker,
        "label": (word[:, :, None] == np.arange(len(WORDS))).sum(1).argmax(1),
    }
    if silent:
        return told
    who = uniform(seed, "speech voices", speaker, 3)
    room = stream("room", 4)
    voice = np.stack(
        (90 * 2.6 ** who[:, 0], 0.85 + 0.3 * who[:, 1], 0.02 + 0.3 * who[:, 2], 4000 * 3 ** (room[:, 0] - 0.5),
         10 ** (0.7 + 1.3 * room[:, 1]), 3 + 3 * room[:, 2]), 1
    )  # fmt: skip
    waves = np.zeros((len(rows), round(seconds * rate)))
    keys = (room[:, 3] * 2**63).astype(np.uint64)
    _say(waves, float(rate), phones, lengths, np.array(FORMANTS, float), NOISY, voice, keys)
    return {"audio": np.clip(np.rint(waves), -32768, 32767).astype(np.int16), **told}


def _script(u: Floats, most: int) -> tuple[NDArray, NDArray]:
    """What is said, from uniforms: phones and words (B, most)."""
    spelling = [[PHONES.index(letter) for letter in word] for word in WORDS]
    phones, words = np.zeros((2, len(u), most), np.int64)
    for b in range(len(u)):
        said: list[int] = []
        of: list[int] = []
        word, place = int(u[b, 0] * len(WORDS)), 0
        while len(said) < most:
            said += spelling[word]
            of += [word] * len(spelling[word])
            place += 1
            # after a word mostly one of its three successors, so that context tells something
            x = u[b, place]
            word = (word + (1, 4, 11)[int(x / 0.8 * 3)]) % len(WORDS) if x < 0.8 else int((x - 0.8) * 5 * len(WORDS))
        phones[b], words[b] = said[:most], of[:most]
    return phones, words
