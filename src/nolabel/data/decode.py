"""From the bytes of an image file to uint8 pixels: any mode to RGB or grey, upright, scaled and cropped to a square.

What becomes of unusual images: orientation tags are applied; transparent pixels are laid over white; 16-bit grey is
divided by 257; float images count as 0..1, or as 0..255 where they exceed 2; CMYK and palettes are converted; of an
animation the first frame is used. Colour profiles are ignored. What cannot be decoded whole raises.
"""

import io
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
"""of names that count as images"""
MOST_PIXELS = 178_956_970
"""Pillow's own limit against decompression bombs"""

Blob = bytes | memoryview | NDArray
_ORIENTATION = 0x0112
_FLIPS = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}


@dataclass(frozen=True)
class Picture:
    """The decoder of images: squares of one size."""

    size: int
    channels: int = 3
    dtype: ClassVar[type] = np.uint8

    @property
    def shape(self) -> tuple[int, ...]:
        """(size, size, channels)."""
        return (self.size, self.size, self.channels)

    def __call__(self, blob: Blob, out: NDArray[np.uint8]) -> None:
        """See `decode`."""
        decode(blob, out)


def decode(blob: Blob, out: NDArray[np.uint8]) -> None:
    """Write one image, encoded or as uint8 pixels, into `out` (S, S, C) with C 3 (RGB) or 1 (grey).

    The largest centred square is scaled to S with an antialiased bilinear filter, which is the same as scaling the
    shorter side to S and cropping the centre. Raises whatever the decoder raises on a damaged image.
    """
    if isinstance(blob, np.ndarray):
        fit(pixels_of(blob, out.shape[2]), out)
    elif len(blob) == 0:
        raise ValueError("empty file")
    elif not (_is_jpeg(blob) and _decode_jpeg(blob, out)):
        _decode_any(blob, out)


def _is_jpeg(blob: bytes | memoryview) -> bool:
    return blob[:3] == b"\xff\xd8\xff"


def _decode_jpeg(jpeg: bytes | memoryview, out: NDArray[np.uint8]) -> bool:
    """The fast path, straight into `out` where the size fits; False for what Pillow must judge."""
    size, space = len(out), "RGB" if out.shape[2] == 3 else "GRAY"
    try:
        height, width, stored, _ = simplejpeg.decode_jpeg_header(jpeg)
        if stored not in ("YCbCr", "RGB", "Gray") or height * width > MOST_PIXELS:
            return False
        if height == width == size:
            simplejpeg.decode_jpeg(jpeg, space, buffer=out)
        else:
            # Scaling by 2, 4 or 8 inside the inverse DCT saves time; other factors cost more than they save.
            factor = next((f for f in (8, 4, 2) if min(height, width) >= f * size), 1)
            least = -(-height // factor), -(-width // factor)
            fit(simplejpeg.decode_jpeg(jpeg, space, min_height=least[0], min_width=least[1], min_factor=factor), out)
    except ValueError:  # strict about every warning: Pillow then tells truncated files from harmless ones
        return False
    turn(out, _orientation(jpeg))
    return True


def _decode_any(blob: bytes | memoryview, out: NDArray[np.uint8]) -> None:
    with Image.open(io.BytesIO(blob)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        orientation = 1
        image.draft(image.mode, (len(out), len(out)))  # JPEG only: scaled decoding
        fit(pixels_of(image, out.shape[2]), out)
        # afterwards: of a PNG it reads the pixels, and what it says of damaged ones would be lost here
        with suppress(Exception):  # a damaged tag is no reason to lose the image
            orientation = image.getexif().get(_ORIENTATION, 1)
    turn(out, orientation)


def _orientation(jpeg: bytes | memoryview) -> int:
    """The EXIF orientation of a JPEG file, 1 (upright) to 8, found by walking its first segments."""
    at = 2
    while at + 10 <= len(jpeg) and jpeg[at] == 0xFF and (0xE0 <= jpeg[at + 1] <= 0xEF or jpeg[at + 1] == 0xFE):
        length = (jpeg[at + 2] << 8) + jpeg[at + 3]
        if jpeg[at + 1] == 0xE1 and jpeg[at + 4 : at + 10] == b"Exif\0\0":
            exif = Image.Exif()
            with suppress(Exception):  # as above
                exif.load(bytes(jpeg[at + 4 : at + 2 + length]))
            return exif.get(_ORIENTATION, 1)
        at += 2 + length
    return 1


def turn(square: NDArray[np.uint8], orientation: int) -> None:
    """Turn pixels (S, S, C) upright in place, from an EXIF orientation; an unknown one counts as upright."""
    if orientation in range(2, 9):
        turned = square.transpose(1, 0, 2) if orientation >= 5 else square
        square[:] = np.flip(turned, _FLIPS.get(orientation, ())).copy()


def pixels_of(image: Image.Image | NDArray, channels: int) -> NDArray[np.uint8]:
    """A Pillow image, or uint8 pixels (H, W) or (H, W, 1, 3 or 4), as uint8 (H, W, channels)."""
    if isinstance(image, np.ndarray):
        if image.ndim == 3 and image.shape[2] == channels:
            return image
        image = Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2:] == (1,) else image))
    if image.mode == "F":
        array = np.asarray(image)
        image = Image.fromarray(to_uint8(array, 255 if array.max() > 2 else 1))
    elif image.mode.startswith("I"):  # 16-bit files, which older Pillows open as 32-bit
        image = Image.fromarray(to_uint8(np.asarray(image), 65535))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if channels == 3:
        return np.asarray(image.convert("RGB"))
    return np.asarray(image.convert("RGB").convert("L") if image.mode != "L" else image)[:, :, None]


def to_uint8(array: NDArray, white: float) -> NDArray[np.uint8]:
    """Pixels of any number type as uint8, `white` becoming 255. Raises ValueError where they are not finite."""
    if array.dtype == np.uint8 and white == 255:
        return array
    if not np.isfinite(array).all():
        raise ValueError("pixels are not finite")
    return np.clip(np.rint(array * (255 / white)), 0, 255).astype(np.uint8)


def fit(pixels: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Scale the largest centred square of `pixels` (H, W, C) into `out` (S, S, C)."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    if side == 0:
        raise ValueError("image without pixels")
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    if side == len(out):
        out[:] = square
        return
    # torch warns of arrays that it may not write to, such as Pillow's
    tensor = torch.from_numpy(square if square.flags.writeable else square.copy()).permute(2, 0, 1)[None]
    scaled = torch.nn.functional.interpolate(tensor, size=out.shape[:2], mode="bilinear", antialias=True)
    out[:] = scaled[0].permute(1, 2, 0).numpy()


def shorter_side(blob: Blob) -> int:
    """The shorter side of an image in pixels, from its header alone. Raises on what is no image."""
    if isinstance(blob, np.ndarray):
        return min(blob.shape[:2])
    if _is_jpeg(blob):
        return min(simplejpeg.decode_jpeg_header(blob, strict=False)[:2])
    with Image.open(io.BytesIO(blob)) as image:
        return min(image.size)


def reason(error: Exception) -> str:
    """Why a sample could not be decoded, in one short line."""
    if isinstance(error, UnidentifiedImageError):  # its own text holds a memory address
        return "not an image of a known format"
    if isinstance(error, OSError) and error.errno:
        return error.strerror or type(error).__name__
    if isinstance(error, struct.error | SyntaxError | EOFError):
        return f"damaged: {error}"
    return " ".join(str(error).split())[:200] or type(error).__name__
