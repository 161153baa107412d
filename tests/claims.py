"""`python -m tests.claims [NAME ...]`: do claims of papers beyond "it learns" hold on the toy world?

    python -m tests.claims --list
    python -m tests.claims --seeds 3              fills results/claims.json and writes results/claims.md

Trainings last a number of steps, so that nothing depends on who else uses the machine. A claim holds where the mean over
seeds, less one standard deviation, is still on the right side of what is asked, and by the mean where only that is. What is
finished is not trained again unless the recipe or the question has changed, or with --redo.
"""

import argparse
import fcntl
import inspect
import itertools
import json
import math
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import nolabel as nl
from nolabel.core.random import generator
from nolabel.core.types import PAD, START
from nolabel.data.toy import TEST_FROM
from nolabel.data.toyworld import corpus
from nolabel.evaluate import FineTune
from nolabel.studies._trial import PART, own, protocol, settings_of
from nolabel.trained import Trained

ROOT = Path(__file__).parent.parent
Train = Callable[..., Trained]
"""(method, data, steps, **settings) of one seed"""


@dataclass(frozen=True)
class Bar:
    """What is asked of a number that was measured."""

    what: str
    value: Callable[[dict[str, float]], float]
    least: float
    most: bool = False
    """it is to be this or less, instead of more"""


@dataclass(frozen=True)
class Claim:
    """Trainings of one seed, and what is asked of what they reach."""

    source: str
    measure: Callable[[Train], dict[str, float]]
    bars: tuple[Bar, ...]


def by(trained: Trained, name: str, data: str | None = None, modality: str | None = None) -> tuple[float, float]:
    """What a run and its untrained weights reach by the first metric of a protocol."""
    judge = protocol(name)
    rows = [r for r in trained.judge(data, [judge]) if r["metric"] == judge.metrics[0]]
    row = next(r for r in rows if modality in (None, r.get("modality")))
    return row["value"], row["random_init"]


def arrow_of_time(train: Train) -> dict[str, float]:
    forward, reversible = train("arrow_of_time", "toyworld", 800), train("arrow_of_time", "toyworld:reversible", 400)
    return {
        "direction": 100 * own(forward, "direction_accuracy")["value"],
        "reversible": 100 * own(reversible, "direction_accuracy")["value"],
        "one_frame": ends_apart(forward),
    }


def ends_apart(trained: Trained) -> float:
    """Percent of single frames that a linear classifier of pixels tells to be the first of their clip, not the last."""
    from sklearn.linear_model import LogisticRegression

    parts = {}
    for name, split in trained.built.data.splits.items():
        rows = torch.arange(min(len(split), 3000))
        clips = [trained.method.views(split.take(part), generator(i))["a"] for i, part in enumerate(rows.split(250))]
        gray_NFSS = torch.cat([clip[:, 0] for clip in clips])
        x = torch.cat((gray_NFSS[:, 0], gray_NFSS[:, -1])).flatten(1).numpy()
        parts[name] = x, np.repeat([0, 1], len(gray_NFSS))
    return 100 * LogisticRegression(C=1e-3, max_iter=300).fit(*parts["train"]).score(*parts["test"])


def rho_clips(train: Train) -> dict[str, float]:
    # without colours, for these tell a video at any time; the things that stay are large
    world = "toyworld:textured:grey:shape"
    two, one = (train("rho_clips", world, 500, views={"together": together}) for together in (False, True))
    linear, untrained = by(two, "linear")
    return {
        "rho_2": linear, "rho_1": by(one, "linear")[0], "untrained": untrained,
        "invariance_2": invariance(two), "invariance_1": invariance(one),
    }  # fmt: skip


