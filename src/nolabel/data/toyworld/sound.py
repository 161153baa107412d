"""Sounds of the toy world: every impact strikes the modes of its material, and what turns rustles.

An object of radius r and material m that is hit at speed v sounds as the sum over its modes k of
v a_k exp(-t / d_m) sin(2 pi f_m (0.15 / r) k t) with k = 1, 1.58, 2.24; small things are high. Onsets are exact, between
frames and between samples. The room is nuisance: loudness, an echo, noise.

Legend: B clips, T frames, K objects, S samples.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nolabel.data.toyworld.factors import Factors, Streams
from nolabel.data.toyworld.physics import DT, Motion

PITCH = (190.0, 430.0, 120.0, 900.0, 1250.0, 300.0)
"""of each material, in Hz, for radius 0.15"""
DECAY = (0.06, 0.07, 0.025, 0.04, 0.4, 0.03)
"""of each material, seconds to 1 / e"""
MODES = ((1.0, 1.0), (1.58, 0.5), (2.24, 0.25))
"""frequency and amplitude beside the first"""
RADIUS = 0.15
LOUD = 6000.0
"""of an impact at one side a second, of 32,767"""
RUSTLE = 60.0
"""of an object that turns once a second"""

_jit = njit(nogil=True, cache=True, error_model="numpy")


@_jit
def _strike(wave, rate, time, pitch, decay, loud, modes):
    """Add a struck object to a wave (S,)."""
    first = math.ceil(time * rate)
    length = int(7 * decay * rate)
    for m in range(len(modes)):
        frequency = pitch * modes[m, 0]
        if frequency > 0.45 * rate:
            continue
        # a rotation by a recurrence: no sine a sample
        turn = 2 * math.pi * frequency / rate
        shrink = math.exp(-1 / (decay * rate))
        c, s = shrink * math.cos(turn), shrink * math.sin(turn)
        late = first / rate - time
        fade = loud * modes[m, 1] * math.exp(-late / decay)
        x, y = fade * math.cos(2 * math.pi * frequency * late), fade * math.sin(2 * math.pi * frequency * late)
        for i in range(max(first, 0), min(first + length, len(wave))):
            wave[i] += y
            x, y = c * x - s * y, s * x + c * y


@_jit
def _white(key, i):
    """White noise -1 .. 1 at sample i of the stream `key`."""
    x = (key + np.uint64(i)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.float64((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-52 - 1


@_jit
def _sound(waves, rate, clip, strikes, modes, rustle, smooth, room, keys):
    frames, samples = rustle.shape[1], waves.shape[1]
    for e in range(len(clip)):
        _strike(waves[clip[e]], rate, strikes[e, 0], strikes[e, 1], strikes[e, 2], strikes[e, 3], modes)
    step = samples / frames
    for b in range(len(waves)):
        wave = waves[b]
        for k in range(rustle.shape[2]):
            low = 0.0
            for i in range(samples):
                at = min(i / step, frames - 1.001)
                f = int(at)
                loud = rustle[b, f, k] + (at - f) * (rustle[b, f + 1, k] - rustle[b, f, k])
                low += smooth[b, k] * (_white(keys[b] + np.uint64(1000003 * (k + 1)), i) - low)
                wave[i] += loud * low
        gain, echo, delay, noise = room[b, 0], room[b, 1], int(room[b, 2] * rate), room[b, 3]
        for i in range(delay, samples):
            wave[i] += echo * wave[i - delay]
        for i in range(samples):
            wave[i] = gain * wave[i] + noise * _white(keys[b], i)


def render(table: Factors, motion: Motion, rng: Streams, rate: int = 8000) -> NDArray[np.int16]:
    """The sound of clips: int16 (B, S), S = rate * T / 15 samples, aligned with the frames."""
    batch, frames, count = motion.angle.shape
    waves = np.zeros((batch, round(rate * frames * DT)))
    u = rng("room", 4)
    room = np.stack((0.5 * 4 ** u[:, 0], 0.5 * u[:, 1], 0.02 + 0.06 * u[:, 2], 10 ** (1 + 1.2 * u[:, 3])), 1)
    there = np.arange(count) < table["count"][:, None]
    material, radius = table["material"], table["radius"]
    pitch, decay = np.array(PITCH)[material] * RADIUS / radius, np.array(DECAY)[material]
    events = motion.events
    strikes, clips = [], []
    for thing in ("object", "other"):  # what is hit sounds, too
        struck = events[thing] < count
        clip, k = events["clip"][struck], events[thing][struck]
        loud = LOUD * events["speed"][struck]
        strikes.append(np.stack((events["time"][struck], pitch[clip, k], decay[clip, k], loud), 1))
        clips.append(clip)
    spin = np.abs(np.diff(motion.angle, axis=1, append=motion.angle[:, -1:])) / DT / (2 * math.pi)
    spin[:, -1] = spin[:, -2] if frames > 1 else 0
    rustle = RUSTLE * np.minimum(spin, 5) * there[:, None]
    smooth = np.minimum(0.9, 4 * np.array(PITCH)[material] / rate)
    keys = (rng("room", 6)[:, 5] * 2**63).astype(np.uint64)
    _sound(
        waves, float(rate), np.concatenate(clips), np.concatenate(strikes), np.array(MODES), rustle, smooth, room, keys
    )  # fmt: skip
    return np.clip(np.rint(waves), -32768, 32767).astype(np.int16)
