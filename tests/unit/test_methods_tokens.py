"""What the token methods promise beyond the contract: their losses by hand, their stops, their switches."""

import math

import pytest
import torch
import torch.nn.functional as F

from nolabel.core import Clock, UserError
from nolabel.core.random import generator, seed_all
from nolabel.encoders.files import load_encoder, save_encoder
from nolabel.encoders.image import image_encoder
from nolabel.engine import Observer
from nolabel.methods.masked.ijepa import IJEPA
from nolabel.networks.transformer import tapped
from nolabel.views.masks import index_mask
from tests.support import Noise, build, run, small

START = Clock(0, 10, 4)


def views_of(method, batch=4):
    noise = Noise.of(method, batch=batch)
    with torch.no_grad():
        return method.views(noise.at(0, 0), generator(0))


def loss_of(method, views, t=START, seed=5):
    seed_all(seed)
    return method(views, t)


# ---- LeJEPA


def test_lejepa_predicts_the_mean_of_the_global_views_and_moves_it():
    method = build("lejepa", weight=0.0)
    views = views_of(method)
    loss, logs = loss_of(method, views)
    z = method.projector(torch.cat([method.encoder(views[k].flatten(0, 1)) for k in ("global", "local")]))
    z = z.double().unflatten(0, (4, 4))
    total = 0.0
    for b in range(4):
        mean = [(z[0, b, d] + z[1, b, d]).item() / 2 for d in range(z.shape[2])]
        for v in range(4):
            total += sum((z[v, b, d].item() - mean[d]) ** 2 for d in range(z.shape[2])) / (16 * z.shape[2])
    assert loss.item() == pytest.approx(total, rel=1e-5)
    assert logs["prediction"] == loss.detach()


def test_lejepa_draws_other_directions_each_step_and_weighs_the_terms():
    method = build("lejepa")
    views = views_of(method)
    a, logs = loss_of(method, views)
    b, _ = loss_of(method, views, Clock(1, 10, 4))
    again, _ = loss_of(method, views, seed=6)
    assert a != b and a == again  # by the clock, so alike on all ranks
    torch.testing.assert_close(a.detach(), 0.95 * logs["prediction"] + 0.05 * logs["sigreg"])


# ---- SimMIM


def test_simmim_counts_hidden_pixels_only():
    method = build("simmim")
    views = views_of(method)
    seed_all(5)
    guess, mask = method.guess(views["x"])
    target, total = method.encoder.patchify(views["x"]), []
    for b in range(4):
        for i in range(64):
            if mask[b, i].item():
                total.append((guess[b, i].double() - target[b, i].double()).abs().mean().item())
    assert len(total) == 4 * 40  # ten cells of four tokens
    loss, _ = loss_of(method, views)
    assert loss.item() == pytest.approx(sum(total) / len(total), rel=1e-6)
    torch.nn.init.zeros_(method.head.weight)
    torch.nn.init.zeros_(method.head.bias)
    loss, _ = loss_of(method, views)
    assert loss.item() == pytest.approx(target[mask].abs().mean().item(), rel=1e-5)


def test_simmim_paints_patches_in_their_places():
    method = build("simmim")
    seed_all(5)
    rows = method.show(views_of(method), START)
    torch.testing.assert_close(rows["input"], views_of(method)["x"])
    seen = rows["visible"] != 0
    assert torch.equal(rows["painted"][seen], rows["input"][seen])


# ---- BEiT


def test_beit_trains_its_tokenizer_first_and_then_leaves_it():
    r, first = run("beit", steps=2, log_every=1), {}

    class Keep(Observer):
        def on_log(self, run, record):
            if run.stage == 0:
                first.update({k: v.clone() for k, v in run.method.state_dict().items()})

    r.observers = [Keep()]
    r.train()
    moved = {k for k, v in r.method.state_dict().items() if not torch.equal(v, first[k])}
    assert moved and not any(k.startswith("tokenizer.") for k in moved)
    assert first["tokenizer.steps"] == 2
    assert not any(p.requires_grad for p in r.method.tokenizer.parameters())


def test_beit_uniform_logits_cost_log_k_and_only_hidden_places_count():
    method = build("beit")
    views, second = views_of(method), Clock(0, 10, 4, stage=1)
    torch.nn.init.zeros_(method.head.weight)
    torch.nn.init.zeros_(method.head.bias)
    loss, logs = loss_of(method, views, second)
    assert loss.item() == pytest.approx(math.log(method.codes), rel=1e-5)
    assert 0 < logs["code_entropy"] <= math.log(method.codes)


