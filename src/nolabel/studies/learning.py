"""Does every method learn? Each by its small recipe, judged beside the same encoder untrained and the raw input."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from nolabel import methods
from nolabel.core import UserError
from nolabel.core.errors import nearest
from nolabel.studies._fill import fill, known, made_with
from nolabel.studies._floors import FLOORS, LESS_IS_BETTER, Floor
from nolabel.studies._ledger import Ledger, outdated
from nolabel.studies._pictures import Picture, margins
from nolabel.studies._trial import Trial, own, protocol, shown

if TYPE_CHECKING:
    from nolabel.trained import Trained

MARGIN = 3.0
"""points above random init below which the table calls a row flat"""

FALL = 3.0
"""points of the k-NN beside a training from its best look to its last that are worth a line"""

PROTOCOLS: dict[str, tuple[str, ...]] = {
    "audio_mae": ("linear",),
    "avid": ("linear", "knn"),
    "byol_a": ("linear", "knn"),
    "video": ("linear", "knn"),
    "videomae": ("linear", "fine-tune"),
    "masked": ("linear", "fine-tune"),
    "generative": ("linear", "knn"),
    "deepercluster": ("linear", "knn"),
    "relative_position": ("linear", "knn"),
    "stacked_dae": ("fine-tune", "linear"),
    "jigsaw": ("linear", "knn"),
    "m3ae": ("linear", "knn"),
    "multimae": ("linear", "knn"),
    "semi": ("classify",),
    "text": ("low-shot", "linear"),
    "masked_language_model": ("low-shot", "linear", "fine-tune"),
    "next_token": ("low-shot", "linear", "perplexity"),
    "clip": ("zero-shot", "linear"),
    "cpc_speech": ("segments", "linear"),
    "siglip": ("zero-shot", "linear"),
    "depth_contrast": ("low-shot", "segments"),
    "point_mae": ("low-shot", "linear"),
    "point_contrast": ("segments", "linear"),
    "random_walk": ("propagation",),
    "video_colorization": ("propagation",),
}
"""by method or family, what it is judged by; floors stand on the first"""
PROTOCOLS_OF_OTHERS = ("knn", "linear")

OWN = {
    "arrow_of_time": "direction_accuracy",
    "audio_mae": "loss",
    "autoencoder": "pixel_error",
    "beit": "loss",
    "bigan": "code_correlation",
    "clip": "pair_accuracy",
    "colorization": "color_accuracy",
    "cpc_text": "loss",
    "data2vec": "skill",
    "deep_infomax": "local_information",
    "depth_contrast": "points_voxels_accuracy",
    "ijepa": "skill",
    "jigsaw": "permutation_accuracy",
    "m3ae": "loss",
    "mae": "loss",
    "masked_language_model": "masked_accuracy",
    "multimae": "loss",
    "next_token": "accuracy",
    "point_contrast": "match_accuracy",
    "point_mae": "loss",
    "random_walk": "cycle_accuracy",
    "relative_position": "position_accuracy",
    "rotation": "rotation_accuracy",
    "shuffle_and_learn": "order_accuracy",
    "simmim": "loss",
    "skip_thought": "perplexity",
    "split_brain": "loss",
    "um_mae": "loss",
    "vae": "pixel_error",
    "video_colorization": "color_accuracy",
    "videomae": "loss",
}
"""by method, its own criterion on held-out samples where it says something: its loss, or what its forward logs"""

LABELS = "200"
"""what semi-supervised methods may see of the labels, of all classes together; `supervised` is their control"""

CONTROL = ": the control, where nothing can be learned"
"""of data made so that a method must fail on it"""


def learning(
    methods: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    /,
    data: tuple[str, ...] = ("toyworld",),
    seeds: int = 3,
    minutes: float = 2.0,
    protocols: tuple[str, ...] = (),
    out: Path = Path("results"),
    runs: Path | None = None,
    redo: bool = False,
    processes: int | None = None,
    workers: int = 1,
) -> None:
    """Train every method by its small recipe and judge it beside random init and raw input.

    Writes learning.md with its picture learning.svg, learning.json, and learning-trials.json with every single trial.
    Finished trials are kept, so the table fills over several runs, also over several at once.

    Args:
        methods: those to train; default: all
        data: data sets with labels, each as train takes it
        seeds: runs of each method on each data set
        minutes: wall time of one training
        protocols: what they are judged by, by the first above all (retrieval, low-shot, ...); default: what fits each
        out: the folder of the table
        runs: a folder in which the runs stay and are gone on with; default: they are removed
        redo: train again what is finished
        processes: processes that share a batch; default: as train chooses
        workers: trainings at the same time, each on its share of the cores and on a GPU of its own

    Example: nolabel study learning simclr mae --data toyworld cifar10/ --seeds 3
    """
    from nolabel.trained import PROTOCOLS as known_protocols

    for name in protocols:
        if name not in known_protocols:
            raise UserError(f"unknown protocol '{name}'{nearest(name, known_protocols)}")
    how = {"processes": processes}
    trials = [
        Trial(method, source, seed, budget(method, minutes), protocols or judged_by(method), own_of(method), how)
        for source in data
        for method in known(methods)
        for seed in range(seeds)
    ]
    names = " ".join(shown(source) for source in data)
    command = f"nolabel study learning --data {names} --seeds {seeds} --minutes {minutes:g}"
    command += f" --protocols {' '.join(protocols)}" if protocols else ""
    command += f" --processes {processes}" if processes else ""

    def publish(records: list[dict[str, Any]]) -> None:
        from nolabel.engine.checkpoint import write_atomic
        from nolabel.runs import write_json

        write_json(out / "learning.json", rows(records))
        text = page(records, command)
        write_atomic(out / "learning.md", lambda file: file.write(text.encode()))
        picture(records).write(out / "learning.svg")

    fill(Ledger(out / "learning-trials.json", publish), trials, runs, redo, workers)
    print((out / "learning.md").read_text())


def budget(method: str, minutes: float) -> dict[str, Any]:
    """What a method may use."""
    return {"minutes": minutes} | few(method)


def few(method: str) -> dict[str, Any]:
    """The labels that semi-supervised methods may see."""
    return {"labels": LABELS} if methods.describe(method).family == "semi" else {}


def judged_by(method: str) -> tuple[str, ...]:
    """The protocols that fit a method."""
    return PROTOCOLS.get(method) or PROTOCOLS.get(methods.describe(method).family, PROTOCOLS_OF_OTHERS)


def own_of(method: str) -> str | None:
    """The method's own criterion, if it has one that says something on held-out samples."""
    return OWN.get(method)


