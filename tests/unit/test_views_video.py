"""Video views: which frames, one draw a clip, directions, five frames in order, nodes, colours apart."""

import pytest
import torch

from nolabel import recipes
from nolabel.core import UserError
from nolabel.resolve import _suited
from nolabel.views.image import OneView
from nolabel.views.video import (
    Clips,
    FiveFrames,
    LightAndColorClip,
    OneClip,
    PatchGraph,
    TwoDirections,
    changes,
    frame_numbers,
)

ALL = {"jitter": (0.8, 0.8, 0.8, 0.2), "gray": 0.3, "blur": 0.5, "solarize": 0.3}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def counting(count=6, frames=12, side=16, by=10):
    """Clips whose pixels are the number of their frame, times `by`."""
    number = torch.arange(frames, dtype=torch.uint8) * by
    return number[None, :, None, None, None].expand(count, frames, side, side, 3).contiguous()


def numbers(x_BCFSS, by=10):
    """The numbers of the frames of a view of `counting` with mean 0 and deviation 1."""
    return (x_BCFSS * 255 / by).mean((1, 3, 4)).round().long()


RAW = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def test_frames_are_every_start_equally_often_and_stride_apart():
    start = torch.linspace(0, 1, 7001)[:-1]
    index = frame_numbers(12, 4, 2, start)
    assert (index.diff(dim=1) == 2).all() and index.min() == 0 and index.max() == 11
    assert torch.bincount(index[:, 0]).tolist() == [1167, 1167, 1166, 1167, 1167, 1166]
    assert frame_numbers(12, 4, 8, start).diff(dim=1).unique().tolist() == [3]  # as far as fits
    assert frame_numbers(5, 1, 8, torch.tensor([0.0, 0.999])).tolist() == [[0], [4]]
    with pytest.raises(UserError, match="16 frames"):
        frame_numbers(12, 16, 1, start)


def test_one_draw_holds_for_all_frames_and_is_that_of_images():
    still = torch.randint(256, (6, 1, 20, 24, 3), generator=rng(), dtype=torch.uint8).expand(6, 9, 20, 24, 3)
    view = OneClip(size=16, frames=4, stride=2, **ALL)
    x = view({"video": still.contiguous()}, rng(1))["x"]
    assert x.shape == (6, 3, 4, 16, 16)
    assert (x == x[:, :, :1]).all()
    assert not torch.equal(x[0], x[1])
    g = rng(1)
    torch.rand(6, generator=g)  # the starts
    image = OneView(size=16, **ALL)({"image": still[:, 0].contiguous()}, g)["x"]
    torch.testing.assert_close(x[:, :, 0], image)


def test_plain_is_the_middle():
    x = OneClip(size=16, frames=4, stride=2, **RAW).plain({"video": counting()})["video"]
    assert numbers(x)[0].tolist() == [3, 5, 7, 9]
    assert numbers(OneClip(size=16, **RAW).middle_image(counting())[:, :, None]).tolist() == [[6]] * 6


def test_clips_have_starts_of_their_own_unless_together():
    made = Clips(size=16, frames=3, stride=2, clips=3, jitter=(0, 0, 0, 0), gray=0, blur=0, **RAW)
    at = torch.stack([numbers(x) for x in made({"video": counting(50)}, rng())["clips"]])
    assert at.shape == (3, 50, 3) and (at.diff(dim=2) == 2).all()
    assert (at[0, :, 0] == at[1, :, 0]).float().mean() < 0.4
    together = Clips(size=16, frames=3, stride=2, clips=3, together=True, jitter=(0, 0, 0, 0), gray=0, blur=0, **RAW)
    at = torch.stack([numbers(x) for x in together({"video": counting(50)}, rng())["clips"]])
    assert (at == at[:1]).all()


def starts_of(view, video, by=10):
    return torch.stack([numbers(x, by)[:, 0] for x in view({"video": video}, rng())["clips"]])


def test_clips_of_one_video_are_of_different_times():
    """Of a video four clips long two clips that start anywhere do not overlap every second time, and are a third of it apart."""
    view = Clips(size=16, frames=8, stride=2, jitter=(0, 0, 0, 0), gray=0, blur=0, **RAW)
    assert view.stored == _suited(view)["frames"] == recipes.find("tiny", "rho_clips", 32).form["frames"] == 64
    assert _suited(Clips(frames=8, stride=2, together=True))["frames"] == _suited(OneClip())["frames"] == 16
    assert _suited(FiveFrames())["frames"] == 33, "four gaps of the longest kind"
    a, b = starts_of(view, counting(400, frames=64, by=4), by=4).float()
    apart = (a - b).abs()
    assert {0, 48} <= set(a.tolist()) and a.max() <= 49
    assert abs((apart > 14).float().mean() - 35 * 36 / 50**2) < 0.08 and abs(apart.mean() - 50 / 3) < 2


def test_clips_do_not_begin_where_a_short_video_has_ended():
    video = counting(200, frames=24)
    video[:100, 9:] = video[:100, 8:9]  # nine frames, and the last one again and again
    view = Clips(size=16, frames=3, stride=2, jitter=(0, 0, 0, 0), gray=0, blur=0, **RAW)
    at = starts_of(view, video)
    assert set(at[:, :100].flatten().tolist()) == set(range(5)), "0 2 4 to 4 6 8"
    assert at[:, 100:].max() == 19
    still = video[:, :1].expand(video.shape).contiguous()
    assert starts_of(view, still).max() == 0 and numbers(view.plain({"video": video})["video"])[0].tolist() == [2, 4, 6]