def test_beit_shows_what_its_codes_say():
    method = build("beit")
    seed_all(5)
    rows = method.show(views_of(method), START)
    assert list(rows) == ["input", "codes", "guessed"]
    assert all(x.shape == (4, 3, 32, 32) for x in rows.values())


def test_codes_follow_their_patches():
    method = build("beit")
    method.tokenizer.read[0].conv.weight.data.zero_()  # without a look at the neighbours
    x = views_of(method)["x"][:1]
    moved = x.clone()
    moved[..., 8:12, 16:20] = 3.0
    a, b = (method.tokenizer.numbers(method.encoder.patchify(y)) for y in (x, moved))
    assert (a != b).nonzero().tolist() in ([], [[0, 2 * 8 + 4]])


# ---- iBOT


def test_ibot_without_masks_is_dino_by_hand():
    method = build("ibot", ratios=(0.0,), spreads=(0.0,), student_temperature=0.2, teacher_temperature=(0.04, 0.04))
    method.center.normal_()
    views = views_of(method)
    before = method.center.clone()
    loss, logs = loss_of(method, views)
    assert logs["patch"] == 0
    net = method.student
    student = [
        net["head"](net["encoder"](views[k].flatten(0, 1))).double().unflatten(0, (2, 4)) for k in ("global", "local")
    ]
    student = torch.cat(student)
    teacher = ((student[:2] - before) / 0.04).softmax(-1)  # at the start the teacher is the student
    terms = []
    for u in range(2):
        for v in range(4):
            if u != v:
                terms += [-(teacher[u, b] * (student[v, b] / 0.2).log_softmax(0)).sum().item() for b in range(4)]
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    torch.testing.assert_close(method.center, 0.9 * before + 0.1 * student[:2].float().mean((0, 1)))


