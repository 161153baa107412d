"""The contract, on every method file: written once, so that adding a method adds its proofs."""

import ast
import copy
import dataclasses
import inspect
import json
import re
from pathlib import Path

import pytest
import torch

from nolabel import encoders, methods, recipes
from nolabel.core import Clock, DataInfo, labelled_rows
from nolabel.core.fields import from_json, override, to_json
from nolabel.core.random import fold, generator, seed_all
from nolabel.networks.ema import EMA
from tests.golden import fields as golden_fields
from tests.golden import losses as golden_losses
from tests.support import Access, Noise, build, mask_makers, run, small, takes

DRAWS_PER_SAMPLE = {
    "aae", "bigan", "byol_a", "context_encoder", "counting", "dae", "jigsaw", "m3ae", "masked_language_model", "noisy_student",
    "point_mae", "random_walk", "stacked_dae", "vae", "vat",
}  # fmt: skip
"""methods whose forward draws for each sample, beside those that `mask_makers` finds: a permuted batch has other draws"""


def views_of(method, noise, seed=0, step=0):
    with torch.no_grad():
        return method.views(noise.at(seed, step), generator(fold(seed, step)))


def begun(method, noise, t):
    seed_all(3)
    method.begin_stage(t, Access(noise, method.views.plain))
    method.begin_epoch(t, Access(noise, method.views.plain))
    method.train()


def clock(noise, step=0):
    return Clock(step, 6, noise.epoch_steps)


def losses_of(method, views, t):
    seed_all(5)
    turns = [dataclasses.replace(t, turn=turn) for turn in method.turns] if len(method.turns) > 1 else [t]
    return [method(views, turn) for turn in turns]


def test_defaults_are_the_papers_and_build_on_no_memory(name):
    method = methods.load(name)()
    large = {"tiny": "resnet50", "tiny_tokens": "vit_small_patch16_224"}
    chosen = recipes.find("tiny", name, 32).encoder
    stored = {
        "image": torch.zeros(1, 224, 224, 3, dtype=torch.uint8),
        "video": torch.zeros(1, 130, 32, 32, 3, dtype=torch.uint8),
        "audio": torch.zeros(1, 300_000, dtype=torch.int16),
        "points": torch.zeros(1, 1024, 3),
        "text": torch.zeros(1, 128, dtype=torch.long),
        "depth": torch.zeros(1, 224, 224),
        "segmentation": torch.zeros(1, 224, 224, dtype=torch.long),
    }
    shapes = {k: tuple(x.shape[1:]) for k, x in method.views.plain(stored).items()}
    with torch.device("meta"):
        nets = {}
        for t in takes(method):
            own = chosen if isinstance(chosen, str) else chosen[t]
            kind = t if t in shapes else next(iter(shapes))
            best = large.get(own, own)
            nets[t] = encoders.make(best, shapes[kind], vocabulary=30000)
        info = {k: tuple(x.shape[1:]) for k, x in stored.items()}
        method.build(DataInfo(1000, ("a", "b"), info, {"audio": 16000.0, "video": 8.0}, 30000), **nets)
    assert sum(p.numel() for p in method.parameters()) > 1e5


def test_no_network_hides_behind_a_hook(name):
    method = build(name)
    names = {*method._modules, *method._parameters, *method._buffers}
    assert not names & set(dir(type(method))), "a method of the class would be found in its place"


def test_loss_is_finite_and_logs_wait_on_the_device(name):
    method = build(name)
    noise = Noise.of(method)
    t = clock(noise)
    begun(method, noise, t)
    for loss, logs in losses_of(method, views_of(method, noise), t):
        assert loss.ndim == 0 and torch.isfinite(loss) and loss.dtype == torch.float32
        assert all(isinstance(v, torch.Tensor) and v.ndim == 0 and not v.requires_grad for v in logs.values()), logs


def test_what_trains_gets_gradient_and_nothing_else_does(name):
    method = build(name)
    noise = Noise.of(method)
    t = clock(noise)
    begun(method, noise, t)
    groups = {k: list(v) for k, v in method.groups(t).items()}
    trained = {id(p) for ps in groups.values() for p in ps}
    assert set(groups) == set(method.turns)
    for p in method.parameters():
        p.requires_grad_(id(p) in trained)
    sum(loss for loss, _ in losses_of(method, views_of(method, noise), t)).backward()
    missing = [n for n, p in method.named_parameters() if id(p) in trained and (p.grad is None or not p.grad.any())]
    # a bias before a batch norm, or the key's bias of attention, has exactly or nearly no effect
    assert not [n for n in missing if not n.endswith("bias")], missing
    assert not [n for n, p in method.named_parameters() if id(p) not in trained and p.grad is not None]


def test_two_steps_move_what_trains(name):
    r = run(name, steps=3)
    before = {n: p.detach().clone() for n, p in r.method.named_parameters()}
    r.train()
    still = [n for n, p in r.method.named_parameters() if torch.equal(p, before[n])]
    fixed = {n for n, m in r.method.named_modules() if getattr(m, "frozen", False)}
    assert not [n for n in still if not any(n.startswith(f) for f in fixed) and r.method.get_parameter(n).requires_grad
                and not n.endswith("bias") and not _frozen_at_first(r, n)]  # fmt: skip


