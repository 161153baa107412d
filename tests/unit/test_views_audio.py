"""Views of sound against loops written from the definitions, and in time with the clip they belong to."""

import math

import numpy as np
import pytest
import torch

from nolabel.views.audio import FLOOR, LogMel, Wave, cut, log_mel, mel_bands, stripe
from nolabel.views.sounding import SoundingClip


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def sound(count=4, samples=8000, seed=0):
    return (torch.randn(count, samples, generator=rng(seed)) * 3000).clamp(-32000, 32000).to(torch.int16)


def test_filters_are_the_triangles_of_the_definition():
    rate, size, mels, low, high = 8000, 256, 20, 60.0, 3900.0
    found = mel_bands(rate, size, mels, low, high).numpy()
    edges = np.linspace(2595 * math.log10(1 + low / 700), 2595 * math.log10(1 + high / 700), mels + 2)
    hertz = [700 * (10 ** (m / 2595) - 1) for m in edges]
    for m in range(mels):
        for k in range(size // 2 + 1):
            f = k * rate / size
            left, middle, right = hertz[m : m + 3]
            inside = (f - left) / (middle - left) if f <= middle else (right - f) / (right - middle)
            assert abs(found[m, k] - max(0.0, inside)) < 1e-6
    inner = (np.arange(size // 2 + 1) * rate / size > hertz[1]) & (np.arange(size // 2 + 1) * rate / size < hertz[-2])
    np.testing.assert_allclose(found.sum(0)[inner], 1, atol=1e-6)  # neighbours overlap to a flat response


def test_log_mel_is_that_of_a_naive_transform():
    rate, window, hop, mels = 8000, 0.02, 0.01, 12
    wave = torch.randn(2, 800, generator=rng(), dtype=torch.float64)
    found = log_mel(wave, rate, window, hop, mels, 50, 4000)
    assert found.shape == (2, mels, 10)
    size, length, step = 256, 160, 80
    hann = np.array([0.5 - 0.5 * math.cos(2 * math.pi * n / length) for n in range(length)])
    bands = mel_bands(rate, size, mels, 50, 4000).double().numpy()
    for b in range(2):
        padded = np.pad(wave[b].numpy(), size // 2, mode="reflect")
        for f in range(10):
            piece = padded[f * step : f * step + size].copy()
            left = (size - length) // 2
            seen = np.zeros(size)
            seen[left : left + length] = piece[left : left + length] * hann
            power = np.zeros(size // 2 + 1)
            for k in range(size // 2 + 1):
                turn = np.exp(-2j * math.pi * k * np.arange(size) / size)
                power[k] = abs((seen * turn).sum() * 2 / hann.sum()) ** 2
            want = np.log(np.maximum(bands @ power, FLOOR))
            np.testing.assert_allclose(found[b, :, f].numpy(), want, atol=2e-4)


@pytest.mark.parametrize("hertz", [300.0, 1000.0, 3000.0])
def test_a_tone_peaks_in_its_band_at_its_level(hertz):
    rate = 16000
    t = torch.arange(rate) / rate
    x = log_mel(torch.sin(2 * math.pi * hertz * t)[None], rate, 0.032, 0.01, 64, 60, 7800)[0, :, 50]
    edge = np.linspace(2595 * math.log10(1 + 60 / 700), 2595 * math.log10(1 + 7800 / 700), 66)
    nearest = np.abs(edge[1:-1] - 2595 * math.log10(1 + hertz / 700)).argmin()
    assert int(x.argmax()) == nearest
    assert -1.5 < float(x.max()) < 1.0
    quieter = log_mel(0.1 * torch.sin(2 * math.pi * hertz * t)[None], rate, 0.032, 0.01, 64, 60, 7800)[0, :, 50]
    assert float(x.max() - quieter.max()) == pytest.approx(math.log(100), abs=1e-3)


def test_silence_is_the_floor():
    x = log_mel(torch.zeros(1, 4000), 8000, 0.025, 0.01, 16, 60, 4000)
    assert (x == math.log(FLOOR)).all()


def test_crops_start_anywhere_and_are_followed_by_silence():
    audio = torch.arange(1, 101, dtype=torch.int16)[None].repeat(3, 1)
    made = cut(audio, torch.tensor([0, 50, 90]), 10)
    assert (made[:, 0] * 32768).tolist() == [1, 51, 91] and made.dtype == torch.float32
    assert (cut(audio, torch.zeros(3, dtype=torch.long), 120)[:, 100:] == 0).all()
    wave = Wave(rate=100, seconds=0.1)
    many = (wave({"audio": audio[:1].repeat(20_000, 1)}, rng())["x"][:, 0, 0] * 32768).long() - 1
    share = torch.bincount(many, minlength=91).float() / 20_000
    assert many.max() == 90 and (share - 1 / 91).abs().max() < 0.004
    assert (wave.plain({"audio": audio})["audio"][:, 0, 0] * 32768).tolist() == [46] * 3


def test_gain_and_noise_have_their_size():
    audio = sound(200)
    clean = Wave(rate=8000, seconds=1.0)({"audio": audio}, rng(2))["x"]
    louder = Wave(rate=8000, seconds=1.0, gain=(-6.0, 6.0))({"audio": audio}, rng(2))["x"]
    decibel = 20 * (louder.std((1, 2)) / clean.std((1, 2))).log10()
    assert decibel.abs().max() <= 6.001 and decibel.std() == pytest.approx(12 / 12**0.5, rel=0.1)
    noisy = Wave(rate=8000, seconds=1.0, noise=(0.2, 0.4))({"audio": audio}, rng(2))["x"]
    share = (noisy - clean).std((1, 2)) / clean.std((1, 2))
    assert share.min() > 0.19 and share.max() < 0.41 and share.std() > 0.03


def test_masks_hide_one_stripe_of_time_and_one_of_pitch():
    u = torch.rand(2, 500, 1, generator=rng())
    hidden = stripe(40, 0.5 * u[0], u[1])
    assert (hidden.sum(1) == (20 * u[0, :, 0]).floor()).all()
    assert (hidden.int().diff(dim=1).abs().sum(1) <= 2).all()
    assert hidden[:, 0].any() and hidden[:, -1].any()
    view = LogMel(rate=8000, seconds=0.64, mels=32, hide_time=0.4, hide_mels=0.4)
    plain = LogMel(rate=8000, seconds=0.64, mels=32)
    a, b = (v({"audio": sound(64)}, rng(1))["x"] for v in (view, plain))
    masked = a != b
    assert a.shape == (64, 1, 32, 64) and (a[masked] == 0).all()
    assert 0.2 < masked.float().mean() < 0.45
    assert torch.equal(view.plain({"audio": sound()})["audio"], plain.plain({"audio": sound()})["audio"])


def test_sound_is_in_time_with_its_clip():
    """A click and a flash that happen together are in the middle of the view together."""
    stored, samples = 40, 16000
    flash = torch.arange(3, 37).repeat(3)
    video = torch.zeros(len(flash), stored, 16, 16, 3, dtype=torch.uint8)
    audio = torch.zeros(len(flash), samples, dtype=torch.int16)
    for i, f in enumerate(flash):
        video[i, f] = 255
        audio[i, int((f + 0.5) / stored * samples)] = 30000
    sound_view = LogMel(rate=8000, seconds=0.64, window=0.01, mels=16)
    raw = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "jitter": (0.0,) * 4}
    view = SoundingClip(size=16, frames=9, stride=1, sound=sound_view, **raw)
    made = view({"video": video, "audio": audio}, rng())
    light = made["video"].mean((1, 3, 4))
    seen = light.max(1).values > 0.5
    assert 10 < seen.sum() < 90
    frame = light.argmax(1)[seen]
    heard = made["audio"][:, 0].mean(1).argmax(1)[seen] * 0.01
    middle = 0.32 + (frame - 4) * (2 / stored)  # seconds: two stored seconds for 40 frames
    start = view.when(video, torch.rand(len(flash), generator=rng()))[:, 0][seen]
    inside = (start + 4.5) / stored * 2  # where the window was not pushed in from the border
    free = (inside > 0.33) & (inside < 1.67)
    assert free.sum() > 5
    assert (heard - middle)[free].abs().max() < 0.025
    moved = SoundingClip(size=16, frames=9, stride=1, sound=sound_view, shift=0.3, **raw)
    other = moved({"video": video, "audio": audio}, rng())["audio"][:, 0].mean(1).argmax(1)[seen] * 0.01
    assert (other - heard)[free].abs().max() > 0.1
