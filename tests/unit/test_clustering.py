"""What the papers of the clustering family promise, by hand: who is assigned to what, when, and who gets gradient."""

import copy
import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel import methods, recipes
from nolabel.core import Clock, DataInfo
from nolabel.core.random import deal, generator
from nolabel.losses.cluster import sinkhorn
from tests.support import Access, Noise, build, run


def ready(name: str, **changes) -> tuple[nn.Module, Noise, Clock]:
    method = build(name, **changes)
    noise, t = Noise.of(method), Clock(0, 40, 4)
    torch.manual_seed(3)
    method.begin_stage(t, Access(noise, method.views.plain))
    method.begin_epoch(t, Access(noise, method.views.plain))
    return method.train(), noise, t


def views_of(method: nn.Module, noise: Noise, step: int = 0) -> dict:
    with torch.no_grad():
        return method.views(noise.at(0, step), generator(step))


class Flat(nn.Module):
    """An encoder that sees no difference."""

    dim, map_dims = 8, (8,)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.expand(len(x), -1)


@pytest.mark.parametrize(("name", "known"), [("swav", 128), ("deepcluster_v2", 64), ("sela", 64), ("deepcluster", 100)])
def test_nothing_learned_costs_log_k(name: str, known: int) -> None:
    method = methods.load(name)(**recipes.find("tiny", name, 32).fields)
    method.build(DataInfo(64), Flat())
    for layer in ("last", "classifiers", "classifier"):
        for p in getattr(method, layer, nn.Identity()).parameters():
            p.data.zero_()
    loss, _ = method(views_of(method, Noise.of(method)), Clock(0, 40, 4))
    assert loss.item() == pytest.approx(math.log(known), rel=1e-4)


# ---- SwAV -------------------------------------------------------------------------------------------------------------
def test_swav_is_the_formula_over_all_pairs_of_crops() -> None:
    method, noise, t = ready("swav")
    method.eval()
    views = views_of(method, noise)
    loss, _ = method(views, t)
    crops = [*views["global"], *views["local"]]
    with torch.no_grad():
        z = [F.normalize(method.projector(method.encoder(x)), dim=1).double() for x in crops]
    scores = [x @ F.normalize(method.last.weight.double(), dim=1).T for x in z]
    terms = []
    for code in range(2):
        q = sinkhorn(scores[code], method.epsilon, method.iterations)
        for crop in range(len(crops)):
            if crop != code:
                log_p = (scores[crop] / method.temperature).log_softmax(1)
                terms.append(-sum((q[i] * log_p[i]).sum().item() for i in range(len(q))) / len(q))
    assert len(terms) == 2 * (len(crops) - 1)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_swav_gives_no_gradient_through_codes() -> None:
    method, noise, t = ready("swav")
    views = views_of(method, noise)
    z = torch.randn(16, method.out, requires_grad=True)
    assert not method.codes(0, z, method.last(F.normalize(z, dim=1)), t).requires_grad
    del views


def test_swav_prototypes_are_unit_and_wait() -> None:
    r = run("swav", steps=6, method=build("swav", freeze_last=0.75))  # 3 of 4 steps of an epoch
    start = r.method.last.weight.detach().clone()
    torch.testing.assert_close(start.norm(dim=1), torch.ones(len(start)))
    r.train(until=3)
    assert torch.equal(r.method.last.weight, start)
    r.train()
    assert not torch.equal(r.method.last.weight, start)
    torch.testing.assert_close(r.method.last.weight.norm(dim=1), torch.ones(len(start)))


def test_swav_uses_its_queue_when_it_is_full_and_asked_for() -> None:
    method, noise, _ = ready("swav", queue=32, queue_from=1.0)
    without, _, _ = ready("swav", queue=0)
    without.load_state_dict({k: v for k, v in method.state_dict().items() if not k.startswith("queues")})
    before = copy.deepcopy(method.queues.state_dict())
    views = views_of(method, noise)

    def loss(net: nn.Module, step: int) -> Tensor:
        if net is method:
            method.queues.load_state_dict(before)
        return net(views, Clock(step, 40, 4))[0]

    assert torch.equal(loss(method, 3), loss(without, 3)), "in use before its epoch"
    assert not torch.equal(loss(method, 4), loss(without, 4)), "not in use"
    method.epoch_steps = 4
    early = ready("swav", queue=320, queue_from=1.0)[0]
    early.load_state_dict({**early.state_dict(), **without.state_dict()})
    assert torch.equal(early(views, Clock(19, 40, 4))[0], loss(without, 19)), "in use before it was full"
    with torch.no_grad():
        z = F.normalize(torch.randn(16, method.out), dim=1)
        scores = method.last(z)
        method.queues.load_state_dict(before)
        rows = method.queues[1].rows.clone()
        codes = method.codes(1, z, scores, Clock(8, 40, 4))
        together = sinkhorn(torch.cat((method.last(rows), scores)), method.epsilon, method.iterations)[32:]
    torch.testing.assert_close(codes, together)
    torch.testing.assert_close(method.queues[1].ordered()[-16:], z)
    torch.testing.assert_close(method.queues[0].rows, before["0.rows"])


