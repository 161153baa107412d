"""Studies that train variants of methods and set them beside a paper's table: the options they share, and their page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from nolabel.core import UserError
from nolabel.core.errors import nearest
from nolabel.studies import title
from nolabel.studies._fill import fill, made_with
from nolabel.studies._findings import Cell, Table
from nolabel.studies._ledger import Ledger, alike
from nolabel.studies._pictures import Picture
from nolabel.studies._trial import Trial, shown


@dataclass(frozen=True)
class How:
    """What every study of variants can be told."""

    data: str = "toyworld"
    """a data set with labels, as train takes it"""
    minutes: float = 2.0
    """wall time of one training"""
    epochs: float | None = None
    """length of one training in the place of minutes: the same number of samples for all, as papers compare"""
    seeds: int = 3
    """runs of each variant"""
    protocols: tuple[str, ...] = ("linear", "knn")
    """judges; the first one is drawn and speaks"""
    encoder: str | None = None
    """the same for all; by default that of the recipe"""
    size: int | None = None
    """pixels that the encoder sees"""
    batch: int | None = None
    """samples per step, where the study does not choose it; by default that of the recipe"""
    processes: int | None = None
    """processes that share a batch; by default as train chooses"""
    out: Path = Path("results")
    """the folder of table and picture"""
    runs: Path | None = None
    """a folder in which the runs stay and are gone on with; by default they are removed"""
    redo: bool = False
    """train again what is finished"""
    workers: int = 1
    """trainings at the same time, each on its share of the cores and on a GPU of its own"""

    @property
    def budget(self) -> dict[str, Any]:
        """The options that results depend on and that are not left open."""
        length = {"minutes": self.minutes} if self.epochs is None else {"epochs": self.epochs}
        rest = {"encoder": self.encoder, "size": self.size, "batch": self.batch}
        return length | {k: v for k, v in rest.items() if v is not None}


Told = Annotated[How, tyro.conf.arg(name="")]
"""`How` as flags without a prefix"""
DEFAULT = How()


@dataclass(frozen=True)
class Variant:
    """One method in one form."""

    name: str
    method: str
    fields: dict[str, Any] = field(default_factory=dict)
    """what makes it, as `nolabel.train` takes it"""
    paper: dict[str, float] = field(default_factory=dict)
    """what the paper reports, by protocol"""


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of several changes: later ones win, nested ones are merged."""
    found: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
            found[name] = merged(found[name], value) if both else value
    return found


