"""Image views against torchvision and Pillow with the same drawn parameters, and the drawing itself."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as tv
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import InterpolationMode, RandomResizedCrop

from nolabel.views import IMAGENET_MEAN, IMAGENET_STD, MultiCrop, OneView, TwoViews, plain, to_uint8
from nolabel.views.cpu_executor import render as cpu_render
from nolabel.views.draw import draw

ALL = {
    "jitter": (0.8, 0.8, 0.8, 0.2),
    "gray": 0.3,
    "blur": 0.5,
    "solarize": 0.3,
    "scale": (0.08, 1.0),
}
LEVEL = 1 / 255
ADJUST = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count, height, width, channels=3, seed=0):
    """Smooth colours, hard edges and noise."""
    g = rng(seed)
    x = F.interpolate(torch.rand(count, channels, 5, 6, generator=g), (height, width), mode="bilinear")
    x[..., height // 2 :, : width // 3] = torch.rand(count, channels, 1, 1, generator=g)
    x = x * 255 + 10 * torch.randn(x.shape, generator=g)
    return x.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def reference(image_BHWC, view, draws):
    """One view of each image by torchvision's functions, sample by sample, in [0, 1] before normalisation."""
    mode = InterpolationMode(view.interpolation)
    out = []
    for image, box, flip, order, jitter, gray, sigma, solarize in zip(image_BHWC, *draws):
        x = image.permute(2, 0, 1).double() / 255
        x = tv.resized_crop(x, *box.tolist(), [view.size, view.size], mode, antialias=True).clamp(0, 1).float()
        x = tv.hflip(x) if flip else x
        for op in order.tolist():
            x = ADJUST[op](x, jitter[op].item())
        x = tv.rgb_to_grayscale(x, len(x)) if gray else x
        if sigma > 0:
            x = tv.gaussian_blur(x, 2 * math.ceil(3 * sigma.item()) + 1, sigma.item())
        out.append(tv.solarize(x, 0.5) if solarize else x)
    return torch.stack(out)


def unnormalised(x_BCHW):
    return x_BCHW * torch.tensor(IMAGENET_STD)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None]


@pytest.mark.parametrize("executor", ["numba", "torch"])
@pytest.mark.parametrize(
    ("view", "height", "width"),
    [
        (OneView(32, **ALL), 32, 32),
        (OneView(24, **ALL), 57, 40),
        (OneView(17, **ALL, interpolation="bicubic"), 90, 64),
        (OneView(48, **ALL, interpolation="bicubic"), 32, 40),
        (OneView(20, **ALL | {"scale": (0.001, 0.01)}), 64, 64),
    ],
    ids=["32", "smaller", "bicubic-smaller", "bicubic-larger", "tiny-boxes"],
)
def test_views_are_torchvisions(view, height, width, executor):
    image = pictures(48, height, width)
    made = view({"image": image}, rng(3), executor=executor)["x"]
    draws = draw([view], len(image), height, width, rng(3), image.device)
    assert draws.flip.any()
    assert draws.gray.any()
    assert draws.solarize.any()
    assert (draws.sigma > 0).any()
    difference = (unnormalised(made) - reference(image, view, draws)).abs()
    assert difference.max() < 0.02 * LEVEL


@pytest.mark.parametrize("executor", ["numba", "torch"])
@pytest.mark.parametrize("size", [24, 96])
def test_crop_is_pillows(size, executor):
    image = pictures(32, 64, 80)
    view = OneView(size, scale=(0.05, 1.0), flip=0.0)
    made = view({"image": image}, rng(1), executor=executor)["x"]
    boxes = draw([view], len(image), 64, 80, rng(1), image.device).box.tolist()
    for x, picture, (top, left, h, w) in zip(unnormalised(made), image, boxes):
        expected = Image.fromarray(picture.numpy()).crop((left, top, left + w, top + h)).resize((size, size), 2)
        difference = x.permute(1, 2, 0) - torch.from_numpy(np.array(expected)) * LEVEL
        assert difference.abs().max() < 1.01 * LEVEL  # Pillow rounds after each of its two passes


@pytest.mark.parametrize(
    "maker", [TwoViews(40, blur=(1.0, 0.1), solarize=(0.0, 0.2)), MultiCrop(40, local_size=16, locals=3)]
)
def test_executors_agree(maker):
    image = pictures(16, 48, 56)
    by_numba = maker({"image": image}, rng(), executor="numba")
    by_torch = maker({"image": image}, rng(), executor="torch")
    assert by_numba.keys() == by_torch.keys()
    for key, x in by_numba.items():
        torch.testing.assert_close(x, by_torch[key], rtol=0, atol=2e-4)


