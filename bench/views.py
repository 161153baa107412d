"""Image views a second beside lightly, torchvision v2 and kornia, from decoded uint8 images in memory.

One thread unless the case says otherwise; peers get PIL images or tensors, whichever they are made for, and their views
are stacked into batches as training needs them. `python -m bench.views [cuda]` prints the rows.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.harness import Row, compare, installed
from nolabel.views import MultiCrop, TwoViews

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = TwoViews(size=32, strength=0.5, blur=(0.0, 0.0))
LARGE = TwoViews(size=224)
CROPS = MultiCrop()


def rows(device: str = "cpu", quick: bool = False) -> list[Row]:
    return on_cpu(quick) if device == "cpu" else on_device(device)


def on_cpu(quick: bool) -> list[Row]:
    threads, rounds = torch.get_num_threads(), 3 if quick else 7
    small, large = pictures(512, 32), pictures(16 if quick else 32, 256)
    found: list[Row] = []

    def case(name: str, ours: Callable[[], object], peers: dict[str, Callable[[], object]], work: int) -> None:
        found.extend(compare("views", name, ours, peers, work=work, unit="views", rounds=rounds, warmup=2))

    torch.set_num_threads(1)
    try:
        work = 2 * len(small)
        case("simclr 32 px", batched(SMALL, small), simclr_peers(SMALL, small), work)
        lightly = {k: v for k, v in simclr_peers(SMALL, small).items() if k == "lightly"}
        case("simclr 32 px, torch executor", batched(SMALL, small, "torch"), lightly, work)
        if not quick:
            case("simclr 32 px, compiled executor", batched(SMALL, small, "compiled"), lightly, work)
        case("simclr 256 -> 224 px", batched(LARGE, large), simclr_peers(LARGE, large), 2 * len(large))
        case("multi-crop 256 -> 2 x 224 + 8 x 96 px", batched(CROPS, large[:16]), dino_peers(large[:16]), 160)
        torch.set_num_threads(2)
        many = pictures(1024 if quick else 4096, 32)
        case("simclr 32 px, two cores", batched(SMALL, many), loader_peers(SMALL, many), 2 * len(many))
    finally:
        torch.set_num_threads(threads)
    return found


def on_device(device: str) -> list[Row]:
    found: list[Row] = []
    for name, maker, size, count, views in (
        ("simclr 32 px", SMALL, 32, 4096, 2),
        ("simclr 256 -> 224 px", LARGE, 256, 256, 2),
        ("multi-crop 256 -> 2 x 224 + 8 x 96 px", CROPS, 256, 128, 10),
    ):
        images = pictures(count, size).to(device)
        peers = {"compiled executor": waited(batched(maker, images, "compiled"))}
        if installed("kornia") and views == 2:
            peers["kornia"] = waited(kornia_views(maker, images))
        ours = waited(batched(maker, images, "torch"))
        found += compare("views", f"{name}, {device}", ours, peers, work=views * count, unit="views", warmup=3)
    return found


def pictures(count: int, size: int) -> Tensor:
    """Smooth colours with some noise, uint8 (B, size, size, 3); the content changes no peer's speed."""
    g = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.rand(count, 3, 4, 4, generator=g), (size, size), mode="bilinear")
    noisy = smooth * 255 + 8 * torch.randn(count, 3, size, size, generator=g)
    return noisy.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def batched(maker: Any, images: Tensor, executor: Any = None) -> Callable[[], object]:
    """One call a batch of at most 512 images."""
    g = torch.Generator(images.device).manual_seed(0)
    return lambda: [maker({"image": part}, g, executor=executor) for part in images.split(512)]


def waited(call: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        call()
        torch.cuda.synchronize()

    return run


def pil(images: Tensor) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(image.numpy()) for image in images]


def stacked(transform: Callable[[Any], list[Tensor]], items: list[Any]) -> Callable[[], object]:
    return lambda: [torch.stack(view) for view in zip(*map(transform, items))]


def simclr_peers(maker: TwoViews, images: Tensor) -> dict[str, Callable[[], object]]:
    from torchvision.transforms import v2

    peers: dict[str, Callable[[], object]] = {}
    if installed("lightly"):
        peers["lightly"] = stacked(lightly_simclr(maker), pil(images))
    steps = [
        v2.RandomResizedCrop(maker.size, maker.scale, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(*maker.each()[0].jitter)], maker.jitter_p),
        v2.RandomGrayscale(maker.gray),
        *([v2.RandomApply([v2.GaussianBlur(13, maker.blur_sigma)], maker.blur[0])] if maker.blur[0] else []),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(MEAN), list(STD)),
    ]
    one = v2.Compose(steps)
    peers["torchvision v2"] = stacked(lambda x: [one(x), one(x)], list(images.permute(0, 3, 1, 2).contiguous()))
    if installed("kornia"):
        peers["kornia"] = kornia_views(maker, images)
    return peers


def lightly_simclr(maker: TwoViews) -> Callable[[Any], list[Tensor]]:
    from lightly.transforms import SimCLRTransform

    return SimCLRTransform(input_size=maker.size, cj_strength=maker.strength, gaussian_blur=maker.blur[0])


def dino_peers(images: Tensor) -> dict[str, Callable[[], object]]:
    if not installed("lightly"):
        return {}
    from lightly.transforms import DINOTransform

    transform = DINOTransform(n_local_views=8)
    items = pil(images)

    def run() -> object:
        views = list(zip(*map(transform, items)))
        return [torch.stack(view) for view in views]

    return {"lightly": run}


def loader_peers(maker: TwoViews, images: Tensor) -> dict[str, Callable[[], object]]:
    if not installed("lightly"):
        return {}
    transform, items = lightly_simclr(maker), pil(images)

    class Set(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(items)

        def __getitem__(self, i: int) -> list[Tensor]:
            return transform(items[i])

    loader = torch.utils.data.DataLoader(Set(), batch_size=256, num_workers=2, persistent_workers=True)
    return {"lightly, DataLoader with 2 workers": lambda: sum(len(views[0]) for views in loader)}


def kornia_views(maker: TwoViews, images: Tensor) -> Callable[[], object]:
    import kornia.augmentation as K

    blur = [K.RandomGaussianBlur((13, 13), maker.blur_sigma, p=maker.blur[0])] if maker.blur[0] else []
    one = torch.nn.Sequential(
        K.RandomResizedCrop((maker.size, maker.size), maker.scale),
        K.RandomHorizontalFlip(),
        K.ColorJitter(*maker.each()[0].jitter, p=maker.jitter_p),
        K.RandomGrayscale(p=maker.gray),
        *blur,
        K.Normalize(list(MEAN), list(STD)),
    )

    def run() -> object:
        out = []
        for part in images.split(256):
            x = part.permute(0, 3, 1, 2).float() / 255
            out.append((one(x), one(x)))
        return out

    return run


if __name__ == "__main__":
    for row in rows(*sys.argv[1:2]):
        ratio = "" if row["ratio"] is None else f"{row['ratio']:6.1f} x {row['peer_name']}"
        print(f"{row['case']:42s} {row['ours']:10.0f} {row['unit']} {ratio}")
