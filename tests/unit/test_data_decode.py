import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from nolabel.data.decode import decode, reason, shorter_side, to_uint8
from tests.unit.data_files import encode, jpeg, pixels


def decoded(blob, size=40, channels=3):
    out = np.full((size, size, channels), 7, np.uint8)
    decode(blob, out)
    return out


def centre(image: Image.Image, size: int) -> np.ndarray:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.crop(box).resize((size, size), Image.Resampling.BILINEAR)).astype(int)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(40, 40, 40), (60, 90, 40), (200, 131, 40), (9, 14, 40), (1, 1, 8)]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_scales_and_crops_as_pillow_does(height, width, size, kind):
    blob = encode(pixels(1, height, width), kind)
    got = decoded(blob, size).astype(int)
    want = centre(Image.open(io.BytesIO(blob)), size)
    assert abs(got - want).mean() < 3 and abs(got - want).max() <= (12 if kind == "JPEG" else 1)


def test_jpeg_of_the_right_size_equals_pillow_exactly():
    blob = jpeg(3)
    np.testing.assert_array_equal(decoded(blob), np.asarray(Image.open(io.BytesIO(blob))))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_orientation_is_applied(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    blob = encode(pixels(5, 40, 56), kind, exif=exif)
    want = centre(ImageOps.exif_transpose(Image.open(io.BytesIO(blob))), 40)
    assert abs(decoded(blob).astype(int) - want).max() <= 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_orientation_does_not_lose_the_image():
    blob = encode(pixels(5), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert abs(decoded(blob).astype(int) - decoded(encode(pixels(5))).astype(int)).max() == 0


def test_modes_become_rgb():
    grey = pixels(2)[..., 0]
    rgb = np.repeat(grey[..., None], 3, 2)
    alpha = np.full((40, 40, 4), 0, np.uint8)
    np.testing.assert_array_equal(decoded(encode(grey, "PNG")), rgb)
    np.testing.assert_array_equal(decoded(encode(grey.astype(np.uint16) * 257, "PNG")), rgb)
    np.testing.assert_array_equal(decoded(encode((grey / 255).astype(np.float32), "TIFF")), rgb)
    np.testing.assert_array_equal(decoded(encode(grey > 99, "PNG")), np.where(rgb > 99, 255, 0))
    assert (decoded(encode(alpha, "PNG")) == 255).all(), "transparent pixels lie over white"
    file = io.BytesIO()
    Image.fromarray(pixels(2)).convert("P", palette=Image.Palette.ADAPTIVE).save(file, "GIF")
    assert abs(decoded(file.getvalue()).astype(int) - pixels(2)).mean() < 8
    file = io.BytesIO()
    Image.fromarray(pixels(2)).convert("CMYK").save(file, "JPEG", quality=95)
    assert abs(decoded(file.getvalue()).astype(int) - pixels(2)).mean() < 6
    grey_jpeg = encode(grey, "JPEG", quality=95)
    assert abs(decoded(grey_jpeg).astype(int) - rgb).mean() < 3
    assert abs(decoded(jpeg(2), channels=1)[..., 0].astype(int) - Image.fromarray(pixels(2)).convert("L")).mean() < 3
    assert abs(decoded(encode(pixels(2), "PNG"), channels=1)[..., 0].astype(int) - grey).mean() < 80


def test_numbers_become_uint8():
    np.testing.assert_array_equal(to_uint8(np.array([0.0, 0.5, 1.0]), 1), [0, 128, 255])
    np.testing.assert_array_equal(to_uint8(np.array([0, 32768, 65535]), 65535), [0, 128, 255])
    with pytest.raises(ValueError, match="finite"):
        to_uint8(np.array([np.nan]), 1)


def bomb() -> bytes:
    header = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    chunk = (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")


def overwritten(blob: bytes) -> bytes:
    middle = len(blob) // 2
    return blob[:middle] + bytes(64) + blob[middle + 64 :]


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (b"", "empty file"),
        (b"hello", "not an image of a known format"),
        (jpeg(1)[:-200], "truncated"),
        (jpeg(1)[:30], ""),
        (encode(pixels(1), "PNG")[:-400], ""),
        (overwritten(encode(pixels(1), "PNG")), "data stream"),
        (bomb(), "decompression bomb"),
        (np.zeros((0, 5, 3), np.uint8), ""),
    ],
)
def test_damaged_images_raise_with_a_reason(blob, why):
    with pytest.raises(Exception) as error:
        decoded(blob)
    text = reason(error.value)
    assert why in text and text and "\n" not in text and "0x" not in text


def test_harmless_warnings_do_not_lose_a_jpeg():
    blob = jpeg(1)
    end = blob.rindex(b"\xff\xd9")
    noisy = blob[:end] + b"\x00\x00\x00" + blob[end:]
    assert abs(decoded(noisy).astype(int) - decoded(blob)).max() == 0


def test_shorter_side():
    assert [shorter_side(encode(pixels(1, 30, 50), kind)) for kind in ("JPEG", "PNG", "WEBP")] == [30, 30, 30]
