"""The embedded toy world as a data set: rendered into the cache at first use, no download."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nolabel.core import UserError
from nolabel.data.columns import Column
from nolabel.data.form import Form
from nolabel.data.listing import Listing

TRAIN, TEST = 20_000, 4_000
TEST_FROM = 10**9
"""index of the first test sample, out of reach of any training set"""
PROFILES = ("easy", "std", "hard")


class ToyImages(Column):
    """Images of the toy world from sample `first` on, rendered when asked for: uint8 (size, size, channels)."""

    def __init__(self, first: int, count: int, size: int, channels: int, profile: str) -> None:
        self.first, self.count, self.profile = first, count, profile
        self.shape: tuple[int, ...] = (size, size, channels)

    def __len__(self) -> int:
        return self.count

    def take(self, rows: Tensor) -> Tensor:
        """(B,) int64 -> uint8 (B, size, size, channels)."""
        image = torch.from_numpy(self.render(rows)["image"])
        if self.shape[2] == 3:
            return image
        return (image.float() @ torch.tensor([0.299, 0.587, 0.114])).round().to(torch.uint8)[..., None]

    def render(self, rows: Tensor, size: int | None = None) -> dict:
        """Images and labels of some rows."""
        from nolabel.data.toyworld.images import render

        return render((self.first + rows).numpy(), size or self.shape[0], self.profile, 0)


def listings(option: str, columns: Sequence[str], form: Form) -> dict[str, Listing]:
    """20,000 training and 4,000 test images of a profile at `form.size` (32 by default). Raises UserError for others."""
    profile, size, channels = option or "easy", form.size, form.channels
    if profile not in PROFILES:
        raise UserError(f"the toy world has no profile {profile!r}; use one of {', '.join(PROFILES)}")
    from nolabel.data.toyworld import images

    code = hashlib.sha256()
    for file in sorted(Path(images.__file__).parent.glob("*.py")):
        code.update(file.read_bytes())  # a change of the world makes new images
    result = {}
    for split, first, count in (("train", 0, TRAIN), ("test", TEST_FROM, TEST)):
        world = ToyImages(first, count, size or 32, channels, profile)
        labels = torch.from_numpy(world.render(torch.arange(count), size=8)["label"])
        result[split] = Listing(
            {"image": world}, f"toyworld {profile} {first} {code.hexdigest()}", labels, tuple(images.CLASSES)
        )
    return result