def test_changes_are_computed_after_the_reversal():
    video = torch.randint(256, (5, 9, 16, 16, 3), generator=rng(), dtype=torch.uint8)
    made = TwoDirections(size=16, frames=4, stride=1, scale=(1, 1), ratio=(1, 1), flip=0)
    views = made({"video": video}, rng(3))
    a, b = views["a"], views["b"]
    assert a.shape == b.shape == (5, 3, 4, 16, 16)
    gray, change = a[:, 0], a[:, 1]
    torch.testing.assert_close(gray[:, 1:] - gray[:, :-1], change[:, 1:])
    torch.testing.assert_close(a[:, 2], change.abs())
    torch.testing.assert_close(b[:, 1], -change.flip(1))
    torch.testing.assert_close(b[:, 0, 1:], gray.flip(1)[:, 1:] - change.flip(1)[:, 1:])
    colours = TwoDirections(size=16, frames=4, stride=1, motion=False)({"video": video}, rng(3))
    assert torch.equal(colours["b"], colours["a"].flip(2))
    assert made.plain({"video": video})["video"].shape == (5, 3, 4, 16, 16)


def test_five_frames_are_in_order_and_in_the_clip():
    view = FiveFrames(size=16, gap=(2, 5))
    video = torch.zeros(10_000, 31, 4, 4, 3, dtype=torch.uint8)
    index = view.choose(video, rng())
    gaps = index.diff(dim=1)
    assert index.min() >= 0 and index.max() <= 30 and gaps.min() == 2 and gaps.max() == 5
    assert (torch.bincount(gaps.flatten())[2:].float() / gaps.numel()).sub(0.25).abs().max() < 0.02
    short = FiveFrames(size=16).choose(video[:, :9], rng())  # gaps shrink to what fits
    assert short.max() <= 8 and short.diff(dim=1).min() == 2
    with pytest.raises(UserError, match="five frames"):
        view.choose(video[:, :4], rng())


def test_busy_windows_are_chosen_in_proportion_to_change():
    video = torch.zeros(20_000, 21, 4, 4, 3, dtype=torch.uint8)
    video[:, 11:] = 40  # the only change is from frame 10 to 11
    video[:, 18:] = 60  # and half as much from 17 to 18
    assert changes(video)[0].nonzero().flatten().tolist() == [10, 17]
    index = FiveFrames(size=16, gap=(1, 1)).choose(video, rng())
    first = torch.bincount(index[:, 0], minlength=17).float() / 20_000
    expected = torch.tensor([40.0 * (s <= 10 < s + 4) + 20.0 * (s <= 17 < s + 4) for s in range(17)])
    assert (first - expected / expected.sum()).abs().max() < 0.01


def test_nodes_are_patches_of_their_frame_row_by_row():
    x = torch.arange(64.0).view(1, 1, 1, 8, 8).expand(2, 3, 2, 8, 8)
    whole = PatchGraph(size=8, frames=2, patch=4, step=2, area=(1.0, 1.0))
    nodes = whole.nodes(x, rng())
    assert nodes.shape == (2, 2, 9, 3, 4, 4)
    for n in range(9):  # crops of the whole area and unequal sides are stretched; their middle row and column stay
        top, left = 2 * (n // 3), 2 * (n % 3)
        want = x[0, 0, 0, top : top + 4, left : left + 4].mean()
        assert (nodes[:, :, n].mean((2, 3, 4)) - want).abs().max() < 3.0
    view = PatchGraph(size=32, frames=3, stride=1, patch=16, step=8)
    video = torch.randint(256, (4, 6, 32, 32, 3), generator=rng(), dtype=torch.uint8)
    assert view({"video": video}, rng())["nodes"].shape == (4, 3, 9, 3, 16, 16)
    assert view.plain({"video": video})["image"].shape == (4, 3, 32, 32)


def test_crops_of_nodes_are_apart():
    """The same frame twice gives the same node with another crop, and the share of the area is in range."""
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 2, 32, 32)
    view = PatchGraph(size=32, frames=2, patch=16, step=16, area=(0.5, 0.5))
    nodes = view.nodes(ramp, rng())
    width = (nodes[..., -1] - nodes[..., 0]) * 31 / 15 * 16
    assert not torch.allclose(nodes[:, 0], nodes[:, 1])
    assert width.min() > 16 * (0.5 * 3 / 4) ** 0.5 - 0.1 and width.max() < 16 * (0.5 * 4 / 3) ** 0.5 + 0.1


def test_light_has_no_colour():
    video = torch.randint(256, (4, 6, 16, 16, 3), generator=rng(), dtype=torch.uint8)
    view = LightAndColorClip(size=16, frames=3, stride=1)
    made = view({"video": video}, rng())
    assert made["light"].shape == (4, 1, 3, 16, 16) and made["ab"].shape == (4, 2, 3, 16, 16)
    assert made["light"].abs().max() <= 1 and made["ab"].std() > 5
    gray = video[..., :1].expand(video.shape).contiguous()
    assert view({"video": gray}, rng())["ab"].abs().max() < 0.1
    assert view.plain({"video": video})["image"].shape == (4, 1, 16, 16)
