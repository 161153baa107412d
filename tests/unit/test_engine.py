"""The loop on methods small enough to work out by hand: turns, stages, accumulation, resume, signals, bad numbers."""

import os
import signal
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import DataInfo, Method, Optim, UserError
from nolabel.core.random import fold, generator
from nolabel.engine import Checkpoints, Interrupted, NonFinite, Observer, Run, Settings
from tests.support import Feed

SGD = Optim("sgd", lr=0.1, momentum=0.0, weight_decay=0.0, scaled=False, warmup_epochs=0)


class Rows:
    """Random rows in an order that is a function of (seed, step)."""

    def __init__(self, size=64, batch=8, dim=6):
        self.x = torch.randn(size, dim, generator=generator(3))
        self.batch, self.info, self.epoch_steps = batch, DataInfo(size), size // batch

    def at(self, seed, step):
        epoch, k = divmod(step, self.epoch_steps)
        order = torch.randperm(len(self.x), generator=generator(fold(seed, epoch)))
        rows = order[k * self.batch :][: self.batch]
        return {"x": self.x[rows], "index": rows}


@dataclass(frozen=True)
class AsIs:
    noise: float = 0.0

    def __call__(self, batch, rng):
        return {**batch, "x": batch["x"] + self.noise * torch.randn(batch["x"].shape, generator=rng)}


class Line(Method):
    views: AsIs = AsIs(noise=0.1)
    optim: Optim = Optim("adamw", lr=0.01, scaled=False, warmup_epochs=1)

    def build(self, data):
        self.encoder = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.2))

    def forward(self, views, t):
        loss = self.encoder(views["x"]).square().mean()
        return loss, {"rows": views["index"].float().mean()}


class Game(Method):
    turns = ("critic", "painter")
    views: AsIs = AsIs()
    optim: Optim = SGD

    def build(self, data):
        self.critic, self.encoder = nn.Linear(6, 1), nn.Linear(6, 6)

    def groups(self, t):
        return {"critic": self.critic.parameters(), "painter": self.encoder.parameters()}

    def forward(self, views, t):
        score = self.critic(self.encoder(views["x"])).mean()
        return (score if t.turn == "critic" else -score), {}


class Layers(Method):
    views: AsIs = AsIs(noise=0.1)
    optim: Optim = SGD

    @property
    def stages(self):
        return 2

    def build(self, data):
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.register_buffer("begun", torch.zeros(2))

    def begin_stage(self, t, data):
        self.begun[t.stage] += 1 + torch.rand(())

    def groups(self, t):
        return {"all": self.layers[t.stage].parameters()}

    def forward(self, views, t):
        return self.layers[t.stage](views["x"]).square().mean(), {}

    def kept(self):
        return self.layers


def make(kind, source=None, folder=None, seed=5, observers=(), **settings):
    torch.manual_seed(0)
    method = kind()
    method.build(DataInfo(64))
    source = source or Rows()
    chosen = Settings(**{"steps": 20, "batch": 8, "log_every": 4, "precision": "fp32", "seed": seed, **settings})
    return Run(method, source, chosen, feed=lambda s, start: Feed(source, s, start), folder=folder, observers=observers)


def weights(run):
    return [v.clone() for v in run.method.state_dict().values()]


def equal(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b))


@pytest.mark.parametrize(("kind", "at"), [(Line, 11), (Game, 7), (Layers, 9)])
def test_resume_is_bitwise(kind, at, tmp_path):
    whole = make(kind)
    whole.train()
    first = make(kind, folder=tmp_path)
    first.train(until=at)
    first.save()
    torch.manual_seed(99)
    second = make(kind, folder=tmp_path)
    for p in second.method.parameters():
        p.data.fill_(7.0)
    assert second.resume()
    second.train()
    assert equal(weights(whole), weights(second))


