"""What the distillation family promises beyond the contract: targets, memories, alternation, what it logs."""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F

from nolabel.core import Clock
from nolabel.core.random import generator, seed_all
from nolabel.losses.cluster import sinkhorn
from nolabel.losses.distill import negative_cosine
from nolabel.optim import steady
from tests.support import Noise, build, run

START = Clock(0, 10, 4)
TEACHERS = {
    "dino": lambda net: net[1], "ibot": lambda net: net["head"], "esvit": lambda net: net["head"],
    "mugs": lambda net: net["group"],
}  # fmt: skip
"""the head whose logits of views are made targets"""


def views_of(method, batch=4):
    noise = Noise.of(method, batch=batch)
    with torch.no_grad():
        return method.views(noise.at(0, 0), generator(0))


# ---- targets


def seen_and_asked(name, monkeypatch, **fields):
    """The logits of a teacher (N, K) and what it asks of its student (T, B, K), in one forward with a made-up centre."""
    method, seen, module = build(name, teacher_temperature=(0.04, 0.04), **fields), [], None
    with torch.no_grad():
        method.center.normal_(std=0.1, generator=generator(2))
    module, center = inspect.getmodule(type(method).forward), method.center.clone()
    TEACHERS[name](method.teacher.net).last.register_forward_hook(lambda layer, inputs, out: seen.append(out))
    real, asked = module.distill, []
    monkeypatch.setattr(module, "distill", lambda x, p, *a, **k: asked.append(p) or real(x, p, *a, **k))
    _, logs = method(views_of(method), START)
    return seen[0].flatten(0, -2), asked[0], center, logs


@pytest.mark.parametrize("name", TEACHERS)
def test_targets_are_centred_and_sharp(name, monkeypatch):
    logits, p_TBK, center, logs = seen_and_asked(name, monkeypatch, sinkhorn=False)
    expected = ((logits - center) / 0.04).softmax(1)
    torch.testing.assert_close(p_TBK.flatten(0, 1), expected)
    entropy = -sum(p * math.log(p) for row in expected.tolist() for p in row if p > 0) / len(expected)
    assert logs["teacher_entropy"].item() == pytest.approx(entropy, rel=1e-4)
    mean = expected.double().mean(0)
    assert logs["prototypes_used"].item() == pytest.approx((-(mean * mean.log()).sum()).exp().item() / 64, rel=1e-4)


@pytest.mark.parametrize("name", TEACHERS)
def test_targets_by_sinkhorn_are_those_of_all_views(name, monkeypatch):
    logits, p_TBK, _, _ = seen_and_asked(name, monkeypatch, sinkhorn=True)
    torch.testing.assert_close(p_TBK.flatten(0, 1), sinkhorn(logits, 0.04))


def test_sinkhorn_of_patches_counts_hidden_ones_alone(monkeypatch):
    import nolabel.methods.distillation.ibot as module

    asked, real = {}, module.distill_masked
    monkeypatch.setattr(module, "distill_masked", lambda x, p, w, tau: asked.update(p=p, w=w) or real(x, p, w, tau))
    method, seen = build("ibot", sinkhorn=True, shared_head=False), []
    method.teacher.net["patch_head"].last.register_forward_hook(lambda layer, inputs, out: seen.append(out))
    seed_all(5)
    method(views_of(method, 16), START)
    hidden = asked["w"].bool()
    assert hidden.any() and not hidden.all() and len(seen) == 1
    total = asked["p"][hidden].sum(0)
    assert total.max() < 4 * hidden.sum() / 64, "prototypes are not shared out over what is hidden"
    torch.testing.assert_close(asked["p"].sum(-1), torch.ones_like(asked["p"][..., 0]))


@pytest.mark.parametrize("name", [*TEACHERS, "dinov2", "swav", "obow", "deepcluster_v2", "byol", "simsiam"])
def test_a_collapse_is_logged(name):
    """std is 0 where all embeddings are the same, and well above the alarm's threshold in a fresh net on noise."""
    method = build(name)
    views = views_of(method, 16)
    healthy = method(views, START)[1]["std"].item()
    one = {k: (v[:1, :1] if v.ndim == 5 else v[:1]).expand_as(v) for k, v in views.items() if k != "index"}
    one |= {"b": one["a"]} if "a" in one else {}
    collapsed = method({**one, "index": views["index"]}, START)[1]["std"].item()
    assert collapsed < 0.01 < healthy <= 1.01


# ---- SimSiam


def test_simsiam_predicts_its_own_targets_where_one_step_alternates_with_one():
    method = build("simsiam")
    views = views_of(method)
    loss, _ = method(views, START)
    z = method.projector(method.encoder(torch.cat((views["a"], views["b"]))))
    (p_a, p_b), (z_a, z_b) = method.predictor(z).chunk(2), z.chunk(2)
    torch.testing.assert_close(loss, (negative_cosine(p_a, z_b) + negative_cosine(p_b, z_a)) / 2)
    assert method.earlier is None and not any("earlier" in k for k in method.state_dict())


