"""Point clouds: neighbours, views with correspondences, encoders, and the Chamfer distance against a loop."""

import pytest
import torch

from nolabel import encoders, methods, recipes
from nolabel.core import Clock, UserError
from nolabel.core.random import generator
from nolabel.losses.contrastive import info_nce_batch
from nolabel.losses.points import chamfer
from nolabel.networks.points import farthest, highest, nearest, pick
from nolabel.networks.voxels import voxelise
from nolabel.resolve import _suited
from nolabel.views.points import OneCloud, TwoClouds, rotations
from tests.support import Noise, build


def clouds(count=3, points=64, seed=0):
    return torch.rand(count, points, 3, generator=generator(seed)) - 0.5


# ---- neighbours ------------------------------------------------------------------------------------------------------
def test_nearest_is_the_sorted_loop():
    x, q = clouds(2, 30), clouds(2, 5, 1)
    found = nearest(q, x, 4)
    for b in range(2):
        for i in range(5):
            away = [sum((u - v) ** 2 for u, v in zip(q[b, i].tolist(), p)) for p in x[b].tolist()]
            assert found[b, i].tolist() == sorted(range(30), key=away.__getitem__)[:4]


def test_farthest_is_the_loop():
    x = clouds(2, 40)
    found = farthest(x, 9)
    for b in range(2):
        points, chosen = x[b].double().tolist(), [0]
        while len(chosen) < 9:
            gap = [min(sum((u - v) ** 2 for u, v in zip(p, points[c])) for c in chosen) for p in points]
            chosen.append(max(range(40), key=gap.__getitem__))
        assert found[b].tolist() == chosen


def test_pick_and_highest():
    x, index = clouds(2, 10), torch.randint(10, (2, 4, 3), generator=generator(0))
    loop = torch.stack([torch.stack([torch.stack([x[b, i] for i in row]) for row in index[b]]) for b in range(2)])
    assert torch.equal(pick(x, index), loop)
    assert torch.equal(highest(x, index), loop.amax(2))
    wants = x.clone().requires_grad_()
    (a,), (b,) = (
        torch.autograd.grad(f.square().sum(), wants) for f in (highest(wants, index), pick(wants, index).amax(2))
    )
    assert torch.allclose(a, b, atol=1e-6)


def test_chamfer_is_the_loop_symmetric_and_zero_for_equal_sets():
    rng = generator(0)
    a, b = (torch.randn(3, n, 3, generator=rng, dtype=torch.double) for n in (5, 7))

    def far(p, q):
        return sum((u - v) ** 2 for u, v in zip(p, q))

    total = 0.0
    for x, y in zip(a.tolist(), b.tolist()):
        total += sum(min(far(p, q) for q in y) for p in x) / 5 + sum(min(far(p, q) for p in x) for q in y) / 7
    assert float(chamfer(a, b)) == pytest.approx(total / 3, abs=1e-12)
    assert torch.allclose(chamfer(a, b), chamfer(b, a))
    assert float(chamfer(a, a[:, torch.randperm(5, generator=rng)])) == 0.0
    assert float(chamfer(a, a + 0.01)) > 0