def test_resume_in_the_second_stage(tmp_path):
    whole = make(Layers)
    whole.train()
    assert whole.method.begun.floor().tolist() == [1, 1]

    class Stop(Observer):
        def on_log(self, run, record):
            if (run.stage, run.step) == (1, 12):
                os.kill(os.getpid(), signal.SIGTERM)

    first = make(Layers, folder=tmp_path, observers=[Stop()])
    with pytest.raises(Interrupted) as stopped:
        first.train()
    assert stopped.value.code == 143 and (first.stage, first.step) == (1, 12)
    second = make(Layers, folder=tmp_path)
    assert second.resume()
    second.train()
    assert equal(weights(whole), weights(second))


def test_a_signal_that_comes_while_the_ranks_meet_is_not_lost(tmp_path, monkeypatch):
    """Rank 0 may be hit after it said that all is well, and before the others have heard it."""
    meetings = []

    def share(value):
        meetings.append(value)
        if len(meetings) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return value

    run = make(Line, folder=tmp_path, steps=200, log_every=50)
    monkeypatch.setattr("nolabel.engine.run.world", lambda: 2)
    monkeypatch.setattr("nolabel.engine.run.share", share)
    monkeypatch.setattr("nolabel.engine.run._ATTENTION", 0.0)
    with pytest.raises(Interrupted) as stopped:
        run.train()
    assert stopped.value.code == 130 and run.step == 4


def test_slow_steps_are_logged_before_their_turn(monkeypatch):
    class Keep(Observer):
        def on_log(self, run, record):
            steps.append(record["step"])

    steps = []
    monkeypatch.setattr("nolabel.engine.run._SILENCE", -1.0)
    make(Line, steps=5, log_every=50, observers=[Keep()]).train()
    assert steps == [1, 2, 3, 4, 5]
    steps = []
    monkeypatch.undo()
    make(Line, steps=5, log_every=50, observers=[Keep()]).train()
    assert steps == [5]


def test_each_turn_moves_only_its_group():
    run = make(Game, steps=1)
    critic, painter = run.method.critic, run.method.encoder
    x = run.source.at(fold(5, 1), 0)["x"]
    c0, p0 = critic.weight.detach().clone(), painter.weight.detach().clone()
    run.train()
    hidden = F.linear(x, p0, painter.bias.detach() * 0 + run_bias(painter, x, c0, p0, critic))
    expected_critic = c0 - 0.1 * hidden.mean(0, keepdim=True)
    assert torch.allclose(critic.weight, expected_critic, atol=1e-6)
    expected_painter = p0 + 0.1 * expected_critic.T @ x.mean(0, keepdim=True)
    assert torch.allclose(painter.weight, expected_painter, atol=1e-6)


def run_bias(painter, x, c0, p0, critic):
    """The painter's bias before its turn: it moved by + lr * critic weights in its own turn only."""
    return painter.bias.detach() - 0.1 * critic.weight.detach()[0]


class Draws(Method):
    """Keeps what its views and its forward drew."""

    views: AsIs = AsIs(noise=1.0)
    optim: Optim = SGD

    def build(self, data):
        self.encoder = nn.Linear(6, 6)
        self.drawn = []

    def forward(self, views, t):
        self.drawn.append((views["x"].mean(), torch.rand(())))
        return self.encoder(views["x"]).square().mean(), {}


def draws_of(rank, monkeypatch):
    monkeypatch.setattr("nolabel.engine.run.rank", lambda: rank)
    source = Rows()
    source.x = torch.zeros_like(source.x)  # so that only the noise is seen
    run = make(Draws, source, steps=4)
    run.train()
    return [float(x) for pair in run.method.drawn for x in pair]


def test_draws_differ_by_step_and_rank_and_repeat(monkeypatch):
    first, second = draws_of(0, monkeypatch), draws_of(1, monkeypatch)
    assert len(set(first + second)) == 16
    assert draws_of(0, monkeypatch) == first


