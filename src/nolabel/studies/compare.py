"""Several methods on one budget: what each reaches, and what it costs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import tyro

from nolabel import recipes
from nolabel.core import UserError
from nolabel.core.errors import nearest
from nolabel.studies._fill import fill, known, made_with
from nolabel.studies._ledger import Ledger
from nolabel.studies._trial import Trial, shown


def compare(
    methods: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    data: str = "toyworld",
    minutes: float = 5.0,
    seeds: int = 3,
    protocols: tuple[str, ...] = ("linear", "knn"),
    recipe: str = "auto",
    encoder: str | None = None,
    size: int | None = None,
    batch: int | None = None,
    labels: str | None = None,
    processes: int | None = None,
    out: Path = Path("results"),
    runs: Path | None = None,
    redo: bool = False,
    workers: int = 1,
) -> list[dict[str, Any]]:
    """Train several methods for the same time on the same data and machine, and write one table; its rows are returned.

    Writes compare-DATA.md, .json and .html, and compare-DATA-trials.json with every single run. Finished runs of the
    same budget are kept, so methods can be added one by one.

    Args:
        methods: those to compare
        data: a data set with labels, as train takes it
        minutes: wall time of each training
        seeds: runs of each method
        protocols: knn, linear, low-shot (here 3 labels a class), fine-tune (here 5 epochs at rate 0.001), classify, ...
        recipe: tiny, cifar10, imagenet (the paper), for all methods and in the name of the table; auto as train chooses
        encoder: the same for all; default: that of each method's recipe
        size: pixels that the encoder sees
        batch: the same for all; default: that of each method's recipe
        labels: what semi-supervised methods and `supervised` may see, as train takes it
        processes: processes that share a batch; default: as train chooses
        out: the folder of the table
        runs: a folder in which the runs stay and are gone on with; default: they are removed
        redo: train again what is finished
        workers: trainings at the same time, each on its share of the cores and on a GPU of its own

    Example: nolabel compare simclr byol dino --data cifar10/ --minutes 10
    """
    from nolabel.api import data_named
    from nolabel.trained import PROTOCOLS

    data = data_named(data)  # from Python it may be arrays, as for train
    if not methods or not protocols or seeds < 1:
        raise UserError(
            "name the methods to compare, at least one protocol and one seed, e.g. nolabel compare simclr byol"
        )
    if recipe not in (choices := ("auto", *recipes.SETTINGS)):
        raise UserError(f"unknown --recipe '{recipe}'{nearest(recipe, choices)}")
    for name in protocols:
        if name not in PROTOCOLS:
            raise UserError(f"unknown protocol '{name}'{nearest(name, PROTOCOLS)}")
    named = None if recipe == "auto" else recipe
    budget = {
        "minutes": minutes, "recipe": named, "encoder": encoder, "size": size, "batch": batch, "labels": labels,
        "processes": processes,
    }  # fmt: skip
    trials = [
        Trial(method, data, seed, {k: v for k, v in budget.items() if v is not None}, protocols)
        for method in dict.fromkeys(known(methods))
        for seed in range(seeds)
    ]
    name = shown(data)
    stem = "compare-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(name).stem)
    stem += (f"-{named}-recipe" if named else "") + (f"-{Path(labels).stem}-labels" if labels else "")
    given = "".join(f" --{k} {v:g}" if isinstance(v, float) else f" --{k} {v}" for k, v in trials[0].budget.items())

    def publish(records: list[dict[str, Any]]) -> None:
        from nolabel.engine.checkpoint import write_atomic
        from nolabel.report import write_comparison
        from nolabel.runs import write_json

        alike = [r for r in records if r["budget"] == trials[0].budget]
        lines = table(alike, protocols)
        known_as = list(dict.fromkeys(r["method"] for r in alike))
        title = f"{len(known_as)} methods on {name}, {minutes:g} {'minute' if minutes == 1 else 'minutes'} each"
        title += f", recipes of {named}" if named else ""
        title += f", {labels if labels.isdecimal() else Path(labels).name} labels" if labels else ""
        command, how = f"nolabel compare {' '.join(known_as)} --data {name} --seeds {seeds}{given}", made_with(alike)
        write_json(out / f"{stem}.json", lines)
        # alone, the name of the toy world stands for the one that suits the method: to be compared with its own controls
        differ = len({line["data"] for line in lines}) > 1
        cells = [head(protocols, differ), *(cells_of(line, protocols, differ) for line in lines)]
        text = "\n".join(
            [f"# {title}", "", *markdown(cells), "", NOTE, "", f"`{command}`", "", *(f"- {x}" for x in how), ""]
        )
        write_atomic(out / f"{stem}.md", lambda file: file.write(text.encode()))
        write_comparison(results(alike), out / f"{stem}.html", title, table=cells, notes=[NOTE, command, *how])

    fill(Ledger(out / f"{stem}-trials.json", publish), trials, runs, redo, workers)
    print((out / f"{stem}.md").read_text())
    return json.loads((out / f"{stem}.json").read_text())  # type: ignore[no-any-return]


NOTE = (
    "Accuracies in percent, mean ± standard deviation over seeds; every method has the same minutes of training. Random "
    "init is the same encoder untrained, raw input no encoder. Memory is the peak of one process, judging apart."
)


def table(records: Sequence[dict[str, Any]], protocols: Sequence[str]) -> list[dict[str, Any]]:
    """One row a method, best first, then random init with each encoder, then the raw input, of all data there are."""
    methods: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for r in records:
        methods.setdefault((r["method"], r["encoder"], meant(r)), []).append(r)
    rows = []
    for (method, encoder, data), some in methods.items():
        costs = {k: mean(r[k] for r in some) for k in ("seconds", "samples_per_s", "memory")}
        found = scores(some, protocols, "value")
        rows.append({"method": method, "encoder": encoder, "data": data, **found, **costs, "seeds": len(some)})
    rows.sort(key=lambda row: -(row[protocols[0]] or 0.0))
    free = {"seconds": None, "samples_per_s": None, "memory": None}
    for encoder, data in sorted({(r["encoder"], meant(r)) for r in records}):
        for name, some in untrained(
            [r for r in records if (r["encoder"], meant(r)) == (encoder, data)], protocols
        ).items():
            found = scores(some, protocols, "random_init")
            rows.append({"method": name, "encoder": encoder, "data": data, **found, **free, "seeds": len(some)})
    for data in sorted({meant(r) for r in records}):
        some = list({r["seed"]: r for r in records if meant(r) == data}.values())
        found = scores(some, protocols, "raw_input")
        if any(value is not None for value in found.values()):  # not every protocol can do without an encoder
            rows.append({"method": "raw input", "encoder": None, "data": data, **found, **free, "seeds": len(some)})
    return rows


def untrained(records: Sequence[dict[str, Any]], protocols: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """A record a seed for `random init` of one encoder, and for that of each method that makes something else of it: CMC takes
    it twice, CPC looks at patches through it.
    """

    def start(record: dict[str, Any]) -> dict[str, float | None]:
        return {s["protocol"]: s["random_init"] for s in record["scores"] if s["protocol"] in protocols}

    usual = {}
    for seed in {r["seed"] for r in records}:
        found = [start(r) for r in records if r["seed"] == seed]
        usual[seed] = max(found, key=found.count)
    odd = dict.fromkeys(r["method"] for r in records if not alike(start(r), usual[r["seed"]]))
    rows = {"random init": list({r["seed"]: r for r in records if r["method"] not in odd}.values())}
    rows |= {f"random init of {method}": [r for r in records if r["method"] == method] for method in odd}
    return {name: some for name, some in rows.items() if some}


def alike(one: Mapping[str, float | None], other: Mapping[str, float | None], points: float = 0.5) -> bool:
    """Whether two untrained encoders scored the same, but for what other versions and machines change."""
    return all(
        one[name] == other[name] or abs((one[name] or 0.0) - (other[name] or 0.0)) <= points
        for name in one.keys() & other.keys()
    )


def meant(record: dict[str, Any]) -> str:
    """The data that a method was trained on."""
    return str(record.get("meant", record["data"]))


def scores(records: Sequence[dict[str, Any]], protocols: Sequence[str], column: str) -> dict[str, float | None]:
    """Mean and, under NAME_std, standard deviation (n - 1) of each protocol; None where nothing was measured."""
    found: dict[str, float | None] = {}
    for name in protocols:
        values = [s[column] for r in records for s in r["scores"] if s["protocol"] == name and s[column] is not None]
        found[name] = mean(values) if values else None
        found[f"{name}_std"] = stdev(values) if len(values) > 1 else None
    return found


def results(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The scores as rows of results.json, which the page takes."""
    names = ("method", "seed", "encoder")
    return [
        {**{k: r[k] for k in names}, "data": meant(r), **{k: v for k, v in s.items() if k != "settings"}}
        for r in records
        for s in r["scores"]
    ]


def head(protocols: Sequence[str], data: bool = False) -> list[str]:
    """The head of the table; with a column for the data where they differ."""
    return [
        "method",
        "encoder",
        *(["data"] if data else []),
        *protocols,
        "seconds",
        "samples/s",
        "memory (MiB)",
        "seeds",
    ]


def cells_of(row: dict[str, Any], protocols: Sequence[str], data: bool = False) -> list[str]:
    """One row of the table as text."""
    cells = [row["method"], row["encoder"] or "", *([row["data"]] if data else [])]
    for name in protocols:
        spread = "" if row[f"{name}_std"] is None else f" ± {row[f'{name}_std']:.1f}"
        cells.append("" if row[name] is None else f"{row[name]:.1f}{spread}")
    cells += ["" if row[k] is None else f"{row[k]:,.0f}" for k in ("seconds", "samples_per_s", "memory")]
    return [*cells, str(row["seeds"])]


def markdown(cells: Sequence[Sequence[str]]) -> list[str]:
    """Cells as lines of Markdown, the first row as head; numbers to the right."""
    rule = ["---" if name in ("method", "encoder", "data") else "---:" for name in cells[0]]
    return [f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:])]