def test_simsiam_keeps_the_net_of_its_targets_for_as_many_steps_as_asked():
    """theta of the targets at step t is theta of the net at step 3 floor(t / 3): before that step, after the one before."""
    r = run("simsiam", steps=8, method=build("simsiam", inner=3))
    nets, targets = [], []
    for step in range(8):
        nets.append(r.method.net()[0].stem.weight.detach().clone())
        targets.append(r.method.earlier.net[0].stem.weight.detach().clone())
        r.train(until=step + 1)
    assert all(torch.equal(targets[t], nets[3 * (t // 3)]) for t in range(8))
    assert not torch.equal(nets[0], nets[3]) and not torch.equal(nets[3], nets[6])


def test_simsiam_targets_of_an_earlier_net_by_hand():
    method = build("simsiam", inner=3)
    with torch.no_grad():
        for p in (*method.encoder.parameters(), *method.projector.parameters()):
            p.mul_(1.3)
    views = views_of(method)
    both = torch.cat((views["a"], views["b"]))
    loss, _ = method(views, START)
    goal_a, goal_b = method.earlier.net(both).chunk(2)
    guess_a, guess_b = method.predictor(method.projector(method.encoder(both))).chunk(2)
    cosine = (F.cosine_similarity(guess_a, goal_b) + F.cosine_similarity(guess_b, goal_a)).mean() / 2
    torch.testing.assert_close(loss, -cosine)


def test_the_rate_of_simsiams_predictor_has_no_schedule():
    r = run("simsiam", steps=6)
    own = {id(p) for p in r.method.predictor.parameters()}
    assert {id(p) for p in steady(r.method)} == own
    r.train(until=5)
    rates = {id(p): g["lr"] for o in r.optims.values() for g in o.param_groups for p in g["params"]}
    assert {rates[i] for i in own} == {r.method.optim.lr}
    assert {v for k, v in rates.items() if k not in own} != {r.method.optim.lr} and len(set(rates.values())) == 2


# ---- Mugs


def test_each_net_of_mugs_remembers_its_own_patches_of_the_first_view():
    method = build("mugs", encoder="tiny_tokens_coarse")
    with torch.no_grad():
        for p in method.student["encoder"].parameters():
            p.mul_(1.1)
    views = views_of(method)
    method(views, START)
    nets = {"student": method.student, "teacher": method.teacher.net}
    for name, memory in method.memories.items():
        encoder = nets[name]["encoder"]
        patches = encoder.encode(encoder.embed(views["global"][0]))[:, 1:].mean(1)
        assert memory.seen == 4 and len(memory.rows) == 64
        torch.testing.assert_close(memory.ordered()[-4:], F.normalize(patches, dim=1), rtol=1e-4, atol=1e-5)


def test_mugs_relates_the_mean_token_with_its_neighbours():
    method, seen = build("mugs", neighbours=3), []
    method.student["relate"].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    views, rows = views_of(method), method.memories["student"].rows.clone()
    method(views, START)
    encoder = method.student["encoder"]
    h = encoder.encode(encoder.embed(views["global"].flatten(0, 1)))
    for among, tokens in zip(seen[0], h):
        mean = tokens.mean(0)
        near = (F.normalize(rows, dim=1) @ mean).argsort(descending=True)[:3]
        torch.testing.assert_close(among[0], mean, rtol=1e-4, atol=1e-5)
        assert {tuple(row.tolist()) for row in among[1:]} == {tuple(rows[i].tolist()) for i in near}


def test_heads_of_mugs_have_no_biases_and_start_small():
    method = build("mugs", hidden=256)
    for part in (method.student["image"], method.student["local"], *method.predictors):
        assert not any(n.endswith("bias") for n, _ in part.named_parameters())
    assert method.student["image"][0].weight.std().item() == pytest.approx(0.02, rel=0.1)


# ---- DINOv2 and DINOv3


def test_the_anchor_of_gram_sees_the_crops_without_their_colours():
    method, seen = build("dinov2", gram=2.0), []
    views, encoder = views_of(method), method.anchor.net
    assert method.views.clean and not torch.equal(views["clean"], views["global"])
    real = encoder.embed
    encoder.embed = lambda x: seen.append(x) or real(x)
    method(views, Clock(9, 10, 4))
    assert len(seen) == 1 and torch.equal(seen[0], views["clean"].flatten(0, 1))
    assert "clean" not in views_of(build("dinov2"))


# ---- knowledge distillation


def test_knowledge_distillation_predicts_with_its_student():
    method = build("knowledge_distillation").eval()
    x = views_of(method)["x"]
    torch.testing.assert_close(method.predict(x), method.head(method.encoder(x)))