@pytest.mark.parametrize("executor", ["numba", "torch"])
def test_clean_crops_are_the_large_ones_without_their_colours(executor):
    image = pictures(16, 48, 56)
    made = MultiCrop(40, local_size=16, locals=2, clean=True)({"image": image}, rng(), executor=executor)
    pale = MultiCrop(40, local_size=16, locals=2, jitter_p=0.0, gray=0.0, blur=(0, 0, 0), solarize=(0, 0, 0))
    without = MultiCrop(40, local_size=16, locals=2)({"image": image}, rng(), executor=executor)
    assert made.keys() == {"global", "local", "clean"}
    assert all(torch.equal(made[k], without[k]) for k in without), "they change what is drawn"
    torch.testing.assert_close(
        made["clean"], pale({"image": image}, rng(), executor=executor)["global"], rtol=0, atol=1e-5
    )


@pytest.mark.slow
def test_compiled_executor_agrees():
    image = pictures(16, 32, 32)
    view = OneView(32, **ALL)
    compiled = view({"image": image}, rng(), executor="compiled")["x"]
    torch.testing.assert_close(compiled, view({"image": image}, rng())["x"], rtol=0, atol=2e-4)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_any_number_of_channels(channels):
    image = pictures(8, 30, 30, channels)
    maker = TwoViews(16)
    made = maker({"image": image}, rng())
    by_torch = maker({"image": image}, rng(), executor="torch")
    for key in ("a", "b"):
        assert made[key].shape == (8, channels, 16, 16)
        torch.testing.assert_close(made[key], by_torch[key], rtol=0, atol=2e-4)


def test_one_channel_is_torchvisions():
    image = pictures(16, 30, 30, channels=1)
    view = OneView(16, jitter=(0.8, 0.8, 0.8, 0.2), blur=0.5)
    draws = draw([view], 16, 30, 30, rng(), image.device)
    mean, std = sum(IMAGENET_MEAN) / 3, sum(IMAGENET_STD) / 3
    made = view({"image": image}, rng())["x"] * std + mean
    assert (made - reference(image, view, draws)).abs().max() < 0.02 * LEVEL


@pytest.mark.parametrize("executor", ["numba", "torch"])
def test_shapes_keys_and_memory(executor):
    batch = {"image": pictures(6, 40, 40), "label": torch.arange(6)}
    one = OneView(16)(batch, rng(), executor=executor)
    two = TwoViews(16)(batch, rng(), executor=executor)
    crops = MultiCrop(24, local_size=10, locals=3)(batch, rng(), executor=executor)
    assert one.keys() == {"x", "label"}
    assert two.keys() == {"a", "b", "label"}
    assert crops.keys() == {"global", "local", "label"}
    assert crops["global"].shape == (2, 6, 3, 24, 24)
    assert crops["local"].shape == (3, 6, 3, 10, 10)
    for x in (one["x"], two["a"], two["b"], *crops["global"], *crops["local"]):
        assert x.dtype == torch.float32
        assert x.is_contiguous(memory_format=torch.channels_last)
    assert batch.keys() == {"image", "label"}


