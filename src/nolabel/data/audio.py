"""Sound files, and the sound of videos, to pieces of one form: mono, one rate, one length, 16 bits.

Channels are averaged, other rates are resampled, what lies beyond the end is silence. Files of `soundfile` (wav, flac,
ogg, mp3) need nolabel[audio], all others and the sound of videos PyAV, nolabel[video].
"""

import io
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nolabel.core import UserError
from nolabel.data import video
from nolabel.data.pieces import Piece

FULL = 32767


def library() -> Any:
    """soundfile. Raises UserError where it is not installed."""
    try:
        import soundfile
    except (ImportError, OSError):
        raise UserError("reading sound needs one more package: pip install 'nolabel[audio]'") from None
    return soundfile


def about(source: Any) -> tuple[float, int]:
    """Seconds and samples a second of a file, a path or its bytes, by its header."""
    if _is_sound(source):
        info = library().info(source if isinstance(source, str) else io.BytesIO(source))
        return info.frames / info.samplerate, info.samplerate
    with video._open(source) as container:
        stream = _sound(container)
        length = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        return length, stream.rate


@dataclass(frozen=True)
class Sound:
    """The decoder of sound."""

    rate: int
    seconds: float
    dtype: ClassVar[type] = np.int16

    @property
    def shape(self) -> tuple[int, ...]:
        """(S,)."""
        return (max(1, round(self.rate * self.seconds)),)

    def __call__(self, blob: Piece | NDArray, out: NDArray[np.int16]) -> None:
        """Write a sound into `out` (S,). An array of samples, integers or -1..1, is one at this rate already.

        Raises whatever the decoder raises on a damaged file, and ValueError where there is no sound.
        """
        if isinstance(blob, np.ndarray):
            wave = blob
        elif _is_sound(blob.source):
            wave = self._read(blob)
        else:
            wave = self._decode(blob)
        if len(wave) == 0:
            raise ValueError("no sound in this file")
        found = to_int16(wave[: len(out)])
        out[: len(found)], out[len(found) :] = found, 0

    def _read(self, piece: Piece) -> NDArray:
        source = piece.source if isinstance(piece.source, str) else io.BytesIO(piece.source)
        with library().SoundFile(source) as file:
            file.seek(min(file.frames, round(piece.start * file.samplerate)))
            count = math.ceil(self.seconds * file.samplerate)
            return resample(file.read(count, dtype="float32", always_2d=True).mean(1), file.samplerate, self.rate)

    def _decode(self, piece: Piece) -> NDArray:
        """Through PyAV, from the key frame before the start on."""
        with video._open(piece.source) as container:
            stream = _sound(container)
            first = float((stream.start_time or 0) * stream.time_base)
            if container.streams.video:  # sound and pictures need not begin together
                pictures = container.streams.video[0]
                first = float((pictures.start_time or 0) * pictures.time_base)
            begin = piece.start + first
            if piece.start > 1:
                container.seek(int((begin - 0.5) / stream.time_base), stream=stream)
            resampler = video.library().AudioResampler(format="flt", layout="mono", rate=self.rate)
            parts, at, wanted = [], None, self.shape[0]
            for frame in container.decode(stream):
                if at is None:
                    at = round(((frame.time or 0.0) - begin) * self.rate)
                parts += [made.to_ndarray()[0] for made in resampler.resample(frame)]
                if at + sum(map(len, parts)) >= wanted:
                    break
            parts += [made.to_ndarray()[0] for made in resampler.resample(None)]
        wave = np.concatenate(parts) if parts else np.empty(0, np.float32)
        at = at or 0
        return wave[-at:] if at < 0 else np.concatenate((np.zeros(min(at, wanted), wave.dtype), wave))


def resample(wave: NDArray, rate: int, wanted: int) -> NDArray:
    """A wave (S,) at another rate, by a polyphase filter."""
    if rate == wanted:
        return wave
    from scipy.signal import resample_poly

    common = math.gcd(rate, wanted)
    return resample_poly(wave, wanted // common, rate // common)  # type: ignore[no-any-return]


def to_int16(wave: NDArray, full: float | None = None) -> NDArray[np.int16]:
    """Samples of any number type as int16. Raises ValueError where they are not finite.

    full: what counts as the loudest, a power of two; by default 1 for floats and what the type can hold for integers. The
        middle of unsigned ones is silence.
    """
    if wave.dtype == np.int16:
        return wave
    if wave.dtype.kind in "iu":
        half = 2 ** (8 * wave.dtype.itemsize - 1)
        signed = wave.astype(np.int64) - (half if wave.dtype.kind == "u" else 0)
        shift = round(math.log2(full or half)) - 15
        return (signed >> shift if shift >= 0 else signed << -shift).astype(np.int16)
    if not np.isfinite(wave).all():
        raise ValueError("samples are not finite")
    return np.clip(np.rint(wave * (FULL / (full or 1))), -FULL - 1, FULL).astype(np.int16)


def _sound(container: Any) -> Any:
    if not container.streams.audio:
        raise ValueError("no sound in this file")
    return container.streams.audio[0]


def _is_sound(source: Any) -> bool:
    """Whether soundfile reads it, by its first bytes."""
    if isinstance(source, str):
        with open(source, "rb") as file:
            head = file.read(12)
    else:
        head = bytes(source[:12])
    wave = head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE"
    return wave or head[:4] in (b"fLaC", b"OggS", b"FORM", b".snd") or head[:3] == b"ID3" or _is_mp3(head)


def _is_mp3(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2
