"""Heads, running averages, transformers, positions, the decoder."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Clock, Method
from nolabel.networks import EMA, Block, Decoder, DINOHead, Transformer, attention_weights, mlp, sincos_positions
from nolabel.networks.inside import quick_on_small_maps


def layers(net):
    return [type(layer).__name__ for layer in net]


# mlp


def test_mlp_layers():
    assert layers(mlp(8, 4)) == ["Linear"]
    assert layers(mlp(8, 16, 4)) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert layers(mlp(8, 16, 16, 4, norm="ln", act=nn.GELU)) == ["Linear", "LayerNorm", "GELU"] * 2 + ["Linear"]
    assert layers(mlp(8, 16, 4, norm=None, last_norm="bn")) == ["Linear", "ReLU", "Linear", "BatchNorm1d"]
    assert mlp(8, 16, 32, 4)(torch.randn(5, 8)).shape == (5, 4)


def test_mlp_has_no_bias_that_a_norm_removes():
    assert mlp(8, 16, 4)[0].bias is None
    assert mlp(8, 16, 4, norm=None)[0].bias is not None
    assert mlp(8, 16, 4, norm="ln")[0].bias is not None
    assert mlp(8, 16, 4)[-1].bias is not None
    assert mlp(8, 16, 4, last_bias=False)[-1].bias is None
    *_, last, norm = mlp(8, 16, 4, last_norm="bn_noaffine")
    assert last.bias is None and norm.weight is None


def test_mlp_rejects_nonsense():
    with pytest.raises(ValueError, match="width"):
        mlp(8)
    with pytest.raises(ValueError, match="norm must be"):
        mlp(8, 8, 8, norm="batch")


# DINOHead


def test_dino_head_gives_cosines():
    head = DINOHead(16, hidden=32, bottleneck=8, out=50)
    torch.testing.assert_close(head.last.weight.norm(dim=1), torch.ones(50))
    x = torch.randn(64, 16)
    out = head(x)
    assert out.shape == (64, 50) and out.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(out, F.normalize(head.mlp(x), dim=1) @ F.normalize(head.last.v, dim=1).T)
    assert [name for name, _ in head.last.named_parameters()] == ["v"]
    assert head(torch.randn(2, 3, 16)).shape == (2, 3, 50)


def test_dino_head_stays_normalised_while_it_trains():
    head = DINOHead(16, hidden=32, bottleneck=8, out=50)
    optimiser = torch.optim.SGD(head.parameters(), lr=10.0)
    before = head.last.v.detach().clone()
    F.cross_entropy(head(torch.randn(64, 16)) / 0.1, torch.randint(50, (64,))).backward()
    optimiser.step()
    assert not torch.equal(before, head.last.v)
    torch.testing.assert_close(head.last.weight.norm(dim=1), torch.ones(50))


def test_dino_head_learns_gains_unless_norm_last():
    head = DINOHead(16, hidden=32, bottleneck=8, out=50, norm_last=False, norm="bn")
    assert {name for name, _ in head.last.named_parameters()} == {"v", "g"}
    with torch.no_grad():
        head.last.g.fill_(3.0)
    torch.testing.assert_close(head.last.weight.norm(dim=1), torch.full((50,), 3.0))
    assert any(isinstance(m, nn.BatchNorm1d) for m in head.mlp)


def test_prototypes_are_compared_in_full_precision_and_start_as_a_linear_layer():
    torch.manual_seed(0)
    head = DINOHead(16, hidden=32, bottleneck=8, out=2000)
    seen = []
    head.last.register_forward_hook(lambda layer, inputs, out: seen.append((inputs[0], out)))
    with torch.autocast("cpu", torch.bfloat16):
        head(torch.randn(64, 16))
    (unit, out), rows = seen[0], F.normalize(head.last.v.detach().double(), dim=1)
    assert unit.dtype == out.dtype == torch.float32
    torch.testing.assert_close(out.double(), unit.double() @ rows.T, rtol=0, atol=1e-6)
    bound = 8**-0.5
    assert head.last.v.abs().max() <= bound and head.last.v.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_mlp_without_biases():
    layers = mlp(8, 16, 16, 4, norm=None, bias=False, last_bias=False)
    assert not any(name.endswith("bias") for name, _ in layers.named_parameters())
    assert [m.bias is None for m in mlp(8, 16, 4, norm=None, bias=False) if isinstance(m, nn.Linear)] == [True, False]


# EMA


def test_ema_closed_form():
    """average_t = m^t theta_0 + (1 - m) sum_i m^(t-1-i) theta_i."""
    net, m, steps = nn.Linear(3, 2).double(), 0.9, 7
    teacher = EMA(net)
    first, seen = net.weight.detach().clone(), []
    for _ in range(steps):
        with torch.no_grad():
            net.weight.add_(torch.randn_like(net.weight))
        seen.append(net.weight.detach().clone())
        teacher.update(net, m)
    expected = m**steps * first + (1 - m) * sum(m ** (steps - 1 - i) * theta for i, theta in enumerate(seen))
    torch.testing.assert_close(teacher.net.weight, expected)


def test_ema_momentum_0_copies_and_1_freezes():
    net = nn.Linear(3, 2)
    teacher, before = EMA(net), net.weight.detach().clone()
    with torch.no_grad():
        net.weight.normal_(std=100.0)
    teacher.update(net, 1.0)
    assert torch.equal(teacher.net.weight, before)
    teacher.update(net, 0.0)
    assert torch.equal(teacher.net.weight, net.weight)


def test_ema_matches_names_not_order():
    class AB(nn.Module):
        def __init__(self, *order):
            super().__init__()
            for name in order:
                self.register_parameter(name, nn.Parameter(torch.full((2,), float(ord(name)))))

    teacher = EMA(AB("a", "b"))
    teacher.update(AB("b", "a"), 0.0)
    assert teacher.net.a[0] == ord("a") and teacher.net.b[0] == ord("b")
    with pytest.raises(ValueError, match="'c'"):
        teacher.update(AB("a", "b", "c"), 0.5)


@pytest.mark.parametrize(("buffers", "mean", "count"), [("own", 0.0, 0), ("copy", 8.0, 3), ("ema", 2.0, 3)])
def test_ema_buffers(buffers, mean, count):
    net = nn.BatchNorm1d(4)
    teacher = EMA(net, buffers=buffers)
    net.running_mean.fill_(8.0)
    net.num_batches_tracked.fill_(3)
    teacher.update(net, 0.75)
    torch.testing.assert_close(teacher.net.running_mean, torch.full((4,), mean))
    assert teacher.net.num_batches_tracked == count
    with pytest.raises(ValueError, match="buffers must be"):
        EMA(net, buffers="share")


def test_ema_train_mode_is_for_batch_norm_only():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    teacher, parent = EMA(net), nn.Module()
    parent.teacher = teacher
    assert parent.train() and teacher.net[1].training and not teacher.net[2].training
    x = torch.randn(256, 4) * 3 + 1
    torch.testing.assert_close(teacher(x).mean(0), torch.zeros(4), atol=1e-5, rtol=0)  # statistics of the batch
    assert teacher.net[1].num_batches_tracked == 1  # its own running statistics
    assert parent.eval() and not any(m.training for m in teacher.modules())
    assert EMA(net, noise=True).net[2].training


def test_ema_is_outside_training():
    class Toy(Method):
        def build(self, data):
            self.encoder = nn.Linear(4, 4)
            self.teacher = EMA(self.encoder)

    toy = Toy(views=None)
    toy.build(None)
    names = {id(p): name for name, p in toy.named_parameters()}
    assert {names[id(p)] for p in toy.groups(Clock(0, 1, 1))["all"]} == {"encoder.weight", "encoder.bias"}
    assert not any(p.requires_grad for p in toy.teacher.parameters())
    assert not toy.teacher(torch.randn(2, 4, requires_grad=True)).requires_grad
    assert set(toy.state_dict()) == {f"{a}.{b}" for a in ("encoder", "teacher.net") for b in ("weight", "bias")}


# transformer


def test_block_is_the_formula():
    """x + attention(LN x), then x + mlp(LN x), written out head by head."""
    torch.manual_seed(0)
    block, x_BLD = Block(12, 3, qkv_bias=True).double(), torch.randn(2, 5, 12, dtype=torch.float64)
    h = F.layer_norm(x_BLD, (12,), block.norm1.weight, block.norm1.bias, block.norm1.eps)
    q, k, v = (block.attn.qkv(h)[..., i * 12 : (i + 1) * 12] for i in range(3))
    heads = []
    for i in range(3):
        one = slice(4 * i, 4 * i + 4)
        heads.append(torch.softmax(q[..., one] @ k[..., one].mT / 2.0, -1) @ v[..., one])
    y = x_BLD + block.attn.proj(torch.cat(heads, -1))
    y = y + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(y))))
    torch.testing.assert_close(block(x_BLD), y)


def test_attention_weights_are_those_that_act():
    torch.manual_seed(0)
    block, x_BLD = Block(12, 3, qkv_bias=True), torch.randn(2, 5, 12)
    weights_BHLL = attention_weights(block, x_BLD)
    torch.testing.assert_close(weights_BHLL.sum(-1), torch.ones(2, 3, 5))
    values_BHLd = block.attn.qkv(block.norm1(x_BLD))[..., 24:].unflatten(-1, (3, 4)).transpose(1, 2)
    mixed_BLD = (weights_BHLL @ values_BHLd).transpose(1, 2).flatten(2)
    torch.testing.assert_close(block.attn.proj(mixed_BLD), block.attn(block.norm1(x_BLD)))


def test_transformer_masks_and_options():
    torch.manual_seed(0)
    net, x_BLD = Transformer(12, 2, 3, drop_path=0.5, layer_scale=0.1).eval(), torch.randn(2, 6, 12)
    other = x_BLD.clone()
    other[:, 4:] = torch.randn(2, 2, 12)  # a constant would vanish in the LayerNorm
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    torch.testing.assert_close(net(x_BLD, causal)[:, :4], net(other, causal)[:, :4])
    padding = torch.tensor([[True] * 4 + [False] * 2] * 2)[:, None, None]
    torch.testing.assert_close(net(x_BLD, padding)[:, :4], net(other, padding)[:, :4])
    assert not torch.allclose(net(x_BLD)[:, :4], net(other)[:, :4])
    assert net.attention(x_BLD).shape == net.attention(x_BLD, layer=0).shape == (2, 3, 6, 6)
    assert [block.drop_path1.drop_prob for block in net.blocks if hasattr(block.drop_path1, "drop_prob")] == [0.5]
    assert all(torch.all(block.ls1.gamma == 0.1) for block in net.blocks)


@pytest.mark.parametrize("grid", [(7,), (3, 5), (2, 3, 4)])
def test_sincos_is_a_naive_loop(grid):
    dim, axes = 26, len(grid)
    count = dim // (2 * axes)
    table = sincos_positions(dim, grid, cls=1)
    assert table.shape == (1 + math.prod(grid), dim) and table.dtype == torch.float32
    assert not table[0].any()
    for row, place in enumerate(torch.cartesian_prod(*map(torch.arange, grid)).reshape(-1, axes).tolist()):
        expected = []
        for coordinate in reversed(place):
            angles = [coordinate / 10000 ** (i / count) for i in range(count)]
            expected += [*map(math.sin, angles), *map(math.cos, angles)]
        expected += [0.0] * (dim - len(expected))
        torch.testing.assert_close(table[1 + row], torch.tensor(expected))


def test_sincos_tells_height_from_width():
    table = sincos_positions(32, (4, 6)).reshape(4, 6, 32)
    assert torch.equal(table[0, :, :16], table[3, :, :16])  # the first half knows the column only
    assert torch.equal(table[:, 0, 16:], table[:, 5, 16:])  # the second the row only
    assert len(table.flatten(0, 1).unique(dim=0)) == 24
    assert not torch.equal(table[1, 2], table[2, 1])
    with pytest.raises(ValueError, match="too few"):
        sincos_positions(4, (2, 2, 2))


# decoder


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return Decoder(12, 16, 1, 2, (4, 4), 5).eval()


def split(batch=2, kept=6):
    order = torch.rand(batch, 16).argsort(1)
    return order[:, :kept], order[:, kept:]


def test_decoder_predictions_follow_their_places(decoder):
    keep, hide = split()
    h = torch.randn(2, 7, 12)
    guess = decoder(h, keep, hide)
    assert guess.shape == (2, 10, 5)
    swap = torch.randperm(10)
    torch.testing.assert_close(decoder(h, keep, hide[:, swap]), guess[:, swap], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(guess[:, 0], guess[:, 1])  # one mask token, other places
    turn = torch.randperm(6)
    shuffled = torch.cat((h[:, :1], h[:, 1:][:, turn]), 1)
    torch.testing.assert_close(decoder(shuffled, keep[:, turn], hide), guess, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(decoder(shuffled, keep, hide), guess, atol=1e-3)  # tokens at the wrong places


def test_decoder_trains_everything(decoder):
    keep, hide = split()
    decoder(torch.randn(2, 7, 12), keep, hide).square().mean().backward()
    assert decoder.mask_token.grad.any()
    assert all(p.grad is not None for p in decoder.parameters())
    assert "positions" not in decoder.state_dict() and torch.equal(copy.deepcopy(decoder).positions, decoder.positions)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_the_same_fused_and_plain(causal):
    from nolabel.engine.precision import attention_for
    from nolabel.networks.transformer import Transformer

    torch.manual_seed(0)
    net, x = Transformer(24, 2, 3), torch.randn(2, 7, 24)
    visible = torch.ones(7, 7, dtype=torch.bool).tril() if causal else None
    plain = attention_for(net, torch.device("cpu"))(x, visible)
    assert not any(block.attn.fused_attn for block in net.blocks)
    fused = attention_for(net, torch.device("meta"))(x, visible)
    assert all(block.attn.fused_attn for block in net.blocks)
    torch.testing.assert_close(plain, fused, rtol=1e-4, atol=1e-5)
    if causal:
        changed = net(torch.cat((x[:, :4], torch.randn(2, 3, 24)), 1), visible)
        torch.testing.assert_close(changed[:, :4], fused[:, :4], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (5, 1, 2), (5, 3, 2), (7, 2, 3), (3, 1, 2), (5, 2, 4)]
)
def test_small_maps_leave_out_only_padding(size, kernel, stride, padding):
    """Outputs and gradients of a plain convolution, on every axis its own; where nothing can be left out, all is done."""
    torch.manual_seed(0)
    plain = nn.Conv2d(2, 3, (kernel, 3), (stride, 1), (padding, 1)).double()
    quick = nn.Sequential(copy.deepcopy(plain))
    quick_on_small_maps(quick)
    x = torch.randn(2, 2, size, 1, dtype=torch.double)
    want, got = plain(x), quick(x)
    assert type(quick[0]) is not nn.Conv2d and torch.allclose(got, want, rtol=0, atol=1e-12)
    for net, y in ((plain, want), (quick, got)):
        y.square().sum().backward()
    for a, b in zip(plain.parameters(), quick.parameters()):
        assert torch.allclose(a.grad, b.grad, rtol=0, atol=1e-12)


def test_small_maps_cost_less(monkeypatch):
    """On one pixel a 3 x 3 kernel is one tap; on two with stride 2 it is four; a larger map has them all."""
    seen = []
    conv2d = F.conv2d
    monkeypatch.setattr(
        F, "conv2d", lambda x, weight, *rest: (seen.append(weight.shape[-2:]), conv2d(x, weight, *rest))[1]
    )
    for size, stride, taps in ((1, 1, 1), (2, 2, 2), (2, 1, 3), (4, 1, 3)):
        net = nn.Sequential(nn.Conv2d(2, 2, 3, stride, 1))
        quick_on_small_maps(net)
        net(torch.randn(1, 2, size, size))
        assert seen.pop() == (taps, taps) and not seen
