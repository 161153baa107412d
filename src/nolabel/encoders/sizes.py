"""Sides of pictures that divide into patches."""

from nolabel.core import UserError


def divided(name: str, size: int, parts: int) -> int:
    """Side of a patch where `parts` of them make `size` pixels. Raises UserError that names the sizes that would do."""
    if size % parts:
        below = size // parts * parts
        sizes = " or ".join(f"--size {side}" for side in (below, below + parts) if side)
        raise UserError(f"the encoder {name} needs a size that is a multiple of {parts} px, not {size}: take {sizes}")
    return size // parts