@pytest.mark.parametrize("executor", ["numba", "torch"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_nothing_drawn_is_plain(executor, interpolation):
    image = pictures(4, 32, 32)
    view = OneView(32, scale=(1, 1), ratio=(1, 1), flip=0.0, interpolation=interpolation)
    made = view({"image": image}, rng(), executor=executor)["x"]
    torch.testing.assert_close(made, plain(image, 32), rtol=0, atol=1e-5)


def test_same_generator_same_views():
    image = pictures(8, 32, 32)
    maker = TwoViews(32)
    first, again, other = (maker({"image": image}, rng(seed)) for seed in (5, 5, 6))
    assert torch.equal(first["a"], again["a"])
    assert torch.equal(first["b"], again["b"])
    assert not torch.equal(first["a"], other["a"])
    assert not torch.equal(first["a"], first["b"])


def test_samples_are_drawn_apart():
    """Of one picture repeated no two views are equal; and a sample's view depends on no other sample."""
    image = pictures(1, 32, 32).expand(16, -1, -1, -1)
    views = TwoViews(32)({"image": image}, rng())
    every = torch.cat((views["a"], views["b"]))
    for x, y in itertools.combinations(every, 2):
        assert not torch.equal(x, y)
    changed = image.clone()
    changed[3] = 0
    after = TwoViews(32)({"image": changed}, rng())["a"]
    same = [torch.equal(x, y) for x, y in zip(views["a"], after)]
    assert same == [i != 3 for i in range(16)]


def test_views_outlive_the_next_batch():
    """Output memory is used again only when nobody looks at it."""
    image = pictures(8, 32, 32)
    view, g = OneView(32), rng()
    held = [view({"image": image}, g)["x"][2:5] for _ in range(12)]
    copies = [x.clone() for x in held]
    for _ in range(12):
        view({"image": image}, g)
    for x, copy in zip(held, copies):
        assert torch.equal(x, copy)


def test_threads_do_not_change_the_views():
    image, view = pictures(21, 32, 32), OneView(32, **ALL)
    draws = draw([view], 21, 32, 32, rng(), image.device)
    assert torch.equal(cpu_render(image, view, draws, threads=1), cpu_render(image, view, draws, threads=3))


def test_torch_executor_never_waits():
    """No operator that reads a device tensor on the host, and none whose shape depends on values."""

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert func.overloadpacket not in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero), func
            return func(*args, **(kwargs or {}))

    image, g = pictures(4, 40, 40), rng()
    TwoViews(24, solarize=(0.0, 0.2))({"image": image}, g, executor="torch")
    with Watch():
        TwoViews(24, solarize=(0.0, 0.2))({"image": image}, g, executor="torch")


# ---- drawing


def frequency_is(values, p):
    n = len(values)
    assert abs(values.float().mean().item() - p) < 4 * math.sqrt(p * (1 - p) / n) + 1e-9


def test_frequencies():
    views = TwoViews(blur=(1.0, 0.1), solarize=(0.0, 0.2)).each()
    n = 20_000
    d = draw(views, n, 64, 64, rng(), torch.device("cpu"))
    a, b = (type(d)(*part) for part in zip(*(t.split(n) for t in d)))
    identity = torch.tensor([1.0, 1.0, 1.0, 0.0])
    for one, blur, solarize in ((a, 1.0, 0.0), (b, 0.1, 0.2)):
        frequency_is(one.flip, 0.5)
        frequency_is(one.gray, 0.2)
        frequency_is((one.jitter != identity).any(1), 0.8)
        frequency_is(one.sigma > 0, blur)
        frequency_is(one.solarize, solarize)
        on = one.jitter[(one.jitter != identity).any(1)]
        low, high = torch.tensor([0.2, 0.2, 0.2, -0.2]), torch.tensor([1.8, 1.8, 1.8, 0.2])
        assert (on >= low).all()
        assert (on <= high).all()
        torch.testing.assert_close(on.mean(0), identity, rtol=0, atol=0.02)
        codes = (one.order * torch.tensor([64, 16, 4, 1])).sum(1).unique(return_counts=True)[1]
        assert len(codes) == 24
        assert (codes - n / 24).abs().max() < 5 * math.sqrt(n / 24)
        sigma = one.sigma[one.sigma > 0]
        assert sigma.min() >= 0.1
        assert sigma.max() <= 2.0
    assert (a.flip == b.flip).float().mean() < 0.55  # the two views are independent


def test_boxes_are_torchvisions():
    n, height, width = 4000, 40, 60
    view = OneView(scale=(0.08, 1.0))
    box = draw([view], n, height, width, rng(), torch.device("cpu")).box.float()
    torch.manual_seed(0)
    picture = torch.zeros(3, height, width)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(n)]
    ).float()
    for i in range(4):
        error = (box[:, i].std() ** 2 + theirs[:, i].std() ** 2).div(n).sqrt()
        assert (box[:, i].mean() - theirs[:, i].mean()).abs() < 4 * error
        assert box[:, i].std() == pytest.approx(theirs[:, i].std().item(), rel=0.06)
    top, left, h, w = box.unbind(1)
    assert (box >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()


@pytest.mark.parametrize(("height", "width"), [(10, 200), (200, 10)])
def test_box_falls_back_to_the_centre(height, width):
    """Where no attempt fits, the largest centred crop of an allowed ratio, as torchvision's."""
    view = OneView(scale=(1.0, 1.0))
    box = draw([view], 3, height, width, rng(), torch.device("cpu")).box
    theirs = RandomResizedCrop.get_params(torch.zeros(3, height, width), [1.0, 1.0], [3 / 4, 4 / 3])
    assert box.tolist() == [list(theirs)] * 3


# ---- evaluation, pictures, errors


@pytest.mark.parametrize(("height", "width", "size"), [(48, 48, 48), (50, 70, 32), (70, 50, 32), (20, 30, 32)])
def test_plain_is_torchvisions(height, width, size):
    image = pictures(4, height, width)
    x = tv.resize(image.permute(0, 3, 1, 2).float() / 255, size, antialias=True)
    x = tv.normalize(tv.center_crop(x, [size, size]), IMAGENET_MEAN, IMAGENET_STD)
    made = plain(image, size)
    torch.testing.assert_close(made, x, rtol=0, atol=1e-4)
    assert made.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_back(channels):
    image = pictures(4, 32, 32, channels)
    assert torch.equal(to_uint8(plain(image, 32)), image)


def test_wrong_images_are_named():
    with pytest.raises(ValueError, match="uint8"):
        OneView(8)({"image": torch.zeros(2, 8, 8, 3)}, rng())
