"""What generative and pretext methods may see and what they move, beyond their losses."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from nolabel import encoders
from nolabel.core import Clock, UserError
from nolabel.core.random import generator, seed_all
from nolabel.networks.painter import ChannelwiseLinear, Code, Critic, Decoder, Painter, map_shape
from nolabel.views.corrupt import corrupt
from tests.support import Noise, build, run

T = Clock(0, 6, 4)


def rows(method):
    return method.views(Noise.of(method).at(0, 0), generator(0))


# ---- networks


@pytest.mark.parametrize("size", [24, 28, 32, 64, 96, 128, 224])
def test_decoders_paint_every_size(size):
    assert Decoder(10, 3, size, 32)(torch.randn(2, 10)).shape == (2, 3, size, size)
    assert Critic(3, size, 16, codes=5)(torch.randn(2, 3, size, size), torch.randn(2, 5)).shape == (2,)


def test_map_shape_leaves_the_encoder_alone():
    encoder = encoders.make("tiny", (3, 32, 32)).train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    assert map_shape(encoder, 32) == (192, 4, 4) and encoder.training
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert Code(encoder, 32, 7)(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert Code(encoders.make("dense", (3, 8, 8)), 8, 7)(torch.randn(2, 3, 8, 8)).shape == (2, 7)
    assert Painter(192, 5, 2, 32)(torch.randn(2, 192, 4, 4)).shape == (2, 5, 16, 16)
    with pytest.raises(UserError, match="no feature maps"):
        map_shape(encoders.make("dense", (3, 8, 8)), 8)


def test_channelwise_layer():
    layer = ChannelwiseLinear(5, 3, 4)
    assert sum(p.numel() for p in layer.parameters()) == 5 * 12 * 12 + 5 * 12
    h, order = torch.randn(2, 5, 3, 4), torch.tensor([3, 0, 4, 1, 2])
    other = ChannelwiseLinear(5, 3, 4)
    other.load_state_dict({k: v[order] for k, v in layer.state_dict().items()})
    torch.testing.assert_close(other(h[:, order]), layer(h)[:, order])
    changed = h.clone()
    changed[:, 2] += 1
    assert torch.equal((layer(changed) != layer(h)).flatten(2).any(2).any(0), torch.arange(5) == 2)


# ---- autoencoders


def test_a_linear_denoiser_is_the_wiener_filter():
    seed_all(0)
    mix = torch.randn(5, 5)
    x = torch.randn(400_000, 5) @ mix
    noisy, _ = corrupt(x, "gauss", 0.7)
    best = torch.linalg.lstsq(noisy, x).solution
    covariance = mix.T @ mix
    want = torch.linalg.inv(covariance + 0.49 * torch.eye(5)) @ covariance
    torch.testing.assert_close(best, want, atol=0.02, rtol=0)


def test_stacked_stages_move_their_own_layer_alone():
    method = build("stacked_dae")
    r = run("stacked_dae", steps=2, method=method)
    state = [{k: v.clone() for k, v in method.state_dict().items()}]
    begin = method.begin_stage

    def watch(t, data):
        begin(t, data)
        if t.stage:
            state.append({k: v.clone() for k, v in method.state_dict().items()})

    method.begin_stage = watch
    r.train()
    state.append(method.state_dict())
    for stage, (before, after) in enumerate(pairwise(state)):
        moved = {key.rpartition(".")[0] for key in before if not torch.equal(before[key], after[key])}
        assert moved == {f"encoder.layers.{stage}", f"decoders.{stage}"}
    for stage in range(3):
        names = {id(p): n for n, p in method.named_parameters()}
        groups = method.groups(Clock(0, 6, 4, stage))
        assert {names[id(p)].rsplit(".", 1)[0] for p in groups["all"]} == {
            f"encoder.layers.{stage}",
            f"decoders.{stage}",
        }


def test_stacked_layers_are_the_composition_and_see_clean_input():
    method = build("stacked_dae", level=0.0).eval()
    x = rows(method)["x"]
    h = x.flatten(1)
    for layer in method.encoder.layers:
        h = torch.sigmoid(nn.functional.linear(h, layer.weight, layer.bias))
    torch.testing.assert_close(method.kept()(x), h)
    below = method.encoder.upto(x, 1)
    loss, _ = method({"x": x}, Clock(0, 6, 4, 1))
    guess = method.decoders[1](torch.sigmoid(method.encoder.layers[1](below))).sigmoid()
    want = nn.functional.binary_cross_entropy(guess, below.detach(), reduction="none").sum(1).mean()
    torch.testing.assert_close(loss, want)
    assert torch.autograd.grad(loss, method.encoder.layers[0].weight, allow_unused=True)[0] is None
    with pytest.raises(UserError, match="take --encoder dense"):
        build("stacked_dae").build(Noise().info, encoders.make("tiny", (3, 32, 32)))


def test_vae_without_noise_is_an_autoencoder():
    method = build("vae", beta=0.0, deviation=1.0).eval()
    linear = method.encoder.linear
    with torch.no_grad():
        linear.weight[method.code :] = 0
        linear.bias[method.code :] = -200.0  # sigma of e^-100
    x = rows(method)["x"]
    mean = method.encoder(x)[:, : method.code]
    want = 0.5 * (x - method.decoder(mean)).square().flatten(1).sum(1).mean()
    torch.testing.assert_close(method({"x": x}, T)[0], want)


# ---- games


@pytest.mark.parametrize("name", ["aae", "bigan", "context_encoder"])
def test_each_side_of_a_game_moves_itself_alone(name):
    method = build(name)
    views, sides = rows(method), method.groups(T)
    critic, other = (list(sides[turn]) for turn in method.turns)
    assert not {id(p) for p in critic} & {id(p) for p in other}
    loss, _ = method(views, Clock(0, 6, 4, 0, "critic"))
    assert all(g is None for g in torch.autograd.grad(loss, other, allow_unused=True))
    r = run(name, steps=1, method=method)
    optimizers = {
        turn: set(map(id, (p for g in r.optims[turn].param_groups for p in g["params"]))) for turn in method.turns
    }
    assert optimizers == {method.turns[0]: {id(p) for p in critic}, method.turns[1]: {id(p) for p in other}}


def test_bigan_swaps_labels():
    method = build("bigan").eval()
    views = rows(method)
    losses = []
    for turn in method.turns:
        seed_all(3)
        losses.append(method(views, Clock(0, 6, 4, 0, turn))[0])
    seed_all(3)
    z = 2 * torch.rand(len(views["x"]), method.code) - 1
    real = method.critic(views["x"], method.encoder(views["x"]))
    fake = method.critic(method.painter(z).tanh(), z)
    torch.testing.assert_close(losses[0], -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean()))
    torch.testing.assert_close(losses[1], -((1 - real.sigmoid()).log().mean() + fake.sigmoid().log().mean()))
    seed_all(3)
    found = method(views, Clock(0, 6, 4, 0, "pair"))[1]["code_correlation"]
    again = method.encoder(method.painter(z).tanh()).detach().numpy()
    want = np.mean([np.corrcoef(again[:, k], z[:, k])[0, 1] for k in range(method.code)])
    assert found.item() == pytest.approx(want, abs=1e-5)


def test_the_critic_of_pairs_sees_the_code_in_every_layer_after_the_first():
    torch.manual_seed(0)
    critic, x, z = Critic(3, 32, 16, codes=5).eval(), torch.randn(2, 3, 32, 32), torch.randn(2, 5)
    h = torch.nn.functional.leaky_relu(critic.convs[0](x), 0.2)
    for conv, norm, tell in zip(list(critic.convs)[1:], critic.norms, critic.tell):
        h = torch.nn.functional.leaky_relu(norm(conv(h) + (z @ tell.weight.T)[..., None, None]), 0.2)
    last = critic.into(h.flatten(1)) + z @ critic.tell[-1].weight.T
    want = critic.last(torch.nn.functional.leaky_relu(last, 0.2))[:, 0]
    assert len(critic.tell) == len(critic.convs) and torch.allclose(critic(x, z), want, atol=1e-6)


# ---- inpainting and colours


def test_nothing_of_the_hole_reaches_the_painting():
    method = build("context_encoder").eval()
    x = rows(method)["x"]
    hole, painted = method.paint(x)
    _, again = method.paint(torch.where(hole, torch.randn_like(x), x))
    assert torch.equal(painted, again) and hole.float().mean() == 0.25
    assert torch.equal(method.seen(x), x[..., 8:24, 8:24])


def test_loss_of_the_hole_alone():
    method = build("context_encoder", adversarial=0.0, overlap=0, reconstruction=1.0).eval()
    assert method.turns == ("all",) and not hasattr(method, "critic")
    x = rows(method)["x"]
    _, painted = method.paint(x)
    inside = (slice(None), slice(None), slice(8, 24), slice(8, 24))
    torch.testing.assert_close(method({"x": x}, T)[0], nn.functional.mse_loss(painted[inside], x[inside]))


def test_images_without_colour_do_not_count():
    method = build("colorization").eval()
    views = rows(method)
    assert views["light"].shape[1] == 1 == method.encoder.channels
    whole = method(views, T)[0]
    gray = {**views, "ab": views["ab"].clone()}
    gray["ab"][8:] = 0.0
    half, only = build("colorization").eval(), build("colorization").eval()
    half.training = only.training = True  # colours are counted while training, and batch norm stays as it is
    half_loss = half(gray, T)[0]
    only_loss = only({k: v[:8] for k, v in views.items()}, T)[0]
    torch.testing.assert_close(half_loss, only_loss)
    assert torch.equal(half.palette.seen, only.palette.seen) and not torch.allclose(whole, half_loss)


def test_colorization_begins_near_the_entropy_of_all_colours():
    method = build("colorization", rebalance=1.0)
    nn.init.zeros_(method.painter.layers[-1].weight)
    nn.init.zeros_(method.painter.layers[-1].bias)
    assert float(method(rows(method), T)[0].detach()) == pytest.approx(math.log(261), rel=1e-4)


def test_halves_of_split_brain_do_not_meet():
    method = build("split_brain").eval()
    x = rows(method)["x"]
    light, colour = method.encoder.split(x)
    assert not light[:, 1:].any() and not colour[:, :1].any()
    features = method.kept()(x)
    brighter = torch.autograd.functional.jacobian(lambda v: method.encoder.halves(v)[0].sum(), x)
    assert features.shape == (len(x), 2 * 192) and brighter.any()
    lab = method.encoder.convert(x * method.encoder.std + method.encoder.mean)
    torch.testing.assert_close(lab[:, :1], 50 + 50 * light[:, :1], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(lab[:, 1:], 40 * colour[:, 1:], atol=1e-3, rtol=1e-4)


# ---- arrangement


def test_relative_position_begins_at_ln_8_and_encodes_patches_apart():
    method = build("relative_position").eval()
    nn.init.zeros_(method.head[-1].weight)
    nn.init.zeros_(method.head[-1].bias)
    views = rows(method)
    assert float(method(views, T)[0].detach()) == pytest.approx(math.log(8), rel=1e-6)
    tiles = views["tiles"]
    other = tiles.clone()
    other[:, 1:] = torch.randn_like(other[:, 1:])
    features = [method.encoder.each(t)[:, 0] for t in (tiles, other)]
    torch.testing.assert_close(*features)


def test_relative_position_labels_go_row_by_row():
    method = build("relative_position").eval()
    views = rows(method)
    seen = []
    method.encoder.encoder.forward = lambda x: x.mean((2, 3)).repeat(1, 64)
    method.head.forward = lambda h: seen.append(h) or torch.zeros(len(h), 8)
    method(views, T)
    pairs = seen[0].unflatten(0, (-1, 8)).unflatten(2, (2, -1))
    mean = views["tiles"].mean((3, 4)).repeat(1, 1, 64)
    for j, place in enumerate((0, 1, 2, 3, 5, 6, 7, 8)):
        torch.testing.assert_close(pairs[:, j], torch.stack((mean[:, 4], mean[:, place]), 1))


def test_jigsaw_shuffles_features_as_it_would_tiles():
    method = build("jigsaw").eval()
    views = rows(method)
    tiles = views["tiles"]
    seed_all(4)
    loss, _ = method(views, T)
    seed_all(4)
    which = torch.randint(len(method.table), (len(tiles), method.shuffles))
    losses = []
    for s in range(method.shuffles):
        order = method.table[which[:, s]]
        shuffled = torch.stack([image[o] for image, o in zip(tiles, order)])
        h = method.tile(method.encoder.each(shuffled).flatten(0, 1)).unflatten(0, (len(tiles), -1))
        losses.append(nn.functional.cross_entropy(method.join(h.flatten(1)), which[:, s]))
    torch.testing.assert_close(loss, torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)
    back = build("jigsaw", seed=9)
    back.load_state_dict(method.state_dict())
    assert torch.equal(back.table, method.table)
    nn.init.zeros_(method.join.weight)
    nn.init.zeros_(method.join.bias)
    assert float(method(views, T)[0].detach()) == pytest.approx(math.log(100), rel=1e-5)


def test_exemplar_of_a_constant_encoder_costs_the_margin():
    method = build("exemplar")
    nn.init.zeros_(method.head.weight)
    nn.init.ones_(method.head.bias)
    loss, logs = method(rows(method), T)
    assert float(loss.detach()) == pytest.approx(method.margin, abs=1e-5) and logs["active"] == 1


def test_exemplar_by_hand():
    method = build("exemplar").eval()
    views = rows(method)
    z = nn.functional.normalize(method.head(method.encoder(views["copies"].flatten(0, 1))), dim=1)
    v, b = views["copies"].shape[:2]
    z = z.unflatten(0, (v, b)).tolist()
    total = 0.0

    def distance(p, q):
        return sum((s - t) ** 2 for s, t in zip(p, q))

    for i in range(v):
        for k in range(b):
            near = distance(z[i][k], z[(i + 1) % v][k])
            others = [distance(z[i][k], z[j][m]) for j in range(v) for m in range(b) if m != k]
            semi = [d for d in others if near < d < near + method.margin]
            total += max(0.0, near - min(semi or others) + method.margin)
    assert float(method(views, T)[0].detach()) == pytest.approx(total / (v * b), rel=1e-4)


def test_counting_of_nothing_costs_the_margin():
    method = build("counting")
    nn.init.zeros_(method.count[0].weight)
    nn.init.constant_(method.count[0].bias, -1.0)
    loss, logs = method(rows(method), T)
    assert float(loss.detach()) == pytest.approx(method.margin) and logs["dead"] == 1


def test_counting_by_hand():
    from nolabel.methods.pretext.counting import quarters_of, smaller

    method = build("counting").eval()
    x = rows(method)["x"]
    quarters = quarters_of(x)
    top, bottom = (torch.cat((quarters[i], quarters[i + 1]), 3) for i in (0, 2))
    assert torch.equal(torch.cat((top, bottom), 2), x)
    seed_all(2)
    loss, _ = method({"x": x}, T)
    seed_all(2)
    small = smaller(x)
    assert small.shape[-1] == x.shape[-1] // 2
    with torch.no_grad():
        whole, parts = method.count(method.encoder(small)), sum(method.count(method.encoder(q)) for q in quarters)
    total = 0.0
    for i in range(len(x)):
        total += float((whole[i] - parts[i]).square().sum()) / len(x)
        for j in range(len(x)):
            if i != j:
                gap = max(0.0, method.margin - float((whole[j] - parts[i]).square().sum()))
                total += gap / (len(x) * (len(x) - 1))
    assert float(loss.detach()) == pytest.approx(total, rel=1e-4)
    flat = torch.ones(2, 3, 8, 8)
    torch.testing.assert_close(smaller(flat), torch.ones(2, 3, 4, 4))
