"""Video files to clips of one form: T frames at a fixed rate, squares of one size. Needs PyAV: nolabel[video].

The frame of a moment is the one that is shown then: the last that begins no later. What lies beyond the end repeats the
last frame. Frames are turned upright, scaled so that the shorter side fits, and cropped to the centre.
"""

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nolabel.core import UserError
from nolabel.data.decode import MOST_PIXELS, fit
from nolabel.data.pieces import Piece

_AHEAD = 4.0
"""seconds that are decoded and dropped rather than sought"""
_EARLY = 1e-3
"""seconds by which time stamps may be rounded"""


def library() -> Any:
    """PyAV. Raises UserError where it is not installed."""
    try:
        import av
    except ImportError:
        raise UserError("reading video needs one more package: pip install 'nolabel[video]'") from None
    av.logging.set_level(av.logging.PANIC)
    return av


def seconds(source: Any) -> float:
    """Length of a file, a path or its bytes, by its header; decodes where that does not say."""
    with _open(source) as container:
        stream = _video(container)
        if stream.duration:
            return float(stream.duration * stream.time_base)
        if container.duration:
            return container.duration / 1e6  # type: ignore[no-any-return]
        times = [frame.time for frame in container.decode(stream)]
        return float(times[-1] - times[0]) * len(times) / max(1, len(times) - 1)


def shorter_side(source: Any) -> int:
    """Of its frames, in pixels. An array (T, H, W, C) is a clip, too."""
    if isinstance(source, np.ndarray):
        return min(source.shape[1:3])
    with _open(source) as container:
        stream = _video(container)
        return min(stream.width, stream.height)


@dataclass(frozen=True)
class Clip:
    """The decoder of video."""

    frames: int
    fps: float
    size: int
    channels: int = 3
    dtype: ClassVar[type] = np.uint8

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, S, S, C)."""
        return (self.frames, self.size, self.size, self.channels)

    def __call__(self, blob: Piece | NDArray, out: NDArray[np.uint8]) -> None:
        """Write a clip into `out` (T, S, S, C): the frames shown at start, start + 1 / fps, ...

        An array (T', H, W, C') is a clip at this rate already. Raises whatever the decoder raises on a damaged file, and
        ValueError where there is no frame.
        """
        if isinstance(blob, np.ndarray):
            for t in range(self.frames):
                fit(_channels(blob[min(t, len(blob) - 1)], self.channels), out[t])
            return
        reader = _reader(blob.source)
        try:
            shown = reader.frames([blob.start + t / self.fps for t in range(self.frames)])
            last = None
            for t, frame in enumerate(shown):
                if frame is last:
                    out[t] = out[t - 1]
                else:
                    self._draw(frame, out[t])
                last = frame
        except BaseException:
            _close()
            raise

    def _draw(self, frame: Any, out: NDArray[np.uint8]) -> None:
        """One frame upright, scaled and cropped to the centre."""
        if frame.width * frame.height > MOST_PIXELS:
            raise ValueError(f"{frame.width} x {frame.height} pixels are too many")
        scale = self.size / min(frame.width, frame.height)
        width, height = (max(self.size, round(side * scale)) for side in (frame.width, frame.height))
        small = frame.reformat(width, height, "rgb24" if self.channels == 3 else "gray", interpolation="AREA")
        pixels = small.to_ndarray().reshape(height, width, self.channels)
        top, left = (height - self.size) // 2, (width - self.size) // 2
        square = pixels[top : top + self.size, left : left + self.size]
        out[:] = np.rot90(square, round(getattr(frame, "rotation", 0) / 90) % 4)


class _Reader:
    """A file that is decoded forwards; it is kept open, since the next piece mostly begins where the last one ended."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.container = _open(source)
        self.stream = _video(self.container)
        self.stream.thread_type = "NONE"  # samples are decoded side by side already
        self.first = float((self.stream.start_time or 0) * self.stream.time_base)
        self.decoded: Iterator[Any] = self.container.decode(self.stream)
        self.shown: Any = None
        self.ahead: Any = None

    def frames(self, times: list[float]) -> list[Any]:
        """The frames shown at ascending times, in seconds from the first frame."""
        here = self._time(self.shown) if self.shown is not None else 0.0
        if here > times[0] + _EARLY or times[0] - here > _AHEAD:
            self._seek(times[0])
        return [self._at(time) for time in times]

    def _at(self, time: float) -> Any:
        while True:
            if self.ahead is None:
                self.ahead = next(self.decoded, None)
            if self.shown is None and self.ahead is None:
                raise ValueError("no frames")
            if self.ahead is None or (self.shown is not None and self._time(self.ahead) > time + _EARLY):
                return self.shown
            self.shown, self.ahead = self.ahead, None

    def _seek(self, time: float) -> None:
        self.shown = self.ahead = None
        target = int((time + self.first) / self.stream.time_base)
        self.container.seek(max(0, target), stream=self.stream)
        self.decoded = self.container.decode(self.stream)
        first = next(self.decoded, None)
        if first is None or self._time(first) > time + _EARLY:  # an index that is wrong: from the beginning
            self.container.close()
            self.__init__(self.source)  # type: ignore[misc]
        else:
            self.shown = first

    def _time(self, frame: Any) -> float:
        return (frame.time if frame.time is not None else 0.0) - self.first


_local = threading.local()


def _reader(source: Any) -> _Reader:
    """The open reader of this thread, if it is of this file."""
    reader = getattr(_local, "reader", None)
    if reader is not None and (reader.source is source or (isinstance(source, str) and reader.source == source)):
        return reader  # type: ignore[no-any-return]
    _close()
    _local.reader = _Reader(source)
    return _local.reader  # type: ignore[no-any-return]


def _close() -> None:
    reader = getattr(_local, "reader", None)
    if reader is not None:
        reader.container.close()
    _local.reader = None


def _open(source: Any) -> Any:
    return library().open(source if isinstance(source, str) else io.BytesIO(source), metadata_errors="ignore")


def _video(container: Any) -> Any:
    if not container.streams.video:
        raise ValueError("no video in this file")
    return container.streams.video[0]


def _channels(frame: NDArray, channels: int) -> NDArray[np.uint8]:
    """A frame (H, W) or (H, W, C) of uint8 with as many channels as asked for."""
    frame = frame[:, :, None] if frame.ndim == 2 else frame
    if frame.shape[2] == channels:
        return frame
    if channels == 3:
        return np.repeat(frame[:, :, :1], 3, 2) if frame.shape[2] < 3 else frame[:, :, :3]
    return (frame[:, :, :3] @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)[:, :, None]
