"""From the colours of screens to the colours of sight."""

import torch
from torch import Tensor

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.950456, 1.0, 1.088754)


def rgb_to_lab(x_BC: Tensor) -> Tensor:
    """sRGB in [0, 1] to CIELAB under D65: (B, 3, ...) -> (B, 3, ...), L in [0, 100], a and b about -110 to 110."""
    x = x_BC.float().clamp(0, 1)
    linear = torch.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    r, g, b = linear.unbind(1)
    t = [(wr * r + wg * g + wb * b) / white for (wr, wg, wb), white in zip(_TO_XYZ, _WHITE)]
    fx, fy, fz = (torch.where(v > 216 / 24389, v.clamp_min(1e-9) ** (1 / 3), (24389 / 27 * v + 16) / 116) for v in t)
    return torch.stack((116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)), 1)
