"""What the semi-supervised methods do beyond their losses: rounds, teachers, ramps."""

import math

import pytest
import torch
from torch import nn

from nolabel import methods
from nolabel.core import Clock, DataInfo
from nolabel.core.random import generator, seed_all
from nolabel.networks.classifier import Ensemble
from tests.support import Access, Noise, build


class Tabular:
    """Stands in for the data of the hooks: fixed logits for every sample, the first third labelled."""

    def __init__(self, logits_NC):
        self.logits, self.info = logits_NC, DataInfo(len(logits_NC), ("a", "b"))
        self.labels = torch.where(torch.arange(len(logits_NC)) < len(logits_NC) // 3, 0, -1)

    def encode(self, net):
        return self.logits


def begun(name, stage, **fields):
    method = build(name, **fields)
    data = Tabular(3 * torch.randn(64, 2, generator=generator(0)))
    method.begin_stage(Clock(0, 6, 4, stage), data)
    return method, data


def rows(method, seed=0):
    noise = Noise.of(method)
    return method.views(noise.at(seed, 0), generator(seed))


def test_rounds_are_stages():
    kind = methods.load("pseudo_label")
    assert [kind(rounds=r).stages for r in (0, 3)] == [1, 4] and methods.load("noisy_student")(rounds=2).stages == 3


@pytest.mark.parametrize("round_", [1, 2])
def test_pseudo_labels_of_the_most_confident(round_):
    method, data = begun("pseudo_label", round_, rule="top", grow=0.25)
    p, free = data.logits.softmax(1), data.labels < 0
    assert torch.equal(method.guess, p.argmax(1)) and not method.trust[~free].any(), (
        "given labels are never overwritten"
    )
    for c in range(2):
        own = free & (p.argmax(1) == c)
        kept = own & (method.trust > 0)
        assert kept.sum() == round(0.25 * round_ * int(own.sum()))
        assert p.amax(1)[kept].min() >= p.amax(1)[own & ~kept].max()


def test_pseudo_labels_of_all_and_weighted():
    free = torch.arange(64) >= 21
    assert torch.equal(begun("pseudo_label", 1, rule="all")[0].trust, free.float())
    method, data = begun("pseudo_label", 1, rule="weighted")
    assert torch.allclose(method.trust, data.logits.softmax(1).amax(1) * free)
    sure, data = begun("pseudo_label", 1, rule="all", threshold=0.9)
    assert torch.equal(sure.trust > 0, free & (data.logits.softmax(1).amax(1) >= 0.9))


def test_a_round_starts_afresh_unless_warm():
    for warm in (False, True):
        method = build("pseudo_label", warm=warm)
        first = {k: v.clone() for k, v in method.model.state_dict().items()}
        with torch.no_grad():
            for p in method.model.parameters():
                p.add_(1.0)
        method.begin_stage(Clock(0, 6, 4, 1), Tabular(torch.randn(64, 2)))
        same = all(torch.equal(v, first[k]) for k, v in method.model.state_dict().items())
        assert same is not warm


def test_round_zero_learns_from_labels_alone():
    for name in ("pseudo_label", "noisy_student", "data_distillation"):
        method = build(name)
        views = rows(method)
        n = int((views["label"] >= 0).sum())
        key = "strong" if name == "noisy_student" else "x"
        t = Clock(0, 6, 4, 0)
        seed_all(0)
        loss, _ = method(views, t)
        views[key] = torch.cat((views[key][:n], torch.randn_like(views[key][n:])))
        seed_all(0)
        assert torch.equal(method(views, t)[0], loss), name


def test_noisy_students_classes_count_alike():
    method, data = begun("noisy_student", 1, confidence=0.6, each_class=0)
    sums = torch.zeros(2).index_add_(0, data.logits.argmax(1), method.trust)
    assert sums[0] > 0 and torch.allclose(sums[0], sums[1])
    assert torch.allclose(method.guess, data.logits.softmax(1))
    assert not method.trust[(data.logits.softmax(1).amax(1) <= 0.6) | (data.labels >= 0)].any()
    hard, data = begun("noisy_student", 1, hard=True)
    assert torch.equal(hard.guess.argmax(1), data.logits.argmax(1)) and set(hard.guess.unique().tolist()) == {0.0, 1.0}


def test_the_teacher_of_noisy_student_has_no_noise():
    method = build("noisy_student", dropout=0.9)
    noise = Noise.of(method)
    data = Access(noise, method.views.plain)
    assert torch.equal(data.encode(method.model), data.encode(method.model))


def test_ensemble_does_not_see_mirrors():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
    x = torch.randn(5, 3, 8, 8)
    many = Ensemble(net, (1.0, 1.3))
    views = many.transforms(x)
    assert len(views) == 4 and all(v.shape == x.shape for v in views)
    assert torch.equal(views[0], x) and torch.equal(views[2].flip(3), x)
    assert torch.allclose(many(x), many(x.flip(3)), atol=1e-6)
    assert torch.allclose(many(x), torch.stack([net(v).softmax(1) for v in views]).mean(0))


def test_data_distillation_ignores_what_got_no_label():
    method, _ = begun("data_distillation", 1, made=0.0)
    assert (method.guess == -1).all()
    views = rows(method)
    n = int((views["label"] >= 0).sum())
    head = method.model[1].weight
    loss, logs = method.eval()(views, Clock(0, 6, 4, 1))
    logits = method.model(views["x"][:n])
    want = nn.functional.cross_entropy(logits, views["label"][:n])  # the mean over those with a label
    assert torch.allclose(loss, want) and float(logs["labelled"]) == n / len(views["label"])
    assert torch.autograd.grad(loss, head)[0].any()


def test_mean_teacher():
    method = build("mean_teacher", consistency_weight=7.0, ramp_epochs=2.0, momentum=0.9)
    assert method.weight(Clock(0, 99, 10)) == pytest.approx(7 * math.exp(-5))
    assert [method.weight(Clock(s, 99, 10)) for s in (20, 50)] == pytest.approx([7.0, 7.0])
    views = rows(method)
    loss, logs = method(views, Clock(30, 99, 10))
    assert logs["consistency"] > 0
    loss.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    # the unlabelled rows reach the student by the consistency alone
    method.zero_grad()
    n = int((views["label"] >= 0).sum())
    supervised = nn.functional.cross_entropy(method.eval().student(views["a"]).chunk(2, 1)[0][:n], views["label"][:n])
    found = method(views, Clock(30, 99, 10))[1]["supervised"]
    assert found.item() == pytest.approx(float(supervised) * n / len(views["a"])), "of all rows, as w_max is meant for"
    x = views["a"].clone().requires_grad_()
    method.eval()({**views, "a": x}, Clock(30, 99, 10))[0].backward()
    assert x.grad[n:].flatten(1).any(1).all()
    with torch.no_grad():
        method.after_step(Clock(0, 99, 10))  # alpha starts at 0
    pairs = zip(method.teacher.net.parameters(), method.student.parameters())
    assert all(torch.equal(a, b) for a, b in pairs)


def test_uda_releases_labels():
    method = build("uda")
    assert method.released(0.0, 10) == pytest.approx(0.1) and method.released(1.0, 10) == pytest.approx(1.0)
    for annealing, sign in (("exp", -1), ("log", 1)):
        other = build("uda", annealing=annealing)
        assert sign * (other.released(0.5, 10) - method.released(0.5, 10)) > 0


def test_vat_leaves_running_statistics_as_one_pass_does():
    method, plain = build("vat"), build("vat")
    views = rows(method)
    method.train()(views, Clock(0, 6, 4))
    plain.train().model(views["x"])
    for (key, a), b in zip(method.model.state_dict().items(), plain.model.state_dict().values()):
        assert torch.equal(a, b), key


def test_vat_compares_its_step_with_a_random_one_of_the_same_rows():
    """A step of no length changes nothing, in whatever rows batch norms see."""
    method = build("vat", epsilon=0.0).train()
    logs = method(rows(method), Clock(0, 6, 4))[1]
    assert float(logs["random_kl"]) == pytest.approx(0, abs=1e-6) == pytest.approx(float(logs["virtual_kl"]), abs=1e-6)


def test_s4l_turns_share_the_class():
    method = build("s4l").eval()
    views = rows(method)
    n = int((views["label"] >= 0).sum())
    loss, logs = method(views, Clock(0, 6, 4))
    each = [nn.functional.cross_entropy(method.model(torch.rot90(views["x"][:n], r, (2, 3))), views["label"][:n])
            for r in range(4)]  # fmt: skip
    assert torch.allclose(logs["supervised"], torch.stack(each).mean(), atol=1e-5)
    turns = [nn.functional.cross_entropy(
        method.turns_head(method.model[0](torch.rot90(part, r, (2, 3)))), torch.full((len(part),), r)
    ) for part in (views["x"][:n], views["x"][n:]) for r in range(4)]  # fmt: skip
    assert torch.allclose(logs["rotation"], torch.stack(turns).mean(), atol=1e-5)
    assert torch.allclose(loss, logs["supervised"] + logs["rotation"])


def test_self_training_on_two_moons_beats_its_first_teacher():
    """Rule top in twelve rounds, two labels a class, against the labels alone; a wrong start stays wrong."""
    from nolabel.losses.semi import most_confident, weighted_cross_entropy

    angle = torch.rand(400, generator=generator(0)) * math.pi
    upper = torch.stack((angle.cos(), angle.sin()), 1)
    lower = torch.stack((1 - angle.cos(), 0.4 - angle.sin()), 1)
    x = torch.cat((upper, lower)) + 0.06 * torch.randn(800, 2, generator=generator(1))
    y = torch.arange(800) // 400
    rng = generator(2)
    direction, phase = torch.randn(2, 200, generator=rng) * 2.5, torch.rand(200, generator=rng) * 2 * math.pi
    features = (x @ direction + phase).cos() / 10  # a kernel machine with random features
    given = torch.cat([(angle - a).abs().argmin()[None] + 400 * c for c in (0, 1) for a in (0.9, 1.6)])
    labelled = torch.zeros(800, dtype=torch.bool)
    labelled[given] = True

    def fit(label, weight):
        w = torch.zeros(200, 2, requires_grad=True)
        optimizer = torch.optim.LBFGS([w], max_iter=60, line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()
            loss = weighted_cross_entropy(features @ w, label, weight) + 1e-4 * w.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        return (features @ w.detach()).softmax(1)

    def rounds(label):
        p = first = fit(label, labelled.float())
        for r in range(1, 13):
            chosen = most_confident(p, ~labelled, r / 12)
            p = fit(torch.where(labelled, label, p.argmax(1)), (chosen | labelled).float())
        return [float((q.argmax(1) == y).float().mean()) for q in (first, p)]

    teacher, student = rounds(y)
    assert student > teacher + 0.02
    wrong, still_wrong = rounds(1 - y)
    assert still_wrong < 0.5 and wrong < 0.5, "mistakes of the first teacher are learned, not mended"