def ladder(steps: Sequence[tuple[str, dict[str, Any]]], start: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Cumulative rows: each has its own changes and those of all rows before."""
    rows, sofar = [], dict(start)
    for name, change in steps:
        sofar = merged(sofar, change)
        rows.append((name, sofar))
    return rows


def study(
    name: str,
    about: str,
    variants: Sequence[Variant],
    how: How,
    findings: Callable[[Table], list[str]],
    picture: Callable[[Table, str], Picture],
    **own: Sequence[object],
) -> None:
    """Train what is not finished, and write NAME.md, .json and .svg, and NAME-trials.json with every single trial.

    `findings` and `picture` get the table of the first protocol, the latter what its axis is called, too. Of other data
    than the toy world the name of the data joins NAME. `own`: flags of the study alone that the page is to name.
    """
    from nolabel.trained import PROTOCOLS

    for protocol in how.protocols:
        if protocol not in PROTOCOLS:
            raise UserError(f"unknown protocol '{protocol}'{nearest(protocol, PROTOCOLS)}")
    if not how.protocols or how.seeds < 1:
        raise UserError("name at least one protocol and one seed")
    trials = [
        Trial(
            v.method, how.data, seed, how.budget, how.protocols,
            how={"processes": how.processes}, variant=v.name, fields=v.fields,
        )
        for seed in range(how.seeds)
        for v in variants
    ]  # fmt: skip
    data = shown(how.data)
    stem = name if data == "toyworld" else f"{name}-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in data)
    given = "".join(f" --{k} {v:g}" if isinstance(v, float) else f" --{k} {v}" for k, v in how.budget.items())
    given += "".join(f" --{k} {' '.join(map(str, v))}" for k, v in own.items())
    command = f"nolabel study {name} --data {data} --seeds {how.seeds}{given}"

    def publish(records: list[dict[str, Any]]) -> None:
        from nolabel.engine.checkpoint import write_atomic
        from nolabel.runs import write_json

        mine = [r for r in records if any(alike(r, trial) for trial in trials)]
        said = findings(table_of(mine, variants, how.protocols[0]))
        drawn = picture(table_of(mine, variants, how.protocols[0]), f"{how.protocols[0]} (%) on {data}")
        found = rows(mine, variants, how.protocols)
        write_json(how.out / f"{stem}.json", {"command": command, "findings": said, "rows": found})
        drawn.write(how.out / f"{stem}.svg")
        text = page(title(name).partition("?")[0] + "?", about, found, said, f"{stem}.svg", command, made_with(mine))
        write_atomic(how.out / f"{stem}.md", lambda file: file.write(text.encode()))

    fill(Ledger(how.out / f"{stem}-trials.json", publish), trials, how.runs, how.redo, how.workers)
    print((how.out / f"{stem}.md").read_text())


def table_of(records: Sequence[dict[str, Any]], variants: Sequence[Variant], protocol: str) -> dict[str, Cell]:
    """The variants that are measured by a protocol."""
    found = {}
    for v in variants:
        scores = {
            r["seed"]: score
            for r in records
            if (r["method"], r["variant"]) == (v.method, v.name)
            for score in r["scores"]
            if score["protocol"] == protocol
        }
        fresh = [s["random_init"] for s in scores.values() if s["random_init"] is not None]
        if scores:
            values = {seed: s["value"] for seed, s in sorted(scores.items())}
            found[v.name] = Cell(values, sum(fresh) / len(fresh) if fresh else None)
    return found


def rows(
    records: Sequence[dict[str, Any]], variants: Sequence[Variant], protocols: Sequence[str]
) -> list[dict[str, Any]]:
    """One row for each measured variant and protocol, in the order of the study."""
    tables = {protocol: table_of(records, variants, protocol) for protocol in protocols}
    alarms = {(r["method"], r["variant"]) for r in records if r["alarms"]}
    return [
        {
            "variant": v.name, "method": v.method, "protocol": protocol, "seeds": len(cell.values), "mean": cell.mean,
            "std": cell.std, "random_init": cell.random_init, "paper": v.paper.get(protocol),
            "alarm": (v.method, v.name) in alarms,
        }
        for v in variants
        for protocol in protocols
        if (cell := tables[protocol].get(v.name))
    ]  # fmt: skip


def page(
    question: str,
    about: str,
    found: Sequence[dict[str, Any]],
    said: Sequence[str],
    picture: str,
    command: str,
    made: Sequence[str],
) -> str:
    """Findings, picture and table as Markdown."""
    protocols = list(dict.fromkeys(row["protocol"] for row in found))
    papers = {row["protocol"] for row in found if row["paper"] is not None}
    head = ["variant", "method"]
    for protocol in protocols:
        head += [protocol, f"{protocol}, random init", *([f"{protocol}, paper"] if protocol in papers else [])]
    lines = [f"# {question}", "", about, "", *(f"- {line}" for line in said), "", f"![{question}]({picture})", ""]
    lines += [f"| {' | '.join([*head, 'seeds'])} |", f"|---|---|{'---:|' * (len(head) - 1)}"]
    by_variant: dict[str, dict[str, dict[str, Any]]] = {}
    for row in found:
        by_variant.setdefault(row["variant"], {})[row["protocol"]] = row
    for variant, each in by_variant.items():
        first = next(iter(each.values()))
        cells = [variant, first["method"]]
        for protocol in protocols:
            row = each.get(protocol, {})
            spread = "" if row.get("std") is None else f" ± {row['std']:.1f}"
            cells += [number(row.get("mean")) + spread, number(row.get("random_init"))]
            cells += [number(row.get("paper"))] if protocol in papers else []
        lines.append(f"| {' | '.join([*cells, str(first['seeds'])])} |")
    rang = list(dict.fromkeys(row["variant"] for row in found if row["alarm"]))
    lines += ["", f"Mean ± standard deviation over seeds. Collapse alarms: {', '.join(rang) or 'none'}.", ""]
    return "\n".join([*lines, f"`{command}`", "", *(f"- {line}" for line in made), ""])


def number(value: float | None) -> str:
    """A cell; empty where there is no number."""
    return "" if value is None else f"{value:.1f}"
