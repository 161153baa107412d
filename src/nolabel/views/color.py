"""Colour spaces as functions of RGB in [0, 1]: CIE Lab, and the luminance-chroma space YDbDr of SECAM.

Shapes: (..., 3, H, W) to the same.
"""

from functools import cache

import torch
from torch import Tensor

# rows X, Y, Z of the sRGB primaries under the white D65 (IEC 61966-2-1)
_XYZ = torch.tensor(
    ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227)), dtype=torch.double
)
_MATRICES = {
    "xyz": _XYZ / _XYZ.sum(1, keepdim=True),  # in units of the white
    "ydbdr": torch.tensor(((0.299, 0.587, 0.114), (-0.450, -0.883, 1.333), (-1.333, 1.116, 0.217)), dtype=torch.double),
}


@cache
def _matrix(name: str, inverse: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Made once for each device: a copy to it would be waited for."""
    matrix = _MATRICES[name]
    return (torch.linalg.inv(matrix) if inverse else matrix).to(device, dtype)


def _mix(x: Tensor, name: str, inverse: bool = False) -> Tensor:
    return torch.einsum("ij,...jhw->...ihw", _matrix(name, inverse, x.dtype, x.device), x)


def rgb_to_lab(x: Tensor) -> Tensor:
    """sRGB -> L in [0, 100], a and b in about [-108, 98] (CIE 1976, D65). Values outside of [0, 1] are clipped."""
    x = x.clamp(0, 1)
    linear = torch.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    ratio = _mix(linear, "xyz")
    f = torch.where(ratio > (6 / 29) ** 3, ratio.clamp(min=1e-12) ** (1 / 3), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    fx, fy, fz = f.unbind(-3)
    return torch.stack((116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)), -3)


def lab_to_rgb(x: Tensor) -> Tensor:
    """The inverse; colours that no screen has are clipped."""
    light, a, b = x.unbind(-3)
    fy = (light + 16) / 116
    f = torch.stack((fy + a / 500, fy, fy - b / 200), -3)
    linear = _mix(torch.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)), "xyz", inverse=True).clamp(0, 1)
    return torch.where(linear > 0.0031308, 1.055 * linear.clamp(min=1e-12) ** (1 / 2.4) - 0.055, 12.92 * linear)


def rgb_to_ydbdr(x: Tensor) -> Tensor:
    """RGB -> Y in [0, 1], Db and Dr in [-1.333, 1.333]."""
    return _mix(x, "ydbdr")


def ydbdr_to_rgb(x: Tensor) -> Tensor:
    """The inverse."""
    return _mix(x, "ydbdr", inverse=True)