@pytest.mark.parametrize(("changes", "norms"), [({"clip": 0.5}, None), ({"clip_each": 0.5}, 0.5), ({}, None)])
def test_clip_limits_the_step(changes, norms):
    import dataclasses

    run = make(Line, steps=1)
    run.method.optim = dataclasses.replace(SGD, **changes)
    run.method.views = AsIs()
    run.method.encoder[1].p = 0.0
    with torch.no_grad():
        run.method.encoder[0].weight.mul_(100)
    run._prepare()
    before = weights(run)
    run.train()
    moved = [(a - b) / 0.1 for a, b in zip(weights(run), before)]
    whole = torch.stack([m.norm() for m in moved])
    if norms:
        assert torch.allclose(whole, torch.full_like(whole, norms), rtol=1e-4)
    elif changes:
        assert whole.norm().item() == pytest.approx(0.5, rel=1e-4)
    else:
        assert whole.norm() > 5, "without clipping the step is much longer"


def test_accumulation_equals_one_large_batch():
    class Plain(Rows):
        pass

    one = make(Line, Plain(batch=16), steps=4, batch=16)
    two = make(Line, Plain(batch=8), steps=4, batch=16, accumulate=2)
    for run in (one, two):
        run.method.optim = SGD  # AdamW would not mind gradients that are summed instead of averaged
        run._prepare()
        run.method.views = AsIs()
        run.method.eval()
        run.method.encoder[1].p = 0.0
        run.train()
    assert one.epoch_steps == two.epoch_steps
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(weights(one), weights(two)))


def test_logs_are_means_over_the_steps_between(tmp_path):
    seen = []

    class Keep(Observer):
        def on_log(self, run, record):
            seen.append(dict(record))

    run = make(Line, observers=[Keep()], steps=10, log_every=4)
    run.train()
    assert [r["step"] for r in seen] == [4, 8, 10]
    seed = fold(5, 1)
    naive = sum(run.source.at(seed, s)["index"].float().mean() for s in range(4)) / 4
    assert seen[0]["rows"] == pytest.approx(float(naive), rel=1e-6)


def test_learning_rate_warms_up_and_ends_at_zero():
    from nolabel.core import Clock
    from nolabel.optim import learning_rate, weight_decay

    o = Optim("sgd", lr=0.4, scaled=True, warmup_epochs=2, weight_decay=0.1, final_weight_decay=0.4)
    rates = [learning_rate(o, Clock(s, 100, 10), 512) for s in range(101)]
    assert rates[0] == pytest.approx(0.8 / 20)
    assert max(rates) == pytest.approx(0.8) and rates.index(max(rates)) in (19, 20)
    assert rates[60] == pytest.approx(0.4) and rates[100] == pytest.approx(0.0)
    assert weight_decay(o, Clock(0, 100, 10)) == pytest.approx(0.1)
    assert weight_decay(o, Clock(99, 100, 10)) == pytest.approx(0.4)
    steps = Optim("sgd", lr=1.0, scaled=False, warmup_epochs=0, drops=(0.5, 0.75), drop=0.1)
    assert [learning_rate(steps, Clock(s, 100, 10), 1) for s in (49, 50, 80)] == pytest.approx([1.0, 0.1, 0.01])


def test_what_is_logged_may_change_on_the_way():
    class Phases(Method):
        views: AsIs = AsIs()
        optim: Optim = SGD

        def build(self, data):
            self.encoder = nn.Linear(6, 4)

        def forward(self, views, t):
            loss = self.encoder(views["x"]).square().mean()
            return loss, {"early" if t.step < 6 else "late": torch.tensor(float(t.step))}

    seen = []

    class Keep(Observer):
        def on_log(self, run, record):
            seen.append({k: record.get(k) for k in ("early", "late")})

    make(Phases, observers=[Keep()], steps=8, log_every=4).train()
    assert seen == [{"early": 1.5, "late": None}, {"early": 4.5, "late": 6.5}]