# ---- views -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("up", [None, 0, 1, 2])
def test_rotations_are_proper(up):
    turn = rotations(500, up, generator(0)).double()
    eye = torch.eye(3, dtype=torch.double)
    assert torch.allclose(turn @ turn.mT, eye.expand(500, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(turn), torch.ones(500, dtype=torch.double), atol=1e-5)
    if up is not None:
        assert torch.allclose(turn[:, up], eye[up].expand(500, 3), atol=1e-5)
    trace = turn.diagonal(dim1=1, dim2=2).sum(1).mean()  # E 1 + 2 cos(angle)
    assert abs(float(trace) - (0.0 if up is None else 1.0)) < 0.2


def test_the_first_pairs_of_two_views_are_the_same_points():
    """Brute force: undo the two motions, then the nearest point of the other view is the partner."""
    x = clouds(4, 300)
    views = TwoClouds(points=120, pairs=40, crop=(0.6, 0.9), scale=(0.8, 1.2), drop=0.1)
    made = views({"points": x, "index": torch.arange(4)}, generator(3))
    a, b = made["a"].double(), made["b"].double()
    assert a.shape == b.shape == (4, 120, 3) and "points" not in made
    for k in range(4):
        # the similarity that takes a's matched points to b's, by the orthogonal Procrustes problem
        p, q = (v[k, :40] - v[k, :40].mean(0) for v in (a, b))
        u, s, v = torch.linalg.svd(p.T @ q)
        turn, scale = u @ v, s.sum() / p.square().sum()
        assert torch.linalg.det(turn) > 0
        moved = scale * (a[k] - a[k, :40].mean(0)) @ turn + b[k, :40].mean(0)
        away = torch.cdist(moved[:40], b[k])
        assert torch.equal(away.argmin(1), torch.arange(40)) and away.min(1).values.max() < 1e-4
    assert len(torch.unique(a[0], dim=0)) == 120
    own = {tuple(p) for p in (a[0, 40:].norm(dim=1) * 1e4).long()[:, None].tolist()}
    assert len(own) > 70  # and the other points are not the same rows


def test_views_turn_apart_and_are_centred():
    made = TwoClouds(points=64, pairs=16)({"points": clouds(8, 200)}, generator(0))
    assert made["a"].mean(1).abs().max() < 1e-5
    assert (made["a"][:, :16] - made["b"][:, :16]).norm(dim=2).mean() > 0.2


def test_crop_takes_a_cuboid_and_drop_leaves_one_out():
    x = clouds(6, 1000)
    keep = OneCloud(points=300, crop=(0.3, 0.3), scale=(1.0, 1.0), shift=0.0)({"points": x}, generator(0))["x"]
    extent = (keep.amax(1) - keep.amin(1)).prod(1)
    assert keep.shape == (6, 300, 3) and (extent < 0.45).all()  # of a unit cube
    ranks = OneCloud(drop=0.2).rank(x, generator(0))
    lost = ranks >= 2
    assert torch.equal(lost.sum(1), torch.full((6,), 200))
    inside = x[0][lost[0]]
    box = ((x[0] >= inside.amin(0)) & (x[0] <= inside.amax(0))).all(1)
    assert int(box.sum()) == 200


def test_scale_stretch_shift_and_flip():
    x = clouds(2000, 8)
    plain = OneCloud(points=8).plain({"points": x})["points"]
    assert torch.allclose(plain, x - x.mean(1, keepdim=True))
    order = OneCloud(points=8, shift=0.0)
    made = order({"points": x}, generator(0))["x"]
    ratio = made.norm(dim=1) / plain.norm(dim=1)
    assert ratio.min() > 2 / 3 - 1e-4 and ratio.max() < 3 / 2 + 1e-4 and (ratio[:, 0] - ratio[:, 1]).abs().max() > 0.3
    uniform = OneCloud(points=8, shift=0.0, stretch=False)({"points": x}, generator(0))["x"]
    ratio = uniform.norm(dim=1) / plain.norm(dim=1)
    assert torch.allclose(ratio[:, 0], ratio[:, 2], rtol=1e-3)
    shifted = OneCloud(points=8, scale=(1.0, 1.0))({"points": x}, generator(0))["x"].mean(1)
    assert 0.19 < shifted.abs().max() <= 0.2 + 1e-5 and shifted.mean(0).abs().max() < 0.02


def test_small_clouds_give_all_they_have():
    assert OneCloud(points=100)({"points": clouds(2, 30)}, generator(0))["x"].shape == (2, 30, 3)
    made = TwoClouds(points=100, pairs=20, crop=(1.0, 1.0))({"points": clouds(2, 30)}, generator(0))
    assert made["a"].shape == (2, 30, 3) and len(torch.unique(made["a"][0], dim=0)) == 30


def test_small_crops_take_their_own_points_again():
    x, still = clouds(4, 400), {"scale": (1.0, 1.0), "shift": 0.0, "turn": "none"}
    for view in (OneCloud(points=400, crop=(0.3, 0.3), drop=0.1, **still),
                 TwoClouds(points=400, pairs=20, crop=(0.3, 0.3), drop=0.1, **still)):  # fmt: skip
        made = view({"points": x}, generator(0))
        for seen in (made[k] for k in ("x", "a", "b") if k in made):
            assert seen.shape == (4, 400, 3), "as many as asked for"
            counts = [torch.unique(cloud, dim=0, return_counts=True)[1] for cloud in seen]
            assert all(80 <= len(c) <= 125 + 20 and c.max() - c.min() <= 1 for c in counts), "and all as often"


def test_clouds_are_stored_with_points_enough_for_the_crop():
    assert TwoClouds().stored == _suited(TwoClouds())["points"] == 3414  # 2,048 of at least 60 %
    views = methods.load("depth_contrast")().views
    assert views.stored == 50_000 and _suited(OneCloud())["points"] == 1024
    small = [recipes.find("tiny", name, 32).fields["views"] for name in methods.names() if "point" in name]
    assert len(small) == 2 and all(_suited(views) == {} for views in small)
    x = clouds(8, TwoClouds().stored)
    made = TwoClouds()({"points": x}, generator(0))
    assert all(len(torch.unique(cloud, dim=0)) == 2048 for k in ("a", "b") for cloud in made[k])


# ---- encoders --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["tiny_points", "tiny_point_groups"])
def test_features_do_not_depend_on_the_order_of_points(name):
    torch.manual_seed(0)
    encoder, x = encoders.make(name, (64, 3)).eval(), clouds(2)
    order = torch.cat((torch.zeros(1, dtype=torch.long), 1 + torch.randperm(63, generator=generator(0))))
    # the first point stays: farthest point sampling starts there
    assert torch.allclose(encoder(x), encoder(x[:, order]), atol=1e-4)
    assert encoder(x).shape == (2, encoder.dim)


def test_features_of_points_follow_the_points():
    torch.manual_seed(0)
    encoder, x = encoders.make("tiny_points", (64, 3)).eval(), clouds(2)
    order = torch.randperm(64, generator=generator(0))
    assert torch.allclose(encoder.points(x)[:, order], encoder.points(x[:, order]), atol=1e-4)
    assert torch.allclose(encoder.points(x).amax(1), encoder(x))


def test_edge_convolution_is_the_formula():
    torch.manual_seed(0)
    layer = encoders.points.EdgeConv(3, 8)
    x = clouds(2, 20)
    near = nearest(x, x, 5)
    own, other = layer.own.weight, layer.other.weight
    edges = pick(x, near)
    w = torch.cat((own + other, other), 1)  # W [x_i, x_j - x_i] + b
    pairs = torch.cat((x[:, :, None].expand_as(edges), edges - x[:, :, None]), -1) @ w.T + layer.own.bias
    assert torch.allclose(layer(x, near), layer.norm(pairs.amax(2)).relu(), atol=1e-5)


def test_groups_are_relative_and_go_back():
    torch.manual_seed(0)
    encoder, x = encoders.make("tiny_point_groups", (256, 3)), clouds(2, 256)
    assert (encoder.length, encoder.patch_dim, encoder.grid) == (16, 48, (16,))
    centre, member = encoder.group(x)
    assert torch.equal(member[:, :, 0], torch.zeros(2, 16, 3))  # a centre is its own nearest point
    assert torch.allclose(encoder.patchify(x), encoder.patchify(x + 1.0), atol=1e-6)
    back = encoder.unpatchify(encoder.patchify(x), centre)
    away = (back[:, :, None] - x[:, None]).norm(dim=3)
    assert away.amin(2).max() < 1e-6


def test_kept_tokens_know_nothing_of_hidden_groups():
    torch.manual_seed(0)
    encoder, x = encoders.make("tiny_point_groups", (256, 3)).eval(), clouds(2, 256)
    centre, member = encoder.group(x)
    keep, hide = torch.arange(6), torch.arange(6, 16)
    changed_centre, changed_member = centre.clone(), member.clone()
    changed_centre[:, hide] += 1.0
    changed_member[:, hide] *= 2.0
    before, after = (
        encoder.encode(encoder.embed_groups(c, m)[:, keep])
        for c, m in ((centre, member), (changed_centre, changed_member))
    )
    assert torch.equal(before, after)


def test_errors():
    with pytest.raises(UserError, match="at least 16 points"):
        encoders.make("tiny_points", (8, 3))


# ---- the loss of PointContrast ---------------------------------------------------------------------------------------
def test_orthonormal_matches_have_a_closed_form():
    f = torch.eye(6, dtype=torch.double)
    loss, accuracy = info_nce_batch(f, f, 0.4)
    value = torch.tensor(1 / 0.4, dtype=torch.double)
    assert float(loss) == pytest.approx(float((value.exp() + 5).log() - value), abs=1e-9)
    assert float(accuracy) == 1.0


# ---- DepthContrast ---------------------------------------------------------------------------------------------------
def test_voxels_are_the_occupied_cells():
    x = clouds(2, 50)
    cells = voxelise(x, 8)
    for b in range(2):
        reach = x[b].abs().max()
        expected = {tuple(min(7, int((v / reach + 1) * 4)) for v in p) for p in x[b]}
        assert {tuple(c) for c in cells[b, 0].nonzero().tolist()} == expected
    assert cells.unique().tolist() == [0.0, 1.0]


def naive_info_nce(q, k, queue, tau):
    """-mean log of the share of the key among key and queue, in floats."""
    total = 0.0
    q, k = (torch.nn.functional.normalize(v.double()) for v in (q, k))
    for i in range(len(q)):
        own = torch.exp(q[i] @ k[i] / tau)
        total -= torch.log(own / (own + sum(torch.exp(q[i] @ n / tau) for n in queue.double())))
    return float(total) / len(q)


def test_depth_contrast_is_half_of_four_terms_and_queues_stay_apart():
    method = build("depth_contrast", queue=20)
    noise = Noise.of(method)
    views = method.views(noise.at(0, 0), generator(0))
    with torch.no_grad():
        for p in method.online.parameters():  # else both averages equal their nets
            p.add_(0.1 * torch.randn(p.shape, generator=generator(p.numel())))
        q = {k: net(views["a"]) for k, net in method.online.items()}
        k = {k: net(views["b"]) for k, net in method.average.items()}
    queues = {name: queue.rows.clone() for name, queue in method.queues.items()}
    loss, _ = method(views, Clock(0, 6, 4))
    terms = [naive_info_nce(q[f], k[g], queues[g], method.temperature) for f in q for g in k]
    assert loss.item() == pytest.approx(sum(terms) / 2, rel=1e-4)
    for name in k:
        assert torch.allclose(method.queues[name].ordered()[-16:], torch.nn.functional.normalize(k[name]), atol=1e-6)
    loss.backward()
    assert all(p.grad is None for net in method.average.values() for p in net.parameters())


def test_point_mae_predicts_hidden_groups_only(monkeypatch):
    """With groups 0 to 5 kept, what the loss compares are the members of the other ten, about their centres."""
    from nolabel.methods.points import point_mae as module

    method = build("point_mae")
    views = method.views(Noise.of(method).at(0, 0), generator(0))
    places = torch.arange(16).expand(16, 16)
    monkeypatch.setattr(module, "random_mask", lambda *a, **k: (places[:, :6], places[:, 6:]))
    seen = {}
    monkeypatch.setattr(module, "chamfer", lambda guess, true: seen.update(guess=guess, true=true) or guess.sum() * 0)
    method(views, Clock(0, 6, 4))
    assert torch.equal(seen["true"].unflatten(0, (16, 10)), method.encoder.group(views["x"])[1][:, 6:])
    assert seen["guess"].shape == (160, 16, 3)