def test_swav_prototypes_wait_for_steps_in_epochs_of_any_length() -> None:
    method, _, _ = ready("swav", freeze_last=0.5, freeze_steps=30)
    assert [method.held(Clock(step, 10**4, 10)) for step in (0, 29, 30)] == [True, True, False]
    assert [method.held(Clock(step, 10**4, 100)) for step in (0, 49, 50)] == [True, True, False]


@pytest.mark.parametrize("name", ["swav", "deepcluster_v2", "obow"])
def test_scores_are_in_full_precision(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = inspect.getmodule(type(build(name)).forward)
    real, seen = module.products, []
    monkeypatch.setattr(module, "products", lambda x, rows: seen.append((x, rows, real(x, rows))) or seen[-1][2])
    method, noise, t = ready(name)
    with torch.autocast("cpu", torch.bfloat16):
        method(views_of(method, noise), t)
    assert seen
    for x, rows, scores in seen:
        assert scores.dtype == torch.float32
        expected = x.double() @ rows.double().mT
        torch.testing.assert_close(scores.double(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_swav_needs_no_small_crops() -> None:
    method, noise, t = ready("swav", views={"locals": 0})
    views = views_of(method, noise)
    assert "local" not in views and method(views, t)[0].isfinite()


# ---- DeepCluster and its second version -------------------------------------------------------------------------------
def test_deepcluster_v2_assigns_by_the_banks_and_keeps_centroids_out_of_training() -> None:
    method, noise, t = ready("deepcluster_v2", prototypes=6)
    for head in range(3):
        scores = method.banks[head % 2].rows @ method.centroids[head].T
        assert torch.equal(scores.argmax(1), method.cluster[head])
        torch.testing.assert_close(method.centroids[head].norm(dim=1), torch.ones(6))
    assert not any("centroid" in n for n, _ in method.named_parameters())
    assert not torch.equal(method.cluster[0], method.cluster[2]), "heads on one bank start alike"
    views = views_of(method, noise)
    method(views, t)
    method.eval()
    fresh = F.normalize(method.projector(method.encoder(views["global"][1])), dim=1)
    method.train()
    rows = method.banks[1].rows[views["index"]]
    assert (rows - fresh).norm() < (method.banks[0].rows[views["index"]] - fresh).norm() + 1
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(16))
    before = method.cluster.clone()
    method.begin_epoch(Clock(4, 40, 4), None)  # from the banks alone
    assert not torch.equal(before, method.cluster)


def test_deepcluster_v2_is_the_formula() -> None:
    method, noise, t = ready("deepcluster_v2", prototypes=6)
    method.eval()
    views = views_of(method, noise)
    loss, _ = method(views, t)
    total, count = 0.0, 0
    with torch.no_grad():
        for crop in (*views["global"], *views["local"]):
            z = F.normalize(method.projector(method.encoder(crop)), dim=1)
            for head in range(3):
                for row, index in zip(z, views["index"], strict=True):
                    log_p = (method.centroids[head] @ row / method.temperature).double().log_softmax(0)
                    total, count = total - log_p[method.cluster[head, index]].item(), count + 1
    assert loss.item() == pytest.approx(total / count, rel=1e-4)


def test_deepcluster_weights_stand_for_drawing_clusters_uniformly() -> None:
    method, _, _ = ready("deepcluster")
    size = method.cluster.bincount(minlength=12)
    mass = torch.zeros(12).index_add_(0, method.cluster, method.weight[method.cluster])
    assert len(method.cluster) == 64 and size.sum() == 64
    used = int((size > 0).sum())
    torch.testing.assert_close(mass[size > 0], torch.full((used,), 64 / used))
    assert method.weight[method.cluster].mean().item() == pytest.approx(1.0)


def test_deepcluster_keeps_its_clusters_for_as_many_epochs_as_asked() -> None:
    method, noise, _ = ready("deepcluster", reassign=3)
    before = method.cluster.clone()
    with torch.no_grad():
        method.encoder.stem.weight.normal_()
    for step in (4, 8):
        method.begin_epoch(Clock(step, 40, 4), None)
    assert torch.equal(method.cluster, before)
    method.begin_epoch(Clock(12, 40, 4), Access(noise, method.views.plain))
    assert not torch.equal(method.cluster, before)


@pytest.mark.parametrize("name", ["deepcluster", "deepercluster"])
def test_as_in_the_paper_clusterings_see_no_colours(name: str) -> None:
    method, x = build(name, sobel=True).eval(), torch.rand(4, 3, 32, 32, generator=generator(0))
    gray = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(method.encoder(gray), method.encoder(x))
    assert not torch.allclose(method.encoder(x.flip(0)), method.encoder(x))


def test_deepcluster_starts_its_classifier_anew() -> None:
    method, noise, _ = ready("deepcluster", reassign=1)
    with torch.no_grad():
        method.classifier.weight.add_(1.0)
        method.classifier.bias.add_(1.0)
    kept = method.encoder.state_dict()["stem.weight"].clone()
    method.begin_epoch(Clock(4, 40, 4), Access(noise, method.views.plain))
    assert method.classifier.weight.std().item() == pytest.approx(0.01, rel=0.3)
    assert not method.classifier.bias.any() and torch.equal(method.encoder.state_dict()["stem.weight"], kept)
    assert 0 < method.unchanged <= 1


# ---- SeLA -------------------------------------------------------------------------------------------------------------
def test_sela_labels_are_balanced_and_due_densely_at_first() -> None:
    method, noise, _ = ready("sela", rounds=5, strength=25.0)
    for labels in method.label:
        assert labels.bincount(minlength=12).max() <= 3 * 64 / 12
    access = Access(noise, method.views.plain)
    done = []
    for epoch in range(10):
        method.begin_epoch(Clock(4 * epoch, 40, 4), access)
        done.append(int(method.done))
    expected = [max(r + 1 for r in range(5) if (r / 4) ** 2 <= 4 * epoch / 39) for epoch in range(10)]
    assert done == expected and done[0] == 1 and done[1] == 2
    marked = method.label.clone()
    method.begin_epoch(Clock(36, 40, 4), None)
    assert torch.equal(marked, method.label), "no label optimisation is due"


# ---- local aggregation ------------------------------------------------------------------------------------------------
def test_local_aggregation_first_tells_instances_apart() -> None:
    method, noise, t = ready("local_aggregation", instance_epochs=1)
    z = method.projector(method.eval().encoder(method.views.plain(noise.stored)["image"]))
    assert (F.normalize(z, dim=1) * method.bank.rows).sum(1).mean() > 0.8, "the bank starts where the images are"
    method.train()
    views = views_of(method, noise)
    assert "instance_accuracy" in method(views, t)[1]
    assert not method.cluster.any()
    later = Clock(4, 40, 4)
    method.begin_epoch(later, None)
    assert all(len(h.unique()) == 12 for h in method.cluster)
    logs = method(views, later)[1]
    assert 1 <= logs["close_neighbours"] <= 64


# ---- OBoW -------------------------------------------------------------------------------------------------------------
def test_obow_targets_use_the_words_of_the_logits() -> None:
    method, noise, t = ready("obow")
    views = views_of(method, noise)
    words = method.vocabularies[0].rows.clone()
    teacher = method.teacher.net.state_dict()
    teacher = {k: v.clone() for k, v in teacher.items() if "running" not in k and "num_batches" not in k}
    loss, logs = method(views, t)
    loss.backward()
    assert not any(p.grad is not None for p in method.teacher.parameters())
    assert all(torch.equal(method.teacher.net.state_dict()[k], v) for k, v in teacher.items())
    moved = (method.vocabularies[0].rows != words).any(1)
    assert moved.sum() == 16 and method.vocabularies[0].seen == 16, "one word an image"
    assert (method.vocabularies[0].ordered()[-16:].norm(dim=1) - 1).abs().max() > 1e-3, "words keep their length"
    assert 1 <= logs["words_an_image"] <= 40 and 1 / 40 <= logs["words_used"] <= 1
    assert loss > 0


def test_obow_loss_is_zero_where_the_student_knows_the_bag() -> None:
    method, noise, t = ready("obow")
    views = views_of(method, noise)
    bag = torch.rand(16, 40).softmax(1)
    method.bags = lambda whole, lot: [bag]
    method.generators = nn.ModuleList([nn.Identity()])
    method.scale = 1.0
    method.vocabularies[0].rows = torch.eye(40)
    views["global"], views["local"] = (bag.log().repeat(len(v), 1, 1) for v in (views["global"], views["local"]))
    method.encoder = nn.Identity()
    assert method(views, t)[0].item() == pytest.approx(0.0, abs=1e-5)


# ---- DeeperCluster ----------------------------------------------------------------------------------------------------
def test_deepercluster_nests_clusters_and_deals_turns() -> None:
    method, noise, t = ready("deepercluster", clusters=12, super_clusters=3, all_turns=False)
    outer, inner = method.cluster
    assert outer.unique().tolist() == [0, 1, 2] and inner.max() < 4
    weight = method.weight[outer, inner]
    for group in range(3):
        assert weight[outer == group].sum().item() == pytest.approx(64 / 3, rel=1e-4)
    assert method.super_classifier.out_features == 12 and method.classifiers.out_features == 12 * 4
    views = views_of(method, noise)
    seen = {}
    method.encoder.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
    loss, _ = method(views, t)
    turn = deal(views["index"], 0, 4)
    for x, upright, times in zip(seen["x"], views["x"], turn.tolist(), strict=True):
        assert torch.equal(x, torch.rot90(upright, times, (1, 2)))
    loss.backward()
    got = method.classifiers.weight.grad.unflatten(0, (12, 4)).flatten(1).any(1)
    assert set(got.nonzero()[:, 0].tolist()) == set((turn * 3 + outer[views["index"]]).tolist())


@pytest.mark.parametrize("all_turns", [False, True])
def test_deepercluster_of_one_cluster_is_rotation(all_turns: bool) -> None:
    """The authors' README: RotNet is their method with 4 super-classes and k = 1."""
    method, noise, t = ready("deepercluster", clusters=1, super_clusters=1, hidden=0, all_turns=all_turns)
    views, seen = views_of(method, noise), {}
    method.encoder.register_forward_hook(lambda module, inputs, out: seen.update(x=inputs[0], h=out))
    loss, logs = method(views, t)
    turn = torch.arange(4).repeat(16) if all_turns else deal(views["index"], 0, 4)
    rows = [x for x in views["x"] for _ in range(4 if all_turns else 1)]
    for x, upright, times in zip(seen["x"], rows, turn.tolist(), strict=True):
        assert torch.equal(x, torch.rot90(upright, times, (1, 2)))
    expected = F.cross_entropy(method.super_classifier(F.relu(method.head(seen["h"]))), turn)
    torch.testing.assert_close(loss, expected)
    assert logs["cluster_accuracy"] == 1
    if all_turns:
        rotation = build("rotation")
        rotation.encoder, rotation.classifier = method.encoder, method.super_classifier
        torch.testing.assert_close(rotation(views, t)[0], loss)


def test_deepercluster_keeps_what_it_knows_of_turns_where_there_is_one_super_cluster() -> None:
    for count in (1, 2):
        method, noise, _ = ready("deepercluster", clusters=4, super_clusters=count, reassign=1)
        turns, inside = method.super_classifier.weight.clone(), method.classifiers.weight.clone()
        method.begin_epoch(Clock(4, 40, 4), Access(noise, method.views.plain))
        assert torch.equal(method.super_classifier.weight, turns) == (count == 1)
        assert not torch.equal(method.classifiers.weight, inside)


def test_deepercluster_keeps_its_clusters_between_reassignments() -> None:
    method, noise, _ = ready("deepercluster", reassign=2)
    before, classifier = method.cluster.clone(), method.classifiers.weight.clone()
    method.begin_epoch(Clock(4, 40, 4), None)
    assert torch.equal(method.cluster, before) and torch.equal(method.classifiers.weight, classifier)
    method.begin_epoch(Clock(8, 40, 4), Access(noise, method.views.plain))
    assert not torch.equal(method.classifiers.weight, classifier)


# ---- SEER, which is SwAV with other numbers --------------------------------------------------------------------------
def test_seer_is_swav_with_a_regnet() -> None:
    from nolabel import encoders
    from nolabel.recipes.imagenet.clustering import seer

    recipe, method = seer(224), methods.load("seer")()
    assert isinstance(method, methods.load("swav")) and not recipe.fields
    with torch.device("meta"):
        method.build(DataInfo(10**9), encoders.make(recipe.encoder, (3, 224, 224)))
    shapes = [tuple(p.shape) for p in (*method.projector.parameters(), *method.last.parameters()) if p.ndim == 2]
    assert shapes == [(8192, method.encoder.dim), (8192, 8192), (256, 8192), (16000, 256)]
    assert not any(isinstance(m, nn.BatchNorm1d) for m in method.projector)
    assert 0.9e9 < sum(p.numel() for p in method.encoder.parameters()) < 1.6e9
