"""`python -m tests.mutations [NAME ...]`: plant one mistake at a time in a copy of the code; a test must fail for each.

    python -m tests.mutations --list
    python -m tests.mutations                                    writes results/mutations.md

A mistake names the tests that are to catch it, so that each takes seconds. Every mistake is one that implementations of
these papers have had, or have been near to. Exits with 1 if one survives, or if its line is no longer there.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
FORK = multiprocessing.get_context("fork")
LIMIT = 300
"""seconds for the tests of one mistake"""


@dataclass(frozen=True)
class Mistake:
    """One wrong edit of a file of the package."""

    what: str
    file: str
    old: str
    new: str
    tests: str
    """arguments of pytest"""


CONTRACT, RANKS = "tests/contract/test_methods.py -k", "tests/distributed/test_methods_ranks.py -k"
MISTAKES = {
    "stop-gradient-dropped": Mistake(
        "the target of BYOL's and SimSiam's cosine keeps its gradient", "losses/distill.py",
        "wide(target_BD).detach(), dim=-1", "wide(target_BD), dim=-1", "tests/unit/test_losses_distill.py",
    ),
    "teacher-not-detached": Mistake(
        "soft targets keep their gradient", "losses/distill.py",
        "-(wide(target_BK).detach() * log_p_BK)", "-(wide(target_BK) * log_p_BK)",
        "tests/unit/test_losses_distill.py",
    ),
    "gather-without-gradient": Mistake(
        "rows of other ranks give no gradient back", "core/dist.py",
        "return _Gather.apply(x) if", "return _Gather.apply(x).detach() if", "tests/distributed/test_losses_ranks.py",
    ),
    "gather-gradient-of-own-rank-only": Mistake(
        "the gradient of gathered rows is not summed over ranks", "core/dist.py",
        "        dist.all_reduce(grad)\n        return grad[rank()", "        return grad[rank()",
        "tests/distributed/test_losses_ranks.py",
    ),
    "positives-off-by-one-rank": Mistake(
        "the rows of this rank are looked for at those of rank 0", "losses/contrastive.py",
        "device=x.device) + rank() * len(x)", "device=x.device)", "tests/distributed/test_losses_ranks.py",
    ),
    "constant-of-other-rows": Mistake(
        "the constant of noise-contrastive estimation is that of rows in twice the dimensions", "networks/memory.py",
        "count * (dim / 2 + count - 1)", "count * (dim + count - 1)", "tests/unit/test_memory.py",
    ),
    "wrong-sign": Mistake(
        "SimCLR repels its positives", "losses/contrastive.py",
        "return total - mean_own, (own_B", "return total + mean_own, (own_B", "tests/unit/test_losses_contrastive.py",
    ),
    "not-normalised": Mistake(
        "contrastive rows are not made unit", "losses/contrastive.py",
        "return _Unit.apply(wide(x_BD))", "return wide(x_BD)", "tests/unit/test_losses_contrastive.py",
    ),
    "tau-ignored": Mistake(
        "the temperature of NT-Xent is 1", "losses/contrastive.py",
        "_cross_entropy(z_2BD / temperature, own_2B", "_cross_entropy(z_2BD, own_2B", "tests/unit/test_losses_contrastive.py",
    ),
    "own-row-among-negatives": Mistake(
        "an anchor meets itself as a negative", "losses/contrastive.py",
        "skip = torch.stack((row_2B, row_2B.roll(len(a_BD))), 1)", "skip = row_2B.roll(len(a_BD))[:, None]",
        "tests/unit/test_losses_contrastive.py",
    ),
    "half-of-the-loss": Mistake(
        "VICReg's variance of the second view is left out", "losses/redundancy.py",
        "for x_BD in (_centred(a_BD), _centred(b_BD)):", "for x_BD in (_centred(a_BD),):",
        "tests/unit/test_losses_redundancy.py",
    ),
    "hinge-the-wrong-way": Mistake(
        "VICReg punishes spread", "losses/redundancy.py",
        "F.relu(1 - std_D)", "F.relu(std_D - 1)", "tests/unit/test_losses_redundancy.py",
    ),
    "statistics-of-one-rank": Mistake(
        "Barlow Twins and VICReg centre by their own rank", "losses/redundancy.py",
        "return x_BD - mean_over_ranks(x_BD.mean(0))", "return x_BD - x_BD.mean(0)",
        "tests/distributed/test_losses_ranks.py",
    ),
    "sinkhorn-of-one-rank": Mistake(
        "prototypes are shared out within each rank", "losses/cluster.py",
        "sum_over_ranks((sample_B * mass_B) @ plan_BK)", "((sample_B * mass_B) @ plan_BK)",
        "tests/distributed/test_losses_ranks.py",
    ),
    "average-the-wrong-way": Mistake(
        "the running average moves by m instead of 1 - m", "networks/ema.py",
        "1.0 - momentum)", "momentum)", "tests/unit/test_networks.py",
    ),
    "average-forgotten": Mistake(
        "BYOL's target never moves", "methods/distillation/byol.py",
        "self.target.update(self.online, t.cosine(*self.momentum))", "pass", f"{CONTRACT} 'averages and byol'",
    ),
    "average-trains": Mistake(
        "the running average counts as trained", "networks/ema.py",
        "    frozen = True", "    frozen = False", f"{CONTRACT} 'gets_gradient and byol'",
    ),
    "buffer-not-saved": Mistake(
        "DINO's centre is missing in checkpoints", "methods/distillation/dino.py",
        'torch.zeros(self.prototypes))', 'torch.zeros(self.prototypes), persistent=False)',
        f"{CONTRACT} '(state_dict or resume) and dino'",
    ),
    "centre-of-one-rank": Mistake(
        "every rank has its own centre", "methods/distillation/dino.py",
        "mean_over_ranks(teacher_TBK.mean((0, 1)))", "teacher_TBK.mean((0, 1))", f"{RANKS} 'dino and 2-'",
    ),
    "waits-for-the-device": Mistake(
        "a number is brought to the host in every forward", "methods/contrastive/simclr.py",
        '{"instance_accuracy": accuracy}', '{"instance_accuracy": torch.tensor(accuracy.item())}',
        f"{CONTRACT} 'waits and simclr'",
    ),
    "gradient-in-the-logs": Mistake(
        "a logged loss keeps the graph of its step alive", "methods/distillation/byol.py",
        "1 - loss.detach() / 4", "1 - loss / 4", f"{CONTRACT} 'logs and byol'",
    ),
    "sees-the-hidden": Mistake(
        "MAE encodes the hidden tokens and paints the visible ones", "views/masks.py",
        "return order[:, :kept].sort(1).values, order[:, kept:].sort(1).values",
        "return order[:, kept:].sort(1).values, order[:, :kept].sort(1).values", "tests/unit/test_masks.py",
    ),
    "target-not-standardised": Mistake(
        "MAE's targets keep their mean", "methods/masked/mae.py",
        "return (x_BMP - mean) / deviation", "return x_BMP / deviation", f"{CONTRACT} 'golden and mae'",
    ),
    "labels-turned": Mistake(
        "the label of a turned image is that of its neighbour", "methods/pretext/rotation.py",
        ".repeat(len(turned))", ".repeat_interleave(len(turned)).view(4, -1).T.flatten().roll(1)",
        f"{CONTRACT} 'golden and rotation'",
    ),
    "seed-without-step": Mistake(
        "every step draws the same views and masks", "engine/run.py",
        "here = fold(seed, self.stage, self.step, rank())", "here = fold(seed, self.stage, 0, rank())",
        "tests/unit/test_engine.py -k draws",
    ),
    "seed-without-rank": Mistake(
        "every rank draws the same views and masks", "engine/run.py",
        "here = fold(seed, self.stage, self.step, rank())", "here = fold(seed, self.stage, self.step, 0)",
        "tests/unit/test_engine.py -k draws",
    ),
    "randomness-carried": Mistake(
        "the generator of the views is not seeded at each step, so that resume does not repeat it", "engine/run.py",
        "        self.rng.manual_seed(fold(here, 1))\n", "", "tests/unit/test_engine.py -k resume",
    ),
    "optimiser-not-restored": Mistake(
        "resume forgets the moments of the optimiser", "engine/run.py",
        'o.load_state_dict({**state["optims"][name], "state": moments})', "pass", "tests/unit/test_engine.py -k resume",
    ),
    "same-order-every-epoch": Mistake(
        "samples come in the same order in every epoch", "data/order.py",
        "generator(fold(seed, epoch))", "generator(fold(seed, 0))", "tests/unit/test_data_source.py",
    ),
    "rows-twice": Mistake(
        "all ranks read the same rows", "data/source.py",
        "first = step * passes.batch + self.rank * part", "first = step * passes.batch", "tests/unit/test_data_source.py",
    ),
    "parts-not-averaged": Mistake(
        "accumulated gradients are added up", "engine/run.py",
        "(loss / len(views) if len(views) > 1 else loss).backward()", "loss.backward()",
        "tests/unit/test_engine.py -k accumulation",
    ),
    "schedule-for-all": Mistake(
        "the rate of SimSiam's predictor follows the schedule", "engine/run.py",
        'group.get("steady", False))', "False)", "tests/unit/test_methods_distillation.py -k rate",
    ),
    "prototypes-in-half": Mistake(
        "prototypes are compared in bfloat16", "networks/heads.py",
        "enabled=False", "enabled=True", "tests/unit/test_networks.py -k prototypes",
    ),
    "targets-of-the-net-itself": Mistake(
        "the net of SimSiam's targets is never kept as it was", "methods/distillation/simsiam.py",
        "if self.inner == 1 else self.earlier(both)", "if self.inner else self.earlier(both)",
        "tests/unit/test_methods_distillation.py -k simsiam",
    ),
    "biases-decay": Mistake(
        "weight decay pulls at biases and norms", "optim/optim.py",
        'settings.weight_decay if decays else 0.0, "decays": decays', 'settings.weight_decay, "decays": True',
        "tests/unit/test_optim.py",
    ),
    "clip-by-value-of-one": Mistake(
        "gradients are not clipped", "engine/run.py",
        "if o.clip is not None:", "if False:", "tests/unit/test_engine.py -k clip",
    ),
    "queue-stands-still": Mistake(
        "the queue writes to the same place in every step", "networks/memory.py",
        "        self.seen += len(new_ND)\n", "", "tests/unit/test_memory.py",
    ),
    "far-ones-vote": Mistake(
        "k-NN gives the most distant neighbour the largest weight", "evaluate/knn.py",
        "weight_QK = ((s_QK - s_QK[:, :1]) / self", "weight_QK = (-(s_QK - s_QK[:, :1]) / self",
        "tests/unit/test_evaluate_knn.py",
    ),
    "probe-looks-at-the-test": Mistake(
        "the linear probe chooses its penalty on the rows that it was fitted on", "evaluate/linear.py",
        "val, fit = order[:held_out], order[held_out:]", "val, fit = order[held_out:], order[held_out:]",
        "tests/unit/test_evaluate_linear.py",
    ),
    "same-words-are-negatives": Mistake(
        "passages of the same words are negatives of each other", "losses/contrastive.py",
        "alike_MN = (thing_N == thing_M[:, None]) | (thing_N == 0)",
        "alike_MN = (torch.arange(len(thing_N)) == positive_M[:, None]) | (thing_N == 0)",
        "tests/unit/test_text.py -k equal_passages",
    ),
    "words-vanish": Mistake(
        "small embeddings of words go into a net whose blocks add a hundred times as much", "encoders/text.py",
        "self.norm(self.words(text) + self.positions[: text.shape[1]])",
        "self.words(text) + self.positions[: text.shape[1]]", "tests/unit/test_text.py -k words_are_not_small",
    ),
    "clips-at-one-time": Mistake(
        "stored videos are hardly longer than a clip, so that clips of other times are the same", "views/video.py",
        "self.frames * self.stride * (1 if self.together or self.clips == 1 else 4)", "self.frames * self.stride",
        "tests/unit/test_views_video.py -k different_times",
    ),
    "masks-of-another-grid": Mistake(
        "tokens of small crops are hidden by the grid of the encoder", "methods/masked/msn.py",
        "random_mask(*tokens_BLD.shape[:2],", "random_mask(len(x_BCHW), encoder.length,",
        "tests/unit/test_methods_tokens.py -k msn_by_hand",
    ),
    "windows-stand-still": Mistake(
        "no block of the local decoder shifts its windows", "networks/decoder.py",
        "(0, self.window // 2) if i % 2 else", "(0, self.window // 2) if False else",
        "tests/unit/test_mae_kinds.py -k within_windows",
    ),
    "crops-take-all": Mistake(
        "a crop with too few points takes those outside, too", "views/points.py",
        "% own_B1)", "% order_BP.shape[1])", "tests/unit/test_points.py -k small_crops",
    ),
    "half-written-checkpoint": Mistake(
        "a checkpoint is written under its own name", "engine/checkpoint.py",
        'if match and digest == match[3]:', "if match:", "tests/unit/test_engine.py -k damaged",
    ),
    "unpickles": Mistake(
        "checkpoints may hold code", "engine/checkpoint.py",
        'map_location="cpu", weights_only=True', 'map_location="cpu", weights_only=False',
        "tests/unit/test_engine.py -k unpickled",
    ),
    "constant-copied-each-step": Mistake(
        "the host waits in every step for the copy of a constant", "views/image.py",
        "x_BHWC * constant(std, x_BHWC.device)", "x_BHWC * x_BHWC.new_tensor(std)",
        "tests/contract/test_devices.py -k cpc_v2",
    ),
    "draws-of-the-host": Mistake(
        "what is drawn stays on the host", "views/masks.py",
        "constant(x, device)[which]", "constant(x, torch.device('cpu'))[which]", "tests/contract/test_devices.py -k ibot",
    ),
    "pictures-of-the-host": Mistake(
        "the report shows the encoder samples on the host", "report/tokens.py",
        "        x = x.to(next(encoder.parameters(), x).device)\n", "", "tests/unit/test_devices.py -k mae",
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="some mistakes; default: all")
    parser.add_argument("--list", action="store_true", help="name them and leave")
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(MISTAKES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if chosen.list:
        for name, mistake in MISTAKES.items():
            print(f"{name:34s} {mistake.what}")
        return
    start = time.monotonic()
    preload()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        for part in ("src", "tests"):
            shutil.copytree(
                ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", "*.nb?", "*.egg-info")
            )
        shutil.copy(ROOT / "pyproject.toml", copy)
        caught = {}
        for name in chosen.names or MISTAKES:
            caught[name] = attempt(MISTAKES[name], copy)
            print(f"{name:34s} {caught[name] or 'NOT CAUGHT'}", flush=True)
    if not chosen.names:
        chosen.out.mkdir(exist_ok=True)
        (chosen.out / "mutations.md").write_text(page(caught, time.monotonic() - start))
    sys.exit(0 if all(caught.values()) else 1)


def preload() -> None:
    """What every test needs, imported once: the tests of each mistake run in a fork."""
    import pytest  # noqa: F401
    import timm  # noqa: F401
    import torch
    import torchvision  # noqa: F401

    torch.set_num_threads(1)


def attempt(mistake: Mistake, copy: Path) -> str:
    """The first test that fails with the mistake in place; empty if none does."""
    file = copy / "src" / "nolabel" / mistake.file
    text = file.read_text()
    if text.count(mistake.old) < 1:
        return ""
    file.write_text(text.replace(mistake.old, mistake.new))
    here, there = FORK.Pipe(duplex=False)
    process = FORK.Process(target=judge, args=(mistake.tests, copy, there))
    process.start()
    there.close()
    try:
        return here.recv() if here.poll(LIMIT) else "(the tests hang)"
    except EOFError:
        return "(the tests crash)"
    finally:
        process.kill()
        process.join()
        file.write_text(text)


def judge(tests: str, copy: Path, answer) -> None:
    """Run pytest on the copy; the name of the first failing test."""
    import shlex

    import pytest

    class First:
        name = ""

        def pytest_runtest_logreport(self, report):
            if report.failed and not self.name:
                self.name = report.nodeid

        def pytest_collectreport(self, report):
            if report.failed and not self.name:
                self.name = report.nodeid

    os.chdir(copy)
    os.environ["PYTHONPATH"] = f"{copy / 'src'}{os.pathsep}{copy}"
    sys.path[:0] = [str(copy / "src"), str(copy)]
    for name in [m for m in sys.modules if m.split(".")[0] in ("nolabel", "tests")]:
        del sys.modules[name]
    sys.dont_write_bytecode = True
    first = First()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main([*shlex.split(tests), "-x", "-q", "-n", "0", "-p", "no:cacheprovider"], plugins=[first])
    if code not in (0, 1):  # no test was found, or pytest itself failed: that catches nothing
        print(said.getvalue()[-2000:], file=sys.stderr)
        first.name = ""
    answer.send(first.name)


def page(caught: dict[str, str], seconds: float) -> str:
    """The table as Markdown."""
    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout
    lines = [
        "# Mistakes that tests catch",
        "",
        f"`python -m tests.mutations`, {datetime.now(UTC):%Y-%m-%d}, commit {commit.strip() or 'unknown'}, {seconds:.0f} s: "
        f"{sum(map(bool, caught.values()))} of {len(caught)} caught. Each is planted alone in a copy of the code.",
        "",
        "| mistake | where | caught by |",
        "|---|---|---|",
    ]
    for name, test in caught.items():
        mistake = MISTAKES[name]
        where = test.removeprefix("tests/") or "**nothing**"
        lines.append(f"| {name}: {mistake.what} | {mistake.file} | {where} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