def rows(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each method, data set and protocol: mean and standard deviation (n - 1) over the seeds."""
    tables: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for r in records:
        for score in r["scores"]:
            tables.setdefault((r["data"], r["method"], score["protocol"]), []).append(score)
    found = []
    for (data, method, name), scores in tables.items():
        values = [s["value"] for s in scores]
        row: dict[str, Any] = {"method": method, "data": data, "protocol": name, "seeds": len(values)}
        row |= {"mean": mean(values), "std": stdev(values) if len(values) > 1 else None}
        for control in ("random_init", "raw_input"):
            known = [s[control] for s in scores if s[control] is not None]
            row[control] = mean(known) if known else None
        found.append(row | {"floor": floor_of(method, name) if data == "toyworld" else None})
    return found


def floor_of(method: str, criterion: str) -> float | None:
    """What the short form must show by a protocol, or by "own loss" and the like; None if it is not judged by that."""
    floor = FLOORS.get(method)
    return floor.least if floor and criterion == (floor.by or judged_by(method)[0]) else None


def firsts(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the protocol that a method is judged by, or of the first that was asked for; family by family."""
    first = {}
    for r in records:
        asked = [score["protocol"] for score in r["scores"]]
        usual = judged_by(r["method"])[0] if r["method"] in methods.names() else ""
        first[r["data"], r["method"]] = usual if usual in asked else asked[0]
    found = sorted(rows(records), key=lambda r: (family(r["method"]), r["method"], r["data"]))
    return [r for r in found if r["protocol"] == first[r["data"], r["method"]]]


def page(records: Sequence[dict[str, Any]], command: str) -> str:
    """The tables as Markdown, one for each family."""
    found = sorted(rows(records), key=lambda r: (family(r["method"]), r["method"], r["data"]))
    judged = [r for r in firsts(records) if r["random_init"] is not None]
    named = names_of(records)
    own = {
        (r["method"], r["data"]): f" ({r['protocol']} {number(r['mean'], r)}, untrained {number(r['random_init'], r)})"
        for r in found
        if r["protocol"].startswith("own ")
    }
    keys = [(r["method"], r["data"]) for r in judged if r["mean"] < r["random_init"] + MARGIN]
    flat = [named[key] + own.get(key, "") + CONTROL * ("reversible" in key[1]) for key in keys]
    lines = [
        "# Does it learn?",
        "",
        "Every method by its small recipe, judged beside the same encoder untrained and the raw input, mean and standard",
        "deviation over seeds. k-NN, linear, low-shot (three labels a class) and fine-tune are accuracies in percent;",
        "fine-tuned from random init is the same net from scratch. `own` criteria are those of the method itself on held-out",
        "samples: of a loss less is better.",
        "`floor` is what the method's test demands after its short form: points above random init, or what an `own`",
        f"criterion must be beyond. `minutes` is what --minutes was for the row. Semi-supervised methods see {LABELS} labels;",
        "`supervised` sees them alone.",
        "",
        f"By the first protocol of each, {len(judged) - len(flat)} of {len(judged)} rows are {MARGIN:g} points or more",
        "above random init. These are not, at this budget:" + ("" if flat else " none."),
        *(["", *(f"- {name}" for name in flat)] if flat else []),
        "",
        "![what each method reached, from random init](learning.svg)",
    ]
    minutes = {(r["data"], r["method"]): r["budget"]["minutes"] for r in records}
    meant = {(r["data"], r["method"]): r.get("meant", r["data"]) for r in records}
    for name, members in groupby(found, key=lambda r: family(r["method"])):
        lines += [
            "",
            f"## {name.capitalize()}",
            "",
            "| method | data | protocol | mean | random init | raw input | margin | floor | seeds | minutes |",
            "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for r in members:
            key = r["data"], r["method"]
            spread = "" if r["std"] is None else f" ± {r['std']:.{digits(r)}f}"
            margin = None if r["random_init"] is None else r["mean"] - r["random_init"]
            cells = [r["method"], meant[key], r["protocol"], f"{number(r['mean'], r)}{spread}"]
            cells += [number(r["random_init"], r), number(r["raw_input"], r), number(margin, r, "+")]
            lines.append(f"| {' | '.join([*cells, number(r['floor'], r), str(r['seeds']), f'{minutes[key]:g}'])} |")
    rang = [f"{r['method']} on {r['data']}, seed {r['seed']}" for r in records if r["alarms"]]
    fell = [
        f"{r['method']} on {r['data']}, seed {r['seed']} ({max(looks):.1f} to {looks[-1]:.1f})"
        for r in records
        if (looks := r.get("looks")) and looks[-1] < max(looks) - FALL
    ]
    old = sorted({named[r["method"], r["data"]] for r in records if outdated(r)})
    lines += (
        ["", f"The settings of these have changed since, and they are to be trained again: {', '.join(old)}."]
        if old
        else []
    )
    lines += ["", f"Collapse alarms in {len(records)} runs: {'; '.join(rang) or 'none'}.", ""]
    lines += (
        [f"On the way the k-NN of these was better by more than {FALL:g} points: {'; '.join(fell)}.", ""]
        if fell
        else []
    )
    return "\n".join([*lines, f"`{command}`", "", *(f"- {line}" for line in made_with(records)), ""])


def picture(records: Sequence[dict[str, Any]]) -> Picture:
    """What every method reached by its first protocol, family by family."""
    named = names_of(records)
    groups: dict[str, dict[str, tuple[float, float | None, float | None, float | None]]] = {}
    for r in firsts(records):
        row = (r["mean"], r["std"], r["random_init"], r["raw_input"])
        groups.setdefault(family(r["method"]), {})[named[r["method"], r["data"]]] = row
    return margins(groups, "first protocol, percent")


def names_of(records: Sequence[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """By method and data what a row is called: the method, and its data where it has rows on several."""
    keys = {(r["method"], r["data"]) for r in records}
    several = {method for method, n in Counter(method for method, _ in keys).items() if n > 1}
    return {(method, data): method + f" on {data}" * (method in several) for method, data in keys}


def family(method: str) -> str:
    """The folder it is in."""
    return methods.describe(method).family if method in methods.names() else "gone"


def digits(row: dict[str, Any]) -> int:
    """Decimals: one for percents, three for a method's own criterion."""
    return 3 if row["protocol"].startswith("own ") else 1


def number(value: float | None, row: dict[str, Any], sign: str = "") -> str:
    """A cell; empty where there is no number."""
    return "" if value is None else f"{value:{sign}.{digits(row)}f}"


def short(method: str, folder: Path, **length: Any) -> "Trained":
    """The short form: train briefly on the toy world in one process, for the steps of its floor or the `length` given."""
    import nolabel as nl

    options = (length or {"steps": FLOORS[method].steps}) | few(method)
    return nl.train(method, "toyworld", **options, processes=1, evaluate=(), report=False, quiet=True, dir=folder)


def reached(trained: "Trained", criterion: str) -> tuple[float, float]:
    """What a run and untrained weights reach by a protocol, or by "own loss" and the like."""
    if criterion.startswith("own "):
        score = own(trained, criterion.removeprefix("own "))
        return score["value"], score["random_init"]
    judge = protocol(criterion)
    row = next(r for r in trained.judge(None, [judge]) if r["metric"] == judge.metrics[0])
    return row["value"], row["random_init"]


def holds(floor: Floor, value: float, untrained: float) -> bool:
    """Whether that is what a floor demands."""
    if not floor.by.startswith("own "):
        return value >= untrained + floor.least
    return value <= floor.least if floor.by.removeprefix("own ") in LESS_IS_BETTER else value >= floor.least