def test_ibot_patches_by_hand():
    method = build("ibot", ratios=(0.3,), spreads=(0.2,), teacher_temperature=(0.04, 0.04))
    method.patch_center.normal_(std=0.1)
    views, center = views_of(method), method.patch_center.clone()
    seen = {}
    method.mask.register_forward_hook(lambda module, inputs, output: seen.update(mask=inputs[2], tokens=output))
    _, logs = loss_of(method, views)
    net, x = method.student, views["global"].flatten(0, 1)
    whole = net["patch_head"](net["encoder"].encode(net["encoder"].embed(x))[:, 1:]).double()
    masked = net["patch_head"](net["encoder"].encode(seen["tokens"])[:, 1:]).double()
    total = 0.0
    for n in range(8):
        hidden = [i for i in range(whole.shape[1]) if seen["mask"][n, i].item()]
        costs = [
            -(((whole[n, i] - center) / 0.04).softmax(0) * (masked[n, i] / 0.1).log_softmax(0)).sum().item()
            for i in hidden
        ]
        total += sum(costs) / max(1, len(costs)) / 8
    assert seen["mask"].any() and logs["patch"].item() == pytest.approx(total, rel=1e-5)
    expected = 0.9 * center + 0.1 * whole.float().mean((0, 1))
    torch.testing.assert_close(method.patch_center, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "least"), [("ibot", {"ratios": (0.3,), "spreads": (0.0,)}), ("dinov2", {"masked": 1.0})]
)
def test_masks_have_the_size_of_the_crops(name, least):
    """Crops may be smaller than what the encoder was built for."""
    method, sides = build(name, **least), []
    method.mask.register_forward_hook(lambda module, inputs, output: sides.append((inputs[2].sum(), output.shape[1])))
    views = views_of(method)
    views["global"] = views["global"][..., :24, :24]
    loss, logs = loss_of(method, views)
    (hidden, tokens), patch = sides[0], method.student["encoder"].patch
    assert loss.isfinite() and logs["patch"] > 0 and hidden > 0 and tokens == (24 // patch) ** 2


def test_ibot_may_hide_nothing_under_sinkhorn():
    method = build("ibot", ratios=(0.0,), spreads=(0.0,), sinkhorn=True)
    loss, logs = loss_of(method, views_of(method))
    assert loss.isfinite() and logs["patch"] == 0


def test_heads_are_shared_or_apart():
    for name, field in (("ibot", "shared_head"), ("dinov2", "untied")):
        for apart in (True, False):
            method = build(name, **{field: apart if field == "untied" else not apart})
            for net in (method.student, method.teacher.net):
                same = {p.data_ptr() for p in net["head"].parameters()} & {
                    p.data_ptr() for p in net["patch_head"].parameters()
                }
                assert bool(same) != apart


# ---- DINOv2


@pytest.mark.parametrize("changes", [{"koleo": 0.0}, {"patch_weight": 0.0}, {"sinkhorn": False}, {"untied": False}])
def test_every_switch_of_dinov2_acts(changes):
    methods = [build("dinov2", **given) for given in ({}, changes)]
    losses = [loss_of(m, views_of(m))[0].item() for m in methods]
    assert losses[0] != losses[1] and all(map(math.isfinite, losses))


def test_dinov2_sums_its_terms():
    method = build("dinov2", koleo=0.3, patch_weight=0.5)
    loss, logs = loss_of(method, views_of(method))
    torch.testing.assert_close(loss.detach(), logs["view"] + 0.5 * logs["patch"] + 0.3 * logs["koleo"])


def test_dinov2_without_masks():
    method = build("dinov2", masked=0.0)
    loss, logs = loss_of(method, views_of(method))
    assert logs["patch"] == 0 and loss.isfinite()


def test_the_anchor_is_the_teacher_of_its_moments():
    method, same = build("dinov2", gram=2.0, gram_from=0.5, gram_refresh=0.125, momentum=(0.5, 0.5)), []
    for step in range(17):
        with torch.no_grad():
            for p in method.student.parameters():
                p.add_(0.01)
            method.after_step(Clock(step, 17, 4))
        teacher = method.teacher.net["encoder"].state_dict()
        if all(torch.equal(v, teacher[k]) for k, v in method.anchor.net.state_dict().items()):
            same.append(step + 1)
    # until step 8 of 16, half of the run, the anchor goes along; then three times every two steps
    assert same == [*range(1, 9), 10, 12, 14]


def test_gram_begins_when_it_should_and_gives_the_anchor_no_gradient():
    method = build("dinov2", gram=2.0)
    views = views_of(method)
    _, logs = loss_of(method, views, Clock(0, 10, 4))
    assert "gram" not in logs
    late, logs = loss_of(method, views, Clock(9, 10, 4))
    assert logs["gram"] > 0  # the student sees masked views
    late.backward()
    assert all(p.grad is None for p in method.anchor.parameters())


# ---- EsViT


def test_esvit_by_hand():
    method = build(
        "esvit",
        encoder="tiny_tokens_coarse",
        region_weight=0.3,
        student_temperature=0.2,
        teacher_temperature=(0.04, 0.04),
    )
    for center in (method.center, method.region_center):
        center.normal_(std=0.1)
    views, center, region_center = views_of(method), method.center.clone(), method.region_center.clone()
    loss, logs = loss_of(method, views)
    net, seen = method.student, []
    for x in (*views["global"], *views["local"]):
        h = net["encoder"].encode(net["encoder"].embed(x)).double()
        seen.append((net["head"](h[:, 0].float()).double(), h[:, 1:], net["region_head"](h[:, 1:].float()).double()))
    view, region = [], []
    for u in range(2):
        for v in range(4):
            for b in range(4) if u != v else ():
                p = ((seen[u][0][b] - center) / 0.04).softmax(0)
                view.append(-(p * (seen[v][0][b] / 0.2).log_softmax(0)).sum().item())
                a, c = F.normalize(seen[v][1][b], dim=1), F.normalize(seen[u][1][b], dim=1)
                costs = []
                for i in range(len(a)):
                    j = (c @ a[i]).argmax()
                    p = ((seen[u][2][b, j] - region_center) / 0.04).softmax(0)
                    costs.append(-(p * (seen[v][2][b, i] / 0.2).log_softmax(0)).sum().item())
                region.append(sum(costs) / len(costs))
    view, region = sum(view) / len(view), sum(region) / len(region)
    assert logs["view"].item() == pytest.approx(view, rel=1e-4)
    assert logs["region"].item() == pytest.approx(region, rel=1e-4)
    assert loss.item() == pytest.approx(0.7 * view + 0.3 * region, rel=1e-4)


# ---- Mugs


@pytest.mark.parametrize("grain", [0, 1, 2])
def test_each_grain_of_mugs_is_a_switch(grain):
    weights = tuple(float(g == grain) for g in range(3))
    method = build("mugs", encoder="tiny_tokens_coarse", weights=weights)
    loss, logs = loss_of(method, views_of(method))
    assert loss.detach() == list(logs.values())[grain]
    loss.backward()
    heads = {"image": 0, "local": 1, "group": 2, "relate": 1}
    for name, own in heads.items():
        moved = any(p.grad is not None and p.grad.any() for p in method.student[name].parameters())
        assert moved == (own == grain), name


def test_mugs_contrasts_by_hand_and_remembers():
    method = build("mugs", encoder="tiny_tokens_coarse")
    views, rows = views_of(method), [q.rows.clone() for q in method.queues]
    _, logs = loss_of(method, views)
    net, predict = method.student, method.predictors[0]
    outs = [net["image"](net["encoder"](x)).double() for x in (*views["global"], *views["local"])]
    guess = [F.normalize(predict(F.normalize(out, dim=1).float()).double(), dim=1) for out in outs]
    goal = [F.normalize(out, dim=1) for out in outs[:2]]
    sizes = {True: [], False: []}
    for u in range(2):
        for v in range(4):
            for b in range(4) if u != v else ():
                own = math.exp((guess[v][b] @ goal[u][b]).item() / 0.2)
                others = sum(math.exp((guess[v][b] @ row.double()).item() / 0.2) for row in rows[0])
                sizes[v < 2].append(-math.log(own / (own + others)))
    expected = sum(sum(costs) / len(costs) for costs in sizes.values()) / 2
    assert logs["image"].item() == pytest.approx(expected, rel=1e-4)
    for queue in method.queues:
        assert queue.seen == 8 and len(queue.rows) == 64
    newest = method.queues[0].ordered()[-8:]
    torch.testing.assert_close(newest, torch.stack(goal, 1).flatten(0, 1).float(), rtol=1e-4, atol=1e-5)


# ---- I-JEPA


def test_ijepa_by_hand(monkeypatch):
    method = build("ijepa")
    views, seen = views_of(method), {}

    import nolabel.methods.masked.ijepa as module

    real = module.multiblock
    monkeypatch.setattr(module, "multiblock", lambda *a, **k: seen.setdefault("blocks", real(*a, **k)))
    loss, logs = loss_of(method, views)
    context, targets = seen["blocks"]
    x, net = views["x"], method.encoder
    goal = net.encode(net.embed(x))[:, 1:].double()
    goal = (goal - goal.mean(-1, keepdim=True)) / (goal.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    tokens, terms = net.embed(x), []
    for b in range(4):
        h = net.encode(tokens[b, context[b]][None])
        for n in range(4):
            guess = method.predictor(h, context[b][None], targets[b, n][None])[0].double()
            error = (guess - goal[b, targets[b, n]]).abs()
            terms.append(torch.where(error < 1, error**2 / 2, error - 0.5).mean().item())
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)
    away = torch.stack([(goal[b, i] - goal[:, i].mean(0)).abs() for b in range(4) for i in targets[b].flatten()])
    mean = torch.where(away < 1, away**2 / 2, away - 0.5).mean().item()
    assert logs["skill"].item() == pytest.approx(1 - loss.item() / mean, abs=1e-4)


def test_ijepa_sizes_are_those_of_the_paper():
    method = IJEPA()
    with torch.device("meta"):
        method.build(None, image_encoder("vit_tiny_patch16_224", 224))
    sizes = [method.sizes(Clock(step, 500, 10)) for step in range(500)]
    areas = [h * w / 196 for (h, w), _ in sizes]
    assert min(areas) > 0.12 and max(areas) < 0.24
    assert 0.17 < sum(areas) / 500 < 0.18
    assert {h for (h, w), _ in sizes} >= {5, 6, 7} and {side for _, (side, _) in sizes} == {13, 14}
    assert sizes[3] == method.sizes(Clock(3, 500, 10))


def test_smooth_l1_of_a_zero_prediction():
    assert F.smooth_l1_loss(torch.zeros(10**6), torch.randn(10**6, generator=generator(0))).item() == pytest.approx(
        0.4245, abs=2e-3
    )
    beta = F.smooth_l1_loss(torch.zeros(10**6), torch.randn(10**6, generator=generator(0)), beta=2.0).item()
    assert beta == pytest.approx(0.245, abs=5e-3)


# ---- data2vec


@pytest.mark.parametrize("normalise", ["layer", "instance"])
def test_data2vec_targets_by_hand(normalise):
    method = build("data2vec", normalise=normalise)
    x = views_of(method)["x"]
    target = method.target(x)
    with tapped(method.encoder) as layers, torch.no_grad():
        method.encoder.encode(method.encoder.embed(x))

    def norm(row):
        return (row - row.mean()) / (row.var(correction=0) + 1e-5).sqrt()

    for b in range(2):
        upper = torch.zeros(64, 96, dtype=torch.double)
        for layer in layers[-3:]:
            a = layer[b, 1:].double()
            rows = [norm(a[i]) for i in range(64)] if normalise == "layer" else [norm(a[:, d]) for d in range(96)]
            upper += torch.stack(rows, 0 if normalise == "layer" else 1) / 3
        for i in range(64):
            torch.testing.assert_close(target[b, i].double(), norm(upper[i]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(target.mean(-1), torch.zeros(4, 64), rtol=0, atol=1e-5)
    torch.testing.assert_close(target.var(-1, correction=0), torch.ones(4, 64), rtol=1e-3, atol=1e-3)
    assert not target.requires_grad


def test_data2vec_has_skill_beyond_the_mean_target_of_a_place(monkeypatch):
    import nolabel.methods.masked.data2vec as module

    method, seen, real = build("data2vec"), {}, module.mask_indices
    monkeypatch.setattr(module, "mask_indices", lambda *a: seen.setdefault("indices", real(*a)))
    x = views_of(method)["x"]
    loss, logs = loss_of(method, {"x": x})
    target, terms = method.target(x).double(), []
    for b, hidden in enumerate(seen["indices"][1].tolist()):
        away = (target[b, hidden] - target[:, hidden].mean(0)).abs()
        terms.append(torch.where(away <= 2, away**2 / 4, away - 1).mean().item())
    assert logs["skill"].item() == pytest.approx(1 - loss.item() / (sum(terms) / len(terms)), abs=1e-4)


def test_data2vec_hides_single_tokens_where_blocks_make_no_sense():
    method = build("data2vec", min_block=0)
    loss, _ = loss_of(method, views_of(method))
    assert loss.isfinite()


@pytest.mark.parametrize("name", ["mae", "beit", "ijepa"])
def test_what_is_told_by_place_is_told_in_one_size(name):
    method = build(name, views={"size": 16, "test_size": 32})
    with pytest.raises(UserError, match="must be alike"):
        method(method.views(Noise.of(method).at(0, 0), generator(0)), Clock(0, 10, 5))


# ---- MSN


def test_msn_by_hand(monkeypatch):
    import nolabel.methods.masked.msn as module

    method = build("msn", encoder="tiny_tokens", sinkhorn=False, mean_entropy=0.7)
    views, seen, real = views_of(method), {}, module.random_mask
    monkeypatch.setattr(module, "random_mask", lambda *a, **k: seen.setdefault("mask", real(*a, **k)))
    loss, logs = loss_of(method, views)
    net, keep = method.anchor, seen["mask"][0]
    encoder, whole, x = net["encoder"], *views["global"]
    assert keep.shape == (4, round(0.85 * (x.shape[2] // encoder.patch) ** 2)) and encoder.size > x.shape[2]
    dropped = torch.cat([encoder.encode(encoder.embed(x)[b : b + 1, keep[b]])[:, 0] for b in range(4)])
    z = net["head"](torch.cat((dropped, encoder(views["local"].flatten(0, 1))))).double()
    goal = net["head"](encoder(whole)).double()
    q = method.directions.double()

    def assign(v, tau):
        return (v @ q.T / v.norm(dim=1, keepdim=True) / q.norm(dim=1) / tau).softmax(-1)

    p, sharp = assign(z, 0.1), assign(goal, 0.1) ** 4
    sharp = sharp / sharp.sum(1, keepdim=True)
    agreement = sum(-(sharp[i % 4] * p[i].log()).sum().item() for i in range(len(p))) / len(p)
    mean = p.mean(0)
    unused = math.log(len(q)) + (mean * mean.log()).sum().item()
    assert logs["agreement"].item() == pytest.approx(agreement, rel=1e-4)
    assert logs["mean_entropy"].item() == pytest.approx(unused, rel=1e-4)
    assert loss.item() == pytest.approx(agreement + 0.7 * unused, rel=1e-4)


# ---- UM-MAE


def test_um_mae_sees_neither_what_is_sampled_out_nor_what_is_hidden_again(monkeypatch):
    import nolabel.methods.masked.um_mae as module

    method, seen = build("um_mae"), []
    x = views_of(method)["x"]
    for name in ("uniform_mask", "random_mask"):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real, **k: (seen.append(real(*a, **k)), seen[-1])[1])
    heard = []
    method.encoder.norm.register_forward_hook(lambda *given: heard.append(given[2]))
    loss_of(method, {"x": x})
    (keep, _), (again_keep, again) = seen
    assert keep.shape == (4, 16) and again.shape == (4, 4)
    really = torch.take_along_dim(keep, again_keep, 1)
    visible = method.encoder.unpatchify(index_mask(really, 64)[..., None].expand(-1, -1, 48).float()).bool()
    seen.clear()
    loss_of(method, {"x": torch.where(visible, x, torch.randn_like(x))})
    assert torch.equal(seen[0][0], keep) and torch.equal(heard[0], heard[1])


# ---- knowledge distillation


def test_kd_of_a_copy_costs_only_the_labels_and_leaves_the_teacher():
    method = build("knowledge_distillation", alpha=1.0)
    method.expert_head.load_state_dict(method.head.state_dict())
    method.eval()
    views, second = views_of(method), Clock(0, 10, 4, stage=1)
    buffers = {k: v.clone() for k, v in method.expert.state_dict().items()}
    loss, logs = loss_of(method, views, second)
    assert loss.item() == pytest.approx(0, abs=1e-6) and logs["agreement"] == 1
    method.train()
    loss, _ = loss_of(method, views, second)
    loss.backward()
    assert all(torch.equal(v, buffers[k]) for k, v in method.expert.state_dict().items())
    assert all(p.grad is None for p in method.expert.parameters())
    assert all(p.grad is not None for p in method.encoder.parameters())


def test_kd_alpha_0_is_cross_entropy_over_the_labelled_rows():
    method = build("knowledge_distillation", alpha=0.0, share=0.5).eval()
    views = views_of(method)
    assert (views["label"] >= 0).tolist() == [True, True, False, False]
    loss, _ = loss_of(method, views, Clock(0, 10, 4, stage=1))
    logits = method.head(method.encoder(views["x"])).double()
    expected = -sum(logits[b].log_softmax(0)[views["label"][b]].item() for b in range(2)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_kd_takes_a_teacher_from_a_file(tmp_path):
    seed_all(0)
    teacher = image_encoder("tiny", 32)
    path = tmp_path / "encoder.safetensors"
    save_encoder(teacher, path, {"name": "tiny", "size": 32, "channels": 3})
    method = build("knowledge_distillation", target="features", teacher=str(path))
    assert method.labelled == 0 and method.stages == 1
    views = views_of(method)
    loss, _ = loss_of(method, views)
    with torch.no_grad():
        t, s = teacher.eval()(views["x"]).double(), method.head(method.encoder(views["x"])).double()
    expected = sum(1 - (t[b] @ s[b] / t[b].norm() / s[b].norm()).item() for b in range(4)) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    trained = {id(p) for p in method.groups(START)["all"]}
    assert not trained & {id(p) for p in method.expert.parameters()}


def test_kd_says_what_it_lacks():
    with pytest.raises(UserError, match="--teacher"):
        build("knowledge_distillation", target="features")
    method = small("knowledge_distillation")
    from nolabel.core import DataInfo

    with pytest.raises(UserError, match="classes"):
        method.build(DataInfo(10, (), {"image": (32, 32, 3)}), image_encoder("tiny", 32))


# ---- what is kept


@pytest.mark.parametrize("name", ["ijepa", "data2vec", "simmim", "beit"])
def test_the_mean_over_patches_is_kept_in_the_file(name, tmp_path):
    method = build(name)
    x = views_of(method)["x"]
    net = method.kept().eval()
    torch.testing.assert_close(net(x), net.encode(net.embed(x))[:, 1:].mean(1))
    path = tmp_path / "encoder.safetensors"
    save_encoder(net, path, {"name": "tiny_tokens", "size": 32, "channels": 3})
    torch.testing.assert_close(load_encoder(str(path))(x), net(x))