def test_nan_stops_with_the_step_and_a_dump(tmp_path):
    class Bad(Rows):
        def at(self, seed, step):
            batch = super().at(seed, step)
            if step == 6:
                batch["x"] = batch["x"] * float("nan")
            return batch

    run = make(Line, Bad(), folder=tmp_path)
    with pytest.raises(NonFinite, match="step 6"):
        run.train()
    (dump,) = tmp_path.glob("nonfinite-*.pt")
    state = torch.load(dump, weights_only=True)
    assert torch.equal(state["index"], run.source.at(fold(5, 1), 6)["index"])
    assert all(torch.isfinite(v).all() for v in state["method"].values())
    skipping = make(Line, Bad(), nonfinite="skip")
    skipping.train()
    assert all(torch.isfinite(v).all() for v in weights(skipping))


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    run = make(Line, folder=tmp_path, keep=3)
    for until in (4, 8, 12):
        run.train(until=until)
        run.save()
    newest = Checkpoints(tmp_path / "checkpoints").found()[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 255
    newest.write_bytes(content)
    told = []
    state = Checkpoints(tmp_path / "checkpoints").load(told.append)
    assert state["step"] == 8 and "damaged" in told[0]
    for path in Checkpoints(tmp_path / "checkpoints").found():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="intact"):
        Checkpoints(tmp_path / "checkpoints").load()


def test_old_checkpoints_are_dropped_and_nothing_is_unpickled(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(4):
        checkpoints.prune(checkpoints.save(0, step, {"step": step, "x": torch.ones(3)}))
    assert [p.name[8:17] for p in checkpoints.found()] == ["000000002", "000000003"]

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    torch.save({"step": 9, "x": Evil()}, tmp_path / "evil.pt")
    import hashlib

    digest = hashlib.blake2b((tmp_path / "evil.pt").read_bytes(), digest_size=8).hexdigest()
    (tmp_path / "evil.pt").rename(tmp_path / f"step-00-000000009-{digest}.pt")
    assert checkpoints.load()["step"] == 3
    assert not (tmp_path / "executed").exists()


def test_minutes_end_the_schedule_with_the_time():
    import time

    class Slow(Rows):
        def at(self, seed, step):
            time.sleep(0.004)
            return super().at(seed, step)

    run = make(Line, Slow(), steps=None, minutes=2 / 60, log_every=10)
    start = time.monotonic()
    run.train()
    assert 1.0 < time.monotonic() - start < 3.5
    assert run.step == run.steps and 100 < run.step < 600


def test_a_length_is_needed():
    with pytest.raises(UserError, match="--epochs"):
        make(Line, steps=None)


@pytest.mark.parametrize(
    ("logged", "shrink", "rings"), [(0.9, False, 0), (0.1, False, 1), (0.9, True, 1), (None, False, 0)]
)
def test_the_alarm_rings_once_for_collapsed_embeddings_or_features(logged, shrink, rings):
    from nolabel.engine.monitor import Monitor

    class Tell(Observer):
        """Puts in what a method would have logged, and collapses the encoder."""

        def on_log(self, run, record):
            record |= {"std": logged} if logged is not None else {}
            if shrink:
                run.method.encoder[0].weight.data.zero_()

    told = []
    run = make(Line, steps=12, observers=[])
    run.observers = [Tell(), Monitor({"x": run.source.x}, tell=told.append)]
    run.train()
    assert len(told) == rings and all("collapse alarm at step 8" in line for line in told)


def test_watching_stays_below_its_share_of_the_time(monkeypatch):
    """Steps so slow that each is logged must not be made slower still by a look at features after each."""
    from nolabel.engine.monitor import Monitor

    clock, seen = [0.0], []

    class Slow(nn.Linear):
        def forward(self, x):
            clock[0] += 1.0 if len(x) == 5 else 11.0  # a look takes a second, a step eleven
            return super().forward(x)

    run = make(Line, steps=40, log_every=100)
    run.method.encoder[0].__class__ = Slow
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    class Keep(Observer):
        def on_log(self, run, record):
            seen.append(("feature_std" in record, "knn" in record))

    looks = Monitor({"x": run.source.x[:5]}, knn=lambda net: 50.0, knn_looks=8.0, share=0.05)
    run.observers = [looks, Keep()]
    run.train()
    features, knn = zip(*seen)
    assert len(seen) > 30, "every step is logged"
    assert sum(features) * 1.0 <= 0.05 * clock[0] + 2, "the end has its look in any case"
    assert knn.index(True) >= 9, "k-NN waits until it may cost eight looks, less the three seconds that are free"