def test_running_averages_follow(name):
    r = run(name, steps=5)
    averages = {n: m for n, m in r.method.named_modules() if isinstance(m, EMA)}
    if not averages or r.method.stages > 1:
        pytest.skip("it has no running average, or its copies are made between stages")
    before = {n: [p.detach().clone() for p in m.parameters()] for n, m in averages.items()}
    r.train()
    for n, m in averages.items():
        assert any(not torch.equal(p, b) for p, b in zip(m.parameters(), before[n])), f"{n} never moves"


def _frozen_at_first(r, name):
    """Parameters that the method holds still for the first epochs on purpose (DINO's prototypes)."""
    return getattr(r.method, "freeze_last", 0) > 0 and ".last." in f".{name}"


def test_state_dict_is_complete(name):
    r = run(name)
    r.train(until=4)
    method, noise = r.method, r.source
    t = clock(noise, 4)
    other = build(name, seed=99)
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    other.train()
    views = views_of(method, noise, step=4)
    for (a, _), (b, _) in zip(losses_of(method, views, t), losses_of(other, views, t)):
        assert torch.equal(a, b)


def test_the_host_never_waits_for_the_device(name, monkeypatch):
    method = build(name)
    noise = Noise.of(method)
    t = clock(noise)
    begun(method, noise, t)
    views = views_of(method, noise)

    def forbidden(call):
        def waits(self, *args, **kwargs):
            raise AssertionError(f"Tensor.{call} would wait for the device")

        return waits

    for call in ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "cpu", "numpy", "nonzero"):
        monkeypatch.setattr(torch.Tensor, call, forbidden(call))
    losses = losses_of(method, views, t)
    monkeypatch.undo()
    assert losses


def test_permuting_the_batch_changes_nothing(name):
    if mask_makers(name) or name in DRAWS_PER_SAMPLE:
        pytest.skip("its forward draws for each sample, and a permutation deals the draws out anew")
    method = build(name)
    noise = Noise.of(method)
    t = clock(noise)
    begun(method, noise, t)
    state = copy.deepcopy(method.state_dict())
    views = views_of(method, noise)
    size = len(views["index"])
    n, rng = labelled_rows(method.labelled, size), generator(1)
    order = torch.cat((torch.randperm(n, generator=rng), n + torch.randperm(size - n, generator=rng)))
    permuted = {
        k: v[order] if len(v) == size else v[:, order] if v.ndim > 1 and v.shape[1] == size else v
        for k, v in views.items()
    }
    for k, (a, _) in enumerate(losses_of(method, views, t)):
        method.load_state_dict(state)
        b, _ = losses_of(method, permuted, t)[k]
        assert torch.allclose(a, b, rtol=2e-4), (a, b)


def test_fields_go_through_json(name):
    method = small(name)
    again = from_json(type(method), json.loads(json.dumps(to_json(method))))
    for f in dataclasses.fields(method):
        assert getattr(again, f.name) == getattr(method, f.name), f.name


def test_every_field_is_a_flag(name):
    from nolabel.cli import given_fields, train_parser

    kind = methods.load(name)
    changed = {}
    for f in dataclasses.fields(kind):
        value = getattr(kind(), f.name)
        if isinstance(value, bool):
            changed[f.name] = not value
        elif isinstance(value, int | float):
            changed[f.name] = type(value)(value + 1)
    argv = []
    for key, value in changed.items():
        flag = key.replace("_", "-")
        argv += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    argv += ["--optim.lr", "0.5", "--optim.clip", "2.0"]
    _, fields = given_fields(name, train_parser(name, argv), argv)
    assert fields == {**changed, "optim.lr": 0.5, "optim.clip": 2.0}
    made = override(kind(), fields)
    assert made.optim.lr == 0.5 and all(getattr(made, k) == v for k, v in changed.items())


def test_golden_fields(name):
    stored = golden_fields.stored(name)
    assert stored is not None, f"no golden fields of {name}: python -m tests.golden --update {name}"
    assert to_json(methods.load(name)()) == stored, (
        "defaults changed: python -m tests.golden --update shows the difference"
    )


def test_golden_loss(name):
    stored = golden_losses.stored(name)
    assert stored is not None, f"no golden loss of {name}: python -m tests.golden --update {name}"
    assert golden_losses.measure(name) == pytest.approx(stored, rel=2e-3), (
        "numbers changed: python -m tests.golden --update"
    )


def test_header_and_length(name):
    path = Path(inspect.getfile(methods.load(name)))
    lines = path.read_text().splitlines()
    assert len(lines) <= 150, f"{path.name} has {len(lines)} lines"
    entry = methods.describe(name)
    header = ast.get_docstring(ast.parse(path.read_text()))
    assert entry.arxiv or re.search(r"\b(19|20)\d\d\b", entry.citation), "citation with year or arXiv id"
    assert '"' in entry.citation, "title of the paper in quotes"
    assert "Shapes:" in header and "=" in header, "a formula and the legend of shapes"
    assert entry.title.endswith(".") and len(entry.title) < 130
    assert entry.modalities


def test_every_field_says_what_it_is(name):
    tree = ast.parse(Path(inspect.getfile(methods.load(name))).read_text())
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    assert len(classes) == 1 or (not classes and "Preset(" in ast.unparse(tree))
    body = [n for c in classes for n in c.body]
    for here, after in zip(body, [*body[1:], None]):
        if isinstance(here, ast.AnnAssign) and here.target.id not in ("views", "optim"):
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert said, f"{here.target.id} has no docstring"