def invariance(trained: Trained, draws: int = 8, videos: int = 256) -> float:
    """The share of the variance of standardised features that is between videos, not between times and looks of one."""
    split, views = trained.built.data.splits["test"], trained.method.views
    batch = split.take(torch.arange(videos))
    with torch.no_grad():
        made = [trained.encoder(clip) for i in range(draws // 2) for clip in views(batch, generator(i))["clips"]]
    f_RVD = torch.stack(made).float()
    f_RVD = (f_RVD - f_RVD.mean((0, 1))) / f_RVD.std((0, 1)).clamp_min(1e-6)
    within, between = f_RVD.var(0).mean(), f_RVD.mean(0).var(0).mean()
    return float(between / (between + within))


def avid(train: Train) -> dict[str, float]:
    both = train("avid", "toyworld", 1200)
    alone = train("avid", "toyworld", 1200, instance=1.0)
    split = both.built.data.splits["train"]
    assert both.method.found, "no agreeing clips were looked for"
    material_N = split.take(torch.arange(len(split)), ["label"])["label"]
    pure = (material_N[both.method.friends] == material_N[:, None]).double().mean()
    chance = (material_N.bincount().double() / len(material_N)).square().sum()
    linear, untrained = by(both, "linear", modality="video")
    return {
        "linear": linear, "untrained": untrained, "linear_alone": by(alone, "linear", modality="video")[0],
        "purity": 100 * float(pure), "chance": 100 * float(chance),
    }  # fmt: skip


def audio_mae(train: Train) -> dict[str, float]:
    local = train("audio_mae", "toyworld", 300)
    everywhere = train("audio_mae", "toyworld", 300, window=0)
    few = FineTune(samples=100, batch=32, epochs=60, rates=(1e-3,))  # with a thousand all is known from scratch
    tuned = next(r for r in local.judge(None, [few]) if r["metric"] == "top1")
    return {
        "local": own(local, "loss")["value"], "global": own(everywhere, "loss")["value"],
        "tuned": tuned["value"], "scratch": tuned["random_init"],
    }  # fmt: skip


def videomae(train: Train) -> dict[str, float]:
    tube, random = (train("videomae", "toyworld", 150, mask=mask) for mask in ("tube", "random"))
    return {"tube": own(tube, "loss")["value"], "random": own(random, "loss")["value"]}


def next_token(train: Train) -> dict[str, float]:
    trained = train("next_token", "toyworld", 700)
    split = trained.built.data.splits["test"]
    text_NL = split.take(torch.arange(len(split)))["text"]
    length_N = (text_NL[:, 1:] != PAD).sum(1)
    whole_N = length_N <= corpus.MOST  # a longer one was cut: the grammar counted bits that are not there
    bits_N = torch.cat([-log_p(trained, part).sum(1) for part in text_NL.split(200)]) / math.log(2)
    grammar_N = torch.from_numpy(np.asarray(corpus.render(TEST_FROM + np.arange(len(text_NL)))["bits"]))
    perplexity = next(r for r in trained.judge(None, [protocol("perplexity")]) if r["metric"] == "perplexity")
    tokens = float(length_N[whole_N].sum())
    return {
        "bits": float(bits_N[whole_N].sum()) / tokens, "grammar": float(grammar_N[whole_N].sum()) / tokens,
        "perplexity": perplexity["value"], "n_gram": perplexity["raw_input"], "agreement": agreement(trained),
    }  # fmt: skip


def log_p(trained: Trained, text_NL: Tensor) -> Tensor:
    """Log probability of every token but the first (N, L - 1), 0 for PAD."""
    with torch.no_grad():
        logits_NLV = F.linear(trained.encoder.encode(text_NL[:, :-1]).float(), trained.encoder.words.weight.float())
    return -F.cross_entropy(logits_NLV.mT, text_NL[:, 1:], ignore_index=PAD, reduction="none")


def agreement(trained: Trained) -> float:
    """Percent of subjects whose verb is thought more probable in the right number, after "who" and a noun of the other."""
    tokenizer = trained.built.data.tokenizer
    assert tokenizer is not None
    right = []
    for nouns, verbs in zip(corpus._NOUNS, corpus._VERBS):
        forms = {many: [tokenizer.encode(v if many else corpus.third(v))[0] for v in verbs.split()] for many in (0, 1)}
        for i, noun in enumerate(nouns.split()):
            other, verb = nouns.split()[i - 1], verbs.split()[i % len(verbs.split())]
            for many in (0, 1):
                inside = f"{corpus.plural(noun)} who {verb}" if many else f"{noun} who {corpus.third(verb)}"
                text = f"the {inside} the {other if many else corpus.plural(other)}"
                with torch.no_grad():
                    h_D = trained.encoder.encode(torch.tensor([[START, *tokenizer.encode(text)]]))[0, -1].float()
                p_V = F.linear(h_D, trained.encoder.words.weight.float()).softmax(0)
                right.append(p_V[forms[many]].sum() > p_V[forms[1 - many]].sum())
    return 100 * float(torch.stack(right).double().mean())


def masked_language_model(train: Train) -> dict[str, float]:
    trained = train("masked_language_model", "toyworld", 1200)
    low_shot, untrained = by(trained, "low-shot")
    splits = trained.built.data.splits
    train_NL, test_NL = (splits[k].take(torch.arange(len(splits[k])))["text"] for k in ("train", "test"))
    return {
        "accuracy": 100 * own(trained, "masked_accuracy")["value"], "neighbours": by_neighbours(train_NL, test_NL),
        "low_shot": low_shot, "untrained": untrained,
    }  # fmt: skip


def by_neighbours(train_NL: Tensor, test_NL: Tensor) -> float:
    """Percent of words that counts of both neighbours tell: the largest p(w | word before) p(word after | w)."""
    size = int(train_NL.max()) + 1
    count_VV = torch.zeros(size, size, dtype=torch.double)
    left, right = train_NL[:, :-1].flatten(), train_NL[:, 1:].flatten()
    real = right != PAD
    count_VV.index_put_((left[real], right[real]), torch.ones(int(real.sum()), dtype=torch.double), accumulate=True)
    after_VV = (count_VV / count_VV.sum(1, keepdim=True).clamp_min(1)).clamp_min(1e-9).log()
    before, word, after = test_NL[:, :-2].flatten(), test_NL[:, 1:-1].flatten(), test_NL[:, 2:].flatten()
    real = after != PAD
    right_ones = total = 0
    for b, w, a in zip(*(x[real].split(20_000) for x in (before, word, after))):
        guess = (after_VV[b] + after_VV[:, a].T).argmax(1)
        right_ones, total = right_ones + int((guess == w).sum()), total + len(w)
    return 100 * right_ones / total


def clip(train: Train) -> dict[str, float]:
    apart = train("clip", "toyworld:pairs", 450)
    hard = train(
        "clip", "toyworld:hard:100000", 900, views={"length": 16}
    )  # of the usual 20,000 captions are soon known
    found = next(r for r in apart.judge("toyworld", [protocol("retrieval")]) if r["metric"] == "r1")
    return {
        "unseen_pairs": by(apart, "zero-shot")[0], "all_pairs": by(apart, "zero-shot", "toyworld")[0],
        "recall_1": found["value"], "chance_1": found["settings"]["chance"],
        "hard": by(hard, "zero-shot")[0],
    }  # fmt: skip


def cpc_speech(train: Train) -> dict[str, float]:
    trained = train("cpc_speech", "toyworld", 1200)
    steps = {f"ahead_{k}": 100 * own(trained, f"accuracy_{k}")["value"] for k in range(1, trained.method.ahead + 1)}
    x = trained.method.views(trained.built.data.splits["test"].take(torch.arange(2)), generator(0))["x"]
    with torch.no_grad():
        moments = trained.method.encoder.moments(x)[0].shape[1]
    return {**steps, "chance": 100 / moments}


def point_contrast(train: Train) -> dict[str, float]:
    trained = train("point_contrast", "toyworld", 330)
    segments, untrained = by(trained, "segments")
    match = own(trained, "match_accuracy")
    return {
        "match": 100 * match["value"], "match_untrained": 100 * match["random_init"],
        "chance": 100 / (PART * trained.method.views.pairs),
        "segments": segments, "untrained": untrained,
    }  # fmt: skip


def falls(v: dict[str, float]) -> float:
    """The smallest fall from one step ahead to the next."""
    steps = [v[f"ahead_{k}"] for k in range(1, 1 + sum(name.startswith("ahead") for name in v))]
    return min(a - b for a, b in itertools.pairwise(steps))


CLAIMS = {
    "arrow_of_time": Claim(
        "Wei, Lim, Zisserman, Freeman, CVPR 2018: what is learned is time, not an artefact", arrow_of_time, (
            Bar("tells forwards from backwards, %", lambda v: v["direction"], 75),
            Bar("distance from 50 % where physics is reversible", lambda v: abs(v["reversible"] - 50), 3, most=True),
            Bar("a linear classifier of one frame tells first from last, %", lambda v: v["one_frame"], 55, most=True),
        ),
    ),
    "rho_clips": Claim(
        "Feichtenhofer, Fan, Xiong, Girshick, He, CVPR 2021: clips of two times beat two looks of one", rho_clips, (
            Bar("linear, rho = 2 over random init, points", lambda v: v["rho_2"] - v["untrained"], 10),
            Bar("linear, rho = 2 over rho = 1, points", lambda v: v["rho_2"] - v["rho_1"], 3),
            Bar("invariance to time and look, rho = 2 over rho = 1",
                lambda v: v["invariance_2"] - v["invariance_1"], 0),
        ),
    ),
    "avid": Claim(
        "Morgado, Vasconcelos, Misra, CVPR 2021: clips that agree in sight and sound are alike, and help", avid, (
            Bar("linear of video over random init, points", lambda v: v["linear"] - v["untrained"], 10),
            Bar("agreeing clips of one material over chance, points", lambda v: v["purity"] - v["chance"], 20),
            Bar("linear of video, CMA over AVID alone, points", lambda v: v["linear"] - v["linear_alone"], 0),
        ),
    ),
    "audio_mae": Claim(
        "Huang et al., NeurIPS 2022: a decoder of windows, features worth fine-tuning", audio_mae, (
            Bar("masked error, 1 being the mean of each patch", lambda v: v["local"], 0.9, most=True),
            Bar("masked error, global over local decoder", lambda v: v["global"] - v["local"], 0),
            Bar("fine-tuned on 100 labels over from scratch, points", lambda v: v["tuned"] - v["scratch"], 3),
        ),
    ),
    "videomae": Claim(
        "Tong, Song, Wang, Wang, NeurIPS 2022: tubes cannot be copied from a moment before", videomae, (
            Bar("masked error, tube over random masks", lambda v: v["tube"] - v["random"], 0),
        ),
    ),
    "next_token": Claim(
        "Radford et al. 2018: the model of words learns the grammar", next_token, (
            Bar("bits a token over those of the grammar", lambda v: v["bits"] / v["grammar"], 1.1, most=True),
            Bar("perplexity over that of a 5-gram", lambda v: v["perplexity"] / v["n_gram"], 1, most=True),
            Bar("verb agrees across a relative clause, %", lambda v: v["agreement"], 90),
        ),
    ),
    "masked_language_model": Claim(
        "Devlin, Chang, Lee, Toutanova, NAACL 2019: words are told from more than their neighbours", masked_language_model, (
            Bar("masked words told over counts of both neighbours, points",
                lambda v: v["accuracy"] - v["neighbours"], 0),
            Bar("low-shot topic over random init, points", lambda v: v["low_shot"] - v["untrained"], 10),
        ),
    ),
    "clip": Claim(
        "Radford et al., ICML 2021: words name what was never seen together", clip, (
            Bar("text finds image at once, over chance", lambda v: v["recall_1"] / v["chance_1"], 10),
            Bar("zero-shot on unseen pairs of shape and material over all pairs",
                lambda v: v["unseen_pairs"] / v["all_pairs"], 0.5),
            Bar("zero-shot shape among small things in front of wild patterns, %", lambda v: v["hard"], 50),
        ),
    ),
    "cpc_speech": Claim(
        "van den Oord, Li, Vinyals 2018: the future is told, the farther the worse", cpc_speech, (
            Bar("accuracy one step ahead over chance", lambda v: v["ahead_1"] / v["chance"], 5),
            Bar("smallest fall from a step to the next, points", falls, 0),
        ),
    ),
    "point_contrast": Claim(
        "Xie et al., ECCV 2020: points of two views are matched, and parts are found", point_contrast, (
            Bar("match accuracy over chance", lambda v: v["match"] / v["chance"], 20),
            Bar("match accuracy over random init", lambda v: v["match"] / v["match_untrained"], 2),
            Bar("20-shot part mIoU over random init, points", lambda v: v["segments"] - v["untrained"], 3),
        ),
    ),
}  # fmt: skip


def holds(bar: Bar, values: list[float]) -> bool:
    """Whether the mean is on the right side by a standard deviation."""
    spread = stdev(values) if len(values) > 1 else 0.0
    return mean(values) + spread <= bar.least if bar.most else mean(values) - spread >= bar.least


def verdict(bar: Bar, values: list[float]) -> str:
    """How a claim stands; a single seed has no deviation and proves little."""
    said = "yes" if holds(bar, values) else "by the mean" if holds(bar, [mean(values)]) else "**no**"
    return said + (", one seed" if len(values) == 1 else "")


def page(records: list[dict[str, Any]]) -> str:
    """The claims as Markdown, with all that was measured."""
    lines = [
        "# Do the claims hold?",
        "",
        "What papers say of their methods beyond that they learn, asked of the small recipes on the toy world. A claim holds",
        "where the mean over seeds, less one standard deviation, is on the right side of what is asked, and `by the mean`",
        "where only the mean is; one seed says less.",
        "",
        "| method | claim | asked | found | holds | seeds |",
        "|---|---|---:|---:|---|---:|",
    ]
    below = []
    for name, claim in CLAIMS.items():
        mine = [r["values"] for r in records if r["name"] == name]
        seeds = " ".join(str(r["seed"]) for r in records if r["name"] == name)
        if not mine:
            below.append(f"- {name} ({claim.source}): not measured yet")
            continue
        for bar in claim.bars:
            found = [bar.value(v) for v in mine]
            spread = f" ± {stdev(found):.3g}" if len(found) > 1 else ""
            cells = [name, bar.what, f"{'≤' if bar.most else '≥'} {bar.least:g}", f"{mean(found):.3g}{spread}"]
            lines.append(f"| {' | '.join([*cells, verdict(bar, found), seeds])} |")
        said = ", ".join(f"{k} {' '.join(f'{v[k]:.4g}' for v in mine)}" for k in mine[0])
        below.append(f"- {name} ({claim.source}): {said}")
    about = records[0]["machine"] if records else {}
    commits = sorted({r["git"] for r in records})
    return "\n".join([
        *lines, "", "By seed:", "", *below, "",
        f"`python -m tests.claims --seeds {max((r['seed'] for r in records), default=0) + 1}`, "
        f"{min(r['when'] for r in records)} to {max(r['when'] for r in records)}, {about.get('cpu')}, one core, torch "
        f"{torch.__version__}, commits {', '.join(commits)}; {sum(r['seconds'] for r in records) / 60:.0f} minutes in all.", "",
    ])  # fmt: skip


def main() -> None:
    """Measure what is missing, and write the page after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="methods; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "results", help="the folder of claims.json and claims.md")
    parser.add_argument("--redo", action="store_true", help="measure again what is finished")
    parser.add_argument("--list", action="store_true")
    told = parser.parse_args()
    if unknown := [name for name in told.names if name not in CLAIMS]:
        parser.error(f"no claim of '{unknown[0]}'; there are {', '.join(CLAIMS)}")
    if told.list:
        print("\n".join(f"{name}: {claim.source}" for name, claim in CLAIMS.items()))
        return
    torch.set_num_threads(1)
    place = told.out / "claims.json"
    for seed in range(told.seeds):
        for name in told.names or CLAIMS:
            key = {"name": name, "seed": seed, "asked": asked(name)}
            if not told.redo and any(key.items() <= r.items() for r in known(place)):
                continue
            start = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                values, machine, git = measured(name, seed, Path(folder))
            record = {
                **key, "values": values, "seconds": time.monotonic() - start, "machine": machine,
                "git": git, "when": f"{datetime.now(UTC):%Y-%m-%d}",
            }  # fmt: skip
            add(place, record)
            print(
                f"{name}, seed {seed} ({record['seconds']:.0f} s):",
                {k: round(v, 3) for k, v in values.items()},
                flush=True,
            )


def measured(name: str, seed: int, folder: Path) -> tuple[dict[str, float], dict[str, Any], str]:
    """The values of a claim, the machine and the commit."""
    runs: list[Trained] = []

    def train(method: str, data: str, steps: int, **settings: Any) -> Trained:
        options = {"steps": steps, "seed": seed, "processes": 1, "evaluate": (), "report": False, "quiet": True}
        runs.append(nl.train(method, data, **options, **settings, dir=folder / str(len(runs))))
        return runs[-1]

    values = CLAIMS[name].measure(train)
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout
    return values, runs[0].plan.about["machine"], git.strip() or "unknown"


def asked(name: str) -> str:
    """A number of the recipe and of what is done with it: another one where either has changed."""
    done = inspect.getsource(CLAIMS[name].measure)
    return f"{zlib.crc32((settings_of(name, 'tiny') + done).encode()):08x}"


def known(place: Path) -> list[dict[str, Any]]:
    """What is finished."""
    return json.loads(place.read_text()) if place.exists() else []  # type: ignore[no-any-return]


def add(place: Path, record: dict[str, Any]) -> None:
    """Write it in the place of an older one; several processes may do so."""
    with open(place.parent / ".claims.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        key = record["name"], record["seed"]
        records = [r for r in known(place) if (r["name"], r["seed"]) != key] + [record]
        records.sort(key=lambda r: (list(CLAIMS).index(r["name"]), r["seed"]))
        place.write_text(json.dumps(records, indent=1) + "\n")
        (place.parent / "claims.md").write_text(page(records))


if __name__ == "__main__":
    main()
