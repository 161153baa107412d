"""Encoders of video and sound: patches are an identity, convolutions over time are those for volumes, frames line up."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nolabel import encoders
from nolabel.core import TokenEncoder, UserError
from nolabel.encoders.audio import WaveConv
from nolabel.encoders.patches import PatchEncoder
from nolabel.encoders.video import PerFrame, SpaceTime, TinyVideo
from nolabel.views.masks import take, tube_mask


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SHAPES = {
    "tiny_video": (3, 8, 32, 32),
    "tiny_tubes": (3, 8, 32, 32),
    "tiny": (3, 4, 32, 32),
    "tiny_mel": (1, 64, 96),
    "tiny_mel_tokens": (1, 64, 96),
    "tiny_wave": (1, 4000),
}


@pytest.mark.parametrize("name", SHAPES)
def test_features_have_their_width_and_all_weights_count(name):
    net = encoders.make(name, SHAPES[name]).to(memory_format=torch.channels_last)
    h = net(randn(3, *SHAPES[name]))
    assert h.shape == (3, net.dim) and h.std() > 0
    h.square().sum().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None]
    assert sum(p.numel() for p in net.parameters()) < 7e5


@pytest.mark.parametrize(("sizes", "patch"), [((8, 32, 16), (2, 8, 4)), ((64, 96), (8, 16)), ((40,), (5,))])
def test_patches_hold_their_place_and_come_back(sizes, patch):
    net = PatchEncoder(3, sizes, patch, 24, 1, 2)
    assert isinstance(net, TokenEncoder)
    x = randn(2, 3, *sizes)
    patches = net.patchify(x)
    assert patches.shape == (2, net.length, net.patch_dim)
    assert torch.equal(net.unpatchify(patches), x)
    places = torch.cartesian_prod(*(torch.arange(n) for n in net.grid)).reshape(net.length, -1).tolist()
    for number, place in enumerate(places):
        box = tuple(slice(p * side, (p + 1) * side) for p, side in zip(place, patch))
        cut = x[(slice(None), slice(None), *box)]
        assert torch.equal(patches[:, number], cut.flatten(2).transpose(1, 2).flatten(1))


def test_tokens_see_only_what_is_kept():
    net = encoders.make("tiny_tubes", (3, 8, 32, 32)).eval()
    keep, hide = tube_mask(2, net.grid, 0.75, torch.Generator().manual_seed(0))
    x = randn(2, 3, 8, 32, 32)
    patches = net.patchify(x)
    other = net.unpatchify(patches.scatter(1, hide[..., None].expand(-1, -1, net.patch_dim), 9.0))
    assert not torch.equal(x, other)
    a, b = (net.encode(take(net.embed(v), keep)) for v in (x, other))
    assert torch.equal(a, b) and a.shape == (2, 1 + keep.shape[1], net.dim)
    torch.testing.assert_close(a[:, 0], a[:, 1:].mean(1))
    torch.testing.assert_close(net.encode(net.embed(x))[:, 0], net(x))


def test_tubes_are_hidden_at_all_times():
    keep, hide = tube_mask(64, (4, 6, 5), 0.9, torch.Generator().manual_seed(0))
    assert keep.shape == (64, 4 * 3) and hide.shape == (64, 4 * 27)
    assert (torch.cat((keep, hide), 1).sort(1).values == torch.arange(120)).all()
    assert (keep.diff(dim=1) > 0).all() and (hide.diff(dim=1) > 0).all()
    assert (keep.view(64, 4, 3) % 30 == keep.view(64, 4, 3)[:, :1]).all()
    assert (torch.bincount(keep[:, :3].flatten(), minlength=30) > 0).all()


@pytest.mark.parametrize("stride", [1, 2])
def test_flat_convolutions_are_those_for_volumes(stride):
    torch.manual_seed(0)
    block = SpaceTime(6, 8, stride).eval()
    x = randn(2, 6, 7, 12, 12)
    found = block(x.transpose(1, 2).flatten(0, 1), 7)
    h = F.relu(x / (1 + 1e-5) ** 0.5)
    space = nn.functional.conv3d(h, block.conv1.weight[:, :, None], stride=(1, 2, 2), padding=(0, 1, 1))
    space = F.relu(space / (1 + 1e-5) ** 0.5)
    time = nn.functional.conv3d(space, block.time.weight[..., None], stride=(stride, 1, 1), padding=(1, 0, 0))
    time = F.relu(time / (1 + 1e-5) ** 0.5)
    want = nn.functional.conv3d(time, block.conv2.weight[:, :, None], padding=(0, 1, 1))
    want = want + nn.functional.conv3d(h, block.shortcut.weight[:, :, None], stride=(stride, 2, 2))
    torch.testing.assert_close(found, want.transpose(1, 2).flatten(0, 1), rtol=1e-4, atol=1e-5)


def test_maps_of_video():
    net = TinyVideo((3, 8, 64, 48))
    for frames in (7, 8):
        h, (y,) = net.maps(randn(2, 3, frames, 64, 48))
        assert y.shape == (2, 160, 2, 4, 3) and net.map_dims == (160,)
        torch.testing.assert_close(h, y.mean((2, 3, 4)))
    with pytest.raises(UserError, match="16 px"):
        TinyVideo((3, 8, 8, 8))


def test_an_image_network_sees_every_frame():
    net = encoders.make("resnet18", (3, 4, 32, 32)).eval()
    assert isinstance(net, PerFrame) and net.dim == 512
    x = randn(2, 3, 4, 32, 32)
    frames = net.frames(x)
    assert frames.shape == (2, 4, 512)
    torch.testing.assert_close(frames[1, 2], net.net(x[1:2, :, 2])[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(net(x), frames.mean(1))


def test_steps_of_a_waveform_see_their_surroundings_only():
    """Step t sees the samples from 160 t - 153 to 160 t + 311, and normalisation brings in no others."""
    net = WaveConv((1, 4000), width=8)
    x = randn(1, 1, 4000).requires_grad_()
    frames = net.frames(x)
    assert frames.shape == (1, 25, 8)
    for t in (0, 5, 24):
        (grad,) = torch.autograd.grad(frames[0, t].square().sum(), x, retain_graph=True)
        seen = grad[0, 0].nonzero().flatten()
        assert max(0, 160 * t - 160) <= seen.min() and seen.max() <= 160 * t + 320
        assert len(seen) <= 465


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="multiple of 8"):
        encoders.make("tiny_tubes", (3, 8, 30, 30))
    with pytest.raises(UserError, match="7 x 32 x 32"):
        encoders.make("tiny_tubes", (3, 7, 32, 32))
    with pytest.raises(UserError, match="log-mel"):
        encoders.make("tiny_mel", (1, 8000))
    with pytest.raises(UserError, match="waveform"):
        encoders.make("tiny_wave", (1, 64, 96))
