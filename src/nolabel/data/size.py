"""The one side S at which all images of a set are kept."""

from collections.abc import Callable, Sequence
from typing import Any

from nolabel.core import UserError
from nolabel.data.columns import Store
from nolabel.data.decode import reason, shorter_side

_PROBES = 64


def stored_size(sides: Sequence[int], wanted: int | None) -> int:
    """S for images whose shorter sides are `sides`, when the encoder is to see `wanted` pixels (None: not said).

    Images of one size keep it, up to twice the wanted one, or up to 96 if none is; otherwise 8/7 of the wanted size in
    steps of 8 (224 -> 256: room for crops), or 64.
    """
    uniform = sides[0] if len(set(sides)) == 1 else None
    if uniform and uniform <= (96 if wanted is None else 2 * wanted):
        return uniform
    return 64 if wanted is None else max(8, 8 * round(wanted / 7))


def probe(store: Store, look: Callable[[Any], int] = shorter_side) -> list[int]:
    """Shorter sides of up to 64 images, evenly spread over the store. Raises UserError where none is an image.

    `look` tells the shorter side of what the store gives.
    """
    count = len(store)
    sides, why = [], ""
    for row in sorted({i * count // _PROBES for i in range(_PROBES)}):
        try:
            sides.append(look(store.read(row)))
        except UserError:
            raise
        except Exception as error:  # a damaged file can raise anything; decoding will name it
            why = f"{store.name(row)}: {reason(error)}"
    if sides:
        return sides
    what = "an image" if look is shorter_side else "video"
    raise UserError(f"none of {min(count, _PROBES)} files tried can be read as {what}, e.g. {why}; check the data")
