"""What makes each contrastive method that method: queues, banks, who sees what, and the parts that must not leak."""

import copy
import math
from collections import deque

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nolabel as nl
from nolabel import encoders, methods
from nolabel.core import Clock, DataInfo, UserError
from nolabel.core.random import generator, seed_all
from nolabel.encoders.files import load_encoder, save_encoder
from nolabel.encoders.wrapped import Edges, Headed, LightAndColour, Patchwise, Tilewise
from nolabel.losses.contrastive import info_nce, nce
from nolabel.networks.batchnorm import first_statistics, in_groups, layer_norms, shuffled
from nolabel.networks.context import RowContext
from nolabel.networks.ema import EMA
from nolabel.networks.memory import partition
from nolabel.networks.scorer import Scorer
from nolabel.report import token_pictures
from nolabel.views.parts import Patches
from tests.support import Access, Noise, build, run

T = Clock(0, 10, 4)


def views_of(method, step: int = 0):
    with torch.no_grad():
        return method.views(Noise.of(method).at(0, step), generator(step))


def fill(net: nn.Module, value: float = 0.0) -> None:
    """Make a net constant."""
    for p in net.parameters():
        nn.init.constant_(p, value)


# ---- batch norm in groups


def test_groups_have_statistics_of_their_own() -> None:
    norm, x = nn.BatchNorm1d(3), torch.randn(12, 3, generator=generator(0))
    apart = in_groups(norm, x, 3)
    for k in range(3):
        part = x[4 * k : 4 * k + 4]
        torch.testing.assert_close(apart[4 * k : 4 * k + 4], (part - part.mean(0)) / (part.var(0, False) + 1e-5).sqrt())
    torch.testing.assert_close(in_groups(norm, x, 1), norm(x))


def test_first_statistics_are_those_of_the_views_and_leave_no_trace() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    views = [100 + torch.randn(64, 5) for _ in range(3)]
    with first_statistics(net, views):
        out = torch.cat([net.eval()(view) for view in views])
        assert out.mean(0).abs().max() < 0.2 and (out.std(0) - 1).abs().max() < 0.2
    net.train()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    net(views[0])  # now they have trained, and are left as they are
    trained = {name: value.clone() for name, value in net.state_dict().items()}
    with first_statistics(net, iter(lambda: pytest.fail("there is nothing to look at"), None)):
        assert all(torch.equal(value, trained[name]) for name, value in net.state_dict().items())


def test_shuffled_comes_back_in_order_and_changes_the_company() -> None:
    x = torch.randn(12, 3, generator=generator(0))
    assert torch.equal(shuffled(lambda x: 2 * x, x, 4), 2 * x)
    norm = nn.BatchNorm1d(3)
    assert not torch.allclose(shuffled(norm, x, 3), in_groups(norm, x, 3))
    assert torch.allclose(shuffled(norm, x, 1), norm(x))


def test_layer_norms_keep_samples_apart() -> None:
    net = layer_norms(encoders.make("tiny", (3, 32, 32)))
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())
    x = torch.randn(4, 3, 32, 32, generator=generator(0))
    torch.testing.assert_close(net(x)[:1], net(x[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnetv2_18", "efficientnet_lite0"])
def test_layer_norms_keep_the_activation_that_a_norm_ends_with(name: str) -> None:
    """timm has norms that end with a ReLU; without it a net would be linear between its other activations."""
    net = encoders.make(name, (3, 32, 32))
    acts = [type(m) for m in net.modules() if isinstance(m, nn.ReLU | nn.ReLU6)]
    assert acts and [type(m) for m in layer_norms(net).modules() if isinstance(m, nn.ReLU | nn.ReLU6)] == acts
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())


# ---- MoCo


def test_moco_compares_with_the_old_queue_then_takes_the_keys() -> None:
    method = build("moco_v2", symmetric=False, queue=24)
    expected: deque[Tensor] = deque(method.memory.rows.clone(), maxlen=24)
    for step in range(3):
        views, before = views_of(method, step), copy.deepcopy(method)
        key = F.normalize(before.key(views["b"]))
        query = before.query(views["a"])
        loss, _ = method(views, T)
        torch.testing.assert_close(loss, info_nce(query, key, before.memory.rows, 0.2)[0])
        expected.extend(key)
        torch.testing.assert_close(method.memory.ordered(), torch.stack(list(expected)))


def test_moco_keys_follow_in_closed_form() -> None:
    method = build("moco_v2", momentum=0.9)
    (weight,) = [p for n, p in method.query.named_parameters() if n == "0.stem.weight"]
    key, expected = method.key.net.get_parameter("0.stem.weight"), weight.detach().clone()
    for step in range(4):
        with torch.no_grad():
            weight.add_(step + 1.0)
        method.after_step(T)
        expected = 0.9 * expected + 0.1 * weight.detach()
        torch.testing.assert_close(key, expected)
    assert not any(p.requires_grad for p in method.key.parameters())


def test_moco_version_1_has_a_linear_head() -> None:
    method = methods.load("moco_v1")(queue=64)
    with torch.device("meta"):
        method.build(DataInfo(10), encoders.make("resnet18", (3, 64, 64)))
    assert [tuple(m.weight.shape) for m in method.query[1].modules() if isinstance(m, nn.Linear)] == [(128, 512)]
    assert method.temperature == 0.07 and method.views.blur == (0.0, 0.0) and method.optim.drops


def test_moco_v3_of_a_constant_encoder_costs_two_log_n_times_two_tau() -> None:
    method = build("moco_v3", last_norm=False)
    fill(method.predictor[-1], 1.0)
    fill(method.predictor[0])
    loss, logs = method(views_of(method), T)
    assert loss.item() == pytest.approx(2 * 2 * method.temperature * math.log(16), rel=1e-5)
    assert logs["instance_accuracy"].item() == 0


def test_moco_v3_leaves_the_patch_projection_random() -> None:
    r = run("moco_v3", steps=3, method=build("moco_v3", encoder="tiny_tokens"))
    net = r.method.base[0].net
    patches, block = net.patch_embed.proj.weight.detach().clone(), net.blocks[0].attn.qkv.weight.detach().clone()
    r.train()
    assert torch.equal(net.patch_embed.proj.weight, patches)
    assert not torch.equal(net.blocks[0].attn.qkv.weight, block)
    free = build("moco_v3", encoder="tiny_tokens", freeze_patches=False)
    assert any(p is free.base[0].net.patch_embed.proj.weight for p in free.groups(T)["all"])


# ---- NNCLR, SimCLR v2, SupCon


def test_nnclr_looks_into_the_queue_before_it_fills_it() -> None:
    method = build("nnclr", queue=16)
    views, before = views_of(method), copy.deepcopy(method)
    z_a, z_b = before.projector(before.encoder(torch.cat((views["a"], views["b"])))).chunk(2)
    p_a, p_b = before.predictor(torch.cat((z_a, z_b))).chunk(2)
    rows = before.memory.rows
    total = 0.0
    for z, p in ((z_a, p_b), (z_b, p_a)):
        near = rows[(F.normalize(z) @ rows.T).argmax(1)]
        total = total + F.cross_entropy(near @ F.normalize(p).T / method.temperature, torch.arange(16)) / 2
    loss, _ = method(views, T)
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(method.memory.ordered(), F.normalize(z_a).detach())


def test_simclr_v2_keeps_the_first_layer_of_its_head() -> None:
    method = build("simclr_v2").eval()
    x = views_of(method)["a"]
    linear, norm, act = method.encoder.head
    torch.testing.assert_close(method.kept()(x), act(norm(linear(method.encoder.encoder(x)))))
    assert method.kept().dim == linear.out_features == method.hidden
    none = build("simclr_v2", kept_layers=0)
    assert none.kept().dim == none.encoder.encoder.dim
    depth = {k: sum(isinstance(m, nn.Linear) for m in build("simclr_v2", kept_layers=k).modules()) for k in (0, 1, 2)}
    assert depth == {0: 3, 1: 3, 2: 3}
    with pytest.raises(UserError, match="kept_layers"):
        build("simclr_v2", kept_layers=3)


def test_sup_con_takes_what_has_no_label_for_a_class_of_its_own() -> None:
    from nolabel.losses.contrastive import nt_xent

    method = build("supcon")
    views = views_of(method)
    z = copy.deepcopy(method)
    a, b = z.projector(z.encoder(torch.cat((views["a"], views["b"])))).chunk(2)
    alone, _ = method({**views, "label": torch.full((16,), -1)}, T)
    torch.testing.assert_close(alone, nt_xent(a, b, method.temperature)[0])
    assert not torch.allclose(method(views, T)[0], alone)


# ---- banks


def test_a_row_of_the_bank_moves_only_with_its_image() -> None:
    method = build("instance_discrimination")
    views, before = views_of(method), method.bank.rows.clone()
    v = F.normalize(copy.deepcopy(method).head(copy.deepcopy(method).encoder(views["x"])))
    method(views, T)
    index = views["index"]
    torch.testing.assert_close(method.bank.rows[index], F.normalize(0.5 * before[index] + 0.5 * v).detach())
    others = torch.ones(len(before), dtype=torch.bool).index_fill(0, index, False)
    assert torch.equal(method.bank.rows[others], before[others])


@pytest.mark.parametrize(("name", "head"), [("instance_discrimination", "head"), ("pirl", "image_head")])
def test_banks_start_with_the_embeddings_of_all_images(name: str, head: str) -> None:
    method = build(name)
    noise = Noise.of(method)
    method.begin_stage(T, Access(noise, method.views.plain))
    method.eval()
    with torch.no_grad():
        z = getattr(method, head)(method.encoder(method.views.plain(noise.stored)["image"]))
    torch.testing.assert_close(method.bank.rows, z / z.norm(dim=1, keepdim=True))


def test_each_bank_of_cmc_starts_with_its_own_half() -> None:
    method = build("cmc")
    noise = Noise.of(method)
    method.begin_stage(T, Access(noise, method.views.plain))
    method.eval()
    with torch.no_grad():
        halves = method.encoder.halves(method.views.plain(noise.stored)["image"])
    for half, head, bank in zip(halves, method.heads, method.banks):
        torch.testing.assert_close(bank.rows, F.normalize(head(half), dim=1))


@pytest.mark.parametrize("name", ["instance_discrimination", "pirl", "cmc"])
def test_noise_contrastive_estimation_trains_too(name: str) -> None:
    r = run(name, steps=3, method=build(name, negatives=20, softmax=False))
    r.train()
    banks = [m for m in r.method.modules() if type(m).__name__ == "MemoryBank"]
    torch.testing.assert_close(banks[0].rows.norm(dim=1), torch.ones(len(banks[0].rows)))


def test_pirl_without_parts_is_instance_discrimination() -> None:
    method = build("pirl", weight=0.0, softmax=False, negatives=0)
    views, before = views_of(method), copy.deepcopy(method)
    v, index = before.image_head(before.encoder(views["x"])), views["index"]
    rows, constant = before.bank.rows, partition(method.out, method.temperature)
    expected, _ = nce(v, rows[index], rows, method.temperature, constant, index)
    torch.testing.assert_close(method(views, T)[0], expected)


def test_pirl_updates_the_bank_from_the_image_alone() -> None:
    method = build("pirl")
    views, other = views_of(method), copy.deepcopy(method)
    method(views, T)
    other({**views, "parts": views["parts"].flip(-1)}, T)
    assert torch.equal(method.bank.rows, other.bank.rows)


def test_cmc_halves_see_only_their_own() -> None:
    net = LightAndColour(encoders.make("tiny", (3, 32, 32)), "lab", (0.0,) * 3, (1.0,) * 3).eval()
    x = 0.2 + 0.6 * torch.rand(2, 3, 32, 32, generator=generator(0))
    gray = x.mean(1, keepdim=True).expand(-1, 3, -1, -1).contiguous()
    _, color = net.halves(gray)
    _, no_color = net.halves(torch.full_like(gray, 0.5))
    torch.testing.assert_close(color, no_color, atol=1e-3, rtol=0)  # gray images have one and the same colour
    light_before, color_before = net.halves(x)
    fill(net.color)
    light_after, color_after = net.halves(x)
    assert torch.equal(light_before, light_after) and not torch.equal(color_before, color_after)
    assert net(x).shape == (2, 2 * net.light.dim)
    with pytest.raises(UserError, match="colour space 'hsv'"):
        LightAndColour(encoders.make("tiny", (3, 32, 32)), "hsv", (0.0,) * 3, (1.0,) * 3)


def test_each_half_of_cmc_asks_the_bank_of_the_other() -> None:
    method = build("cmc")
    views, before = views_of(method), copy.deepcopy(method)
    v = [g(h) for g, h in zip(before.heads, before.encoder.halves(views["x"]))]
    index, tau = views["index"], method.temperature
    pairs = ((v[0], before.banks[1].rows), (v[1], before.banks[0].rows))
    expected = sum(info_nce(x, rows[index], rows, tau, index)[0] for x, rows in pairs)
    loss, logs = method(views, T)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(logs["light_loss"] + logs["color_loss"], loss.detach())


# ---- places


def test_scorer_starts_around_the_identity_and_treats_rows_alike() -> None:
    scorer = Scorer(6, 6).eval()
    fill(scorer.block)
    x = torch.randn(2, 5, 6, generator=generator(0))
    torch.testing.assert_close(scorer(x), F.layer_norm(x, (6,)))
    assert Scorer(4, 9, "bn")(torch.randn(3, 7, 4)).shape == (3, 7, 9)


@pytest.mark.parametrize(
    ("bound", "weights"), [("jsd", (1.0, 0.0, 1.0)), ("dv", (0.5, 1.0, 0.0)), ("nce", (0.0, 1.0, 0.1))]
)
def test_deep_infomax_in_its_forms(bound: str, weights: tuple[float, float, float]) -> None:
    whole, local, prior = weights
    method = build("deep_infomax", bound=bound, global_weight=whole, local_weight=local, prior_weight=prior)
    assert method.turns == (("critic", "encoder") if prior else ("all",))
    r = run("deep_infomax", steps=3, method=method)
    before = {n: p.detach().clone() for n, p in method.named_parameters()}
    r.train()
    assert not [n for n, p in method.named_parameters() if torch.equal(p, before[n])]


def test_deep_infomax_needs_something_to_learn() -> None:
    with pytest.raises(UserError, match="nothing to learn"):
        build("deep_infomax", local_weight=0.0)
    method = build("deep_infomax", bound="x")
    with pytest.raises(UserError, match="bound 'x'"):
        method(views_of(method), Clock(0, 1, 1, 0, "encoder"))


@pytest.mark.parametrize("name", ["tiny", "resnet18", "tiny_tokens", "vit_tiny_patch16_224"])
def test_maps_lead_to_the_features(name: str) -> None:
    net, x = encoders.make(name, (3, 32, 32)).eval(), torch.randn(2, 3, 32, 32, generator=generator(0))
    h, maps = net.maps(x)
    torch.testing.assert_close(h, net(x))
    assert tuple(m.shape[1] for m in maps) == tuple(net.map_dims)
    assert all(m.ndim == 4 for m in maps) and maps[0].shape[2] >= maps[-1].shape[2]


# ---- CPC


def test_context_sees_no_row_below() -> None:
    net = RowContext(6, 8, 5)
    z = torch.randn(2, 5, 5, 6, generator=generator(0)).requires_grad_()
    for row in range(5):
        (grad,) = torch.autograd.grad(net(z)[:, row].sum(), z, retain_graph=True)
        seen = grad.abs().sum((0, 2, 3)) > 0
        assert seen.tolist() == [i <= row for i in range(5)]
    (grad,) = torch.autograd.grad(net(z)[:, 4, 2].sum(), z)
    assert (grad.abs().sum((0, 3)) > 0)[0].any()  # five blocks reach the first row


def test_cpc_predicts_the_patch_below_of_the_same_image_and_no_patch_above_is_needed() -> None:
    """In every direction the positive is k steps on, in the same image and line, and no context has seen it."""
    cpc = __import__("nolabel.methods.contrastive.cpc_v2", fromlist=["TURNS"])
    h, steps = 5, ((1, 0), (-1, 0), (0, 1), (0, -1))
    place = torch.arange(2 * h * h).view(2, h, h)
    for turn, (down, right) in zip(cpc.TURNS, steps):
        laid = turn(place)
        for k in (1, 2, 4):
            for source, target in zip(laid[:, :-k].flatten().tolist(), laid[:, k:].flatten().tolist()):
                image, row, column = source // 25, source // 5 % 5, source % 5
                assert target == image * 25 + (row + k * down) * 5 + column + k * right
        net = RowContext(3, 4, 2)
        z = torch.randn(1, h, h, 3, generator=generator(0)).requires_grad_()
        (grad,) = torch.autograd.grad(net(turn(z))[:, 1].sum(), z)
        hidden = turn(grad.abs().sum(3))[:, 2:]
        assert hidden.max() == 0 and grad.abs().max() > 0


def test_cpc_of_constant_features_costs_log_of_all_patches() -> None:
    method = build("cpc_v2")
    fill(method.embed)
    loss, _ = method(views_of(method), T)
    count = 16 * 5 * 5
    assert list(method.offsets) == [3, 4]
    assert loss.item() == pytest.approx(4 * 2 * math.log(count), rel=1e-5)


def test_cpc_offsets_leave_out_shared_pixels() -> None:
    v1, v2 = methods.load("cpc_v1"), methods.load("cpc_v2")
    assert list(v2().offsets) == [3, 4, 5] and list(v1().offsets) == [2, 3, 4, 5]
    with torch.device("meta"):
        method = v1()
        method.build(DataInfo(10), encoders.make("resnet18", (3, 64, 64)))
    assert len(method.context) == 1 and isinstance(method.embed, nn.Identity)
    assert any(isinstance(m, nn.BatchNorm2d) for m in method.encoder.modules())
    with pytest.raises(UserError, match="no two rows"):
        build("cpc_v2", views=Patches(size=32, patch=24, stride=8))


# ---- InfoMin


def test_infomin_trains_the_jigsaw_branch_on_the_same_keys() -> None:
    method = build("infomin")
    views, before = views_of(method), copy.deepcopy(method)
    loss, logs = method(views, T)
    key = before.key(views["b"])
    same, _ = info_nce(before.query(views["a"]), key, before.memory.rows, method.temperature)
    torch.testing.assert_close(loss, (same.detach() + logs["jigsaw_loss"]) / 2)
    first, act, last = before.part_head
    h = before.query[0](views["parts"].flatten(0, 1))
    joined = before.join(last(act(first(h))).view(16, -1))
    torch.testing.assert_close(
        info_nce(joined, key, before.memory.rows, method.temperature)[0].detach(), logs["jigsaw_loss"]
    )
    assert logs["information"].item() == pytest.approx(math.log(method.queue + 1) - same.item(), rel=1e-4)
    assert logs["information"] <= math.log(method.queue + 1)
    torch.testing.assert_close(method.memory.ordered()[-16:], F.normalize(key))


def test_jigsaw_views_go_through_pirl_and_infomin() -> None:
    from nolabel.views.parts import ImageAndParts, TwoViewsAndParts

    for name, views in (("pirl", ImageAndParts(size=64)), ("infomin", TwoViewsAndParts(size=64))):
        method = build(name, views=views)
        seen = views_of(method)
        assert seen["parts"].shape[1] == 9
        seed_all(0)
        loss, _ = method(seen, T)
        seed_all(0)
        mixed, _ = copy.deepcopy(method)({**seen, "parts": seen["parts"].flip(1)}, T)
        assert loss.isfinite() and not torch.equal(loss, mixed)  # the embedding depends on the order it is given


# ---- what is kept


@pytest.mark.parametrize("kind", ["Headed", "LightAndColour", "Patchwise", "Tilewise", "Edges"])
def test_wrapped_encoders_come_back_from_their_file(kind: str, tmp_path) -> None:
    net = encoders.make("tiny", (3, 32, 32))
    wrapped = {
        "Headed": lambda: Headed(net, 1, 24),
        "LightAndColour": lambda: LightAndColour(net, "ydbdr", (0.4,) * 3, (0.2,) * 3),
        "Patchwise": lambda: Patchwise(net, 12, 5),
        "Tilewise": lambda: Tilewise(net, 3, 8),
        "Edges": lambda: Edges(net),
    }[kind]()
    wrapped.eval()
    save_encoder(wrapped, tmp_path / "encoder.safetensors", {"name": "tiny", "size": 32, "channels": 3})
    x = torch.randn(2, 3, 32, 32, generator=generator(0))
    again = load_encoder(tmp_path / "encoder.safetensors")
    torch.testing.assert_close(again(x), wrapped(x))
    assert wrapped(x).shape == (2, wrapped.dim) and wrapped.size == 32
    assert token_pictures(wrapped, x, []) == [], "the report takes none of them for an encoder of tokens"


def test_edges_are_sobel_of_the_mean_channel() -> None:
    seen = []
    net = encoders.make("tiny", (3, 32, 32))
    net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.rand(1, 3, 32, 32, generator=generator(0))
    Edges(net).eval()(x)
    g = x[0].mean(0)
    right = (g[4, 8] - g[4, 6]) + 2 * (g[5, 8] - g[5, 6]) + (g[6, 8] - g[6, 6])
    down = (g[6, 6] - g[4, 6]) + 2 * (g[6, 7] - g[4, 7]) + (g[6, 8] - g[4, 8])
    torch.testing.assert_close(seen[0][0, :, 5, 7], torch.stack((right, down, torch.zeros(()))))
    assert seen[0].shape == x.shape
    with pytest.raises(UserError, match="3 channels"):
        Edges(encoders.make("tiny", (1, 32, 32)))


def test_ema_of_the_query_is_left_out_of_training() -> None:
    for name in ("moco_v2", "moco_v3", "infomin"):
        method = build(name)
        frozen = {id(p) for m in method.modules() if isinstance(m, EMA) for p in m.parameters()}
        assert frozen and not frozen & {id(p) for p in method.groups(T)["all"]}
    assert methods.load("supcon").labelled == 1.0


def test_a_bank_starts_where_an_untrained_net_tells_images_apart(tmp_path) -> None:
    trained = nl.train(
        "instance_discrimination", "toyworld:200", steps=1, batch=16, processes=1, evaluate=(), report=False, quiet=True,
        dir=tmp_path / "run",
    )  # fmt: skip
    rows = trained.method.bank.rows
    # with the batch norms' own first statistics, mean 0 and variance 1, rows are alike: 0.90
    assert (rows @ rows.T).mean() < 0.82
