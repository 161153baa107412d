"""The report of one run: what it reached, how it trained, what the features know. One page that needs nothing else."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.report.charts import line_chart, results_table
from nolabel.report.features import map_section, neighbour_section
from nolabel.report.markup import Markup, document, h, join, number, score, section, write_atomically
from nolabel.report.pictures import Gallery, Pixels, data_uri, thumbnail
from nolabel.report.record import Record, Row, names, read_record, scores, series

__all__ = ["Gallery", "write_report"]

COLLAPSED = 0.1
"""feature std, of unit features times sqrt(D), below which almost all directions are lost; 1 is isotropic"""
STARVED = 0.25
"""share of the time spent waiting for data above which the report says so"""


def write_report(
    folder: Path,
    *,
    images: Pixels | None = None,
    features: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    classes: tuple[str, ...] = (),
    galleries: Sequence[Gallery] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write report.html into a run folder from its run.json, metrics.jsonl and results.json, and return its path.

    images uint8 (N, S, S, C), features (N, D) and labels int64 (N,) are of the same N samples; a label below 0 is
    unknown. What is missing is said in a sentence. Raises ValueError where the lengths differ.
    """
    lengths = {len(a) for a in (images, features, labels) if a is not None}
    if len(lengths) > 1:
        raise ValueError(f"images, features and labels are of different samples: {sorted(lengths)}")
    record = read_record(Path(folder))
    name = str(record.settings.get("method") or "A run")
    sections: dict[str, Markup | None] = {
        "Results": _results(record.results),
        "Curves": _curves(record.metrics),
        "Embedding": map_section(images, features, labels, classes),
        "Neighbours": neighbour_section(images, features, labels, classes),
        "Pictures": _galleries(galleries) if galleries else None,
        "Settings": _settings(record.settings),
    }
    shown = {title: body for title, body in sections.items() if body is not None}
    return write_atomically(Path(folder) / "report.html", document(name, _head(record, notes), shown))


def _head(record: Record, notes: Sequence[str]) -> Markup:
    settings = record.settings
    on = " · ".join(_called(settings[k]) for k in ("data", "encoder", "encoders") if settings.get(k))
    facts = {
        "started": _moment(settings.get("started")),
        "took": _duration(record),
        "steps": number(record.metrics[-1]["x"]) if record.metrics else None,
        "epochs": settings.get("epochs"),
        "batch": settings.get("batch"),
        "seed": settings.get("seed"),
        "machine": _machine(settings.get("machine")),
    }
    found = [h("li", h("b", "Warning: "), text, class_="warn") for text in record.troubles + findings(record)]
    found += [h("li", note) for note in notes]
    return join(
        h("p", "nolabel · report of a run", class_="kicker"),
        h("h1", settings.get("method") or "A run"),
        h("p", on, class_="lead") if on else None,
        h(
            "dl",
            [h("div", h("dt", k), h("dd", _plain(v))) for k, v in facts.items() if v not in (None, "")],
            class_="facts",
        )
        if any(v not in (None, "") for v in facts.values())
        else None,
        h("ul", *found, class_="findings") if found else None,
    )


def findings(record: Record) -> list[str]:
    """What an engineer should not miss, in sentences: no gain, collapse, a loss that broke, a device that waits."""
    out = []
    # the first metric of each protocol
    leading = {(*item.key[:3], item.key[4]): item for item in reversed(scores(record.results))}
    for item in reversed(leading.values()):
        for baseline, value in (("the untrained encoder", item.random_init), ("the raw input", item.raw_input)):
            if not item.beats(value):
                what = " ".join(part for part in (item.key[0], item.key[3], "on", item.key[1]) if part)
                out.append(f"{what} is {score(item.mean)}, no better than {baseline} ({score(value)}).")
    _, loss = series(record.metrics, "loss")
    if len(loss) and not np.isfinite(loss).all():
        out.append(f"The loss was not finite in {(~np.isfinite(loss)).sum():,} of {len(loss):,} logged steps.")
    _, std = series(record.metrics, "feature_std")
    std = std[np.isfinite(std)]
    if len(std) and std[-1] < COLLAPSED:
        out.append(f"The features have collapsed: their std ends at {number(std[-1])}, where 1 is healthy.")
    _, wait = series(record.metrics, "wait")
    if len(wait) and (share := float(np.nanmedian(wait))) > STARVED:
        out.append(f"Training waited for data {share:.0%} of the time.")
    return out


def _results(results: list[Row]) -> Markup:
    rows = []
    several = len({row.get("modality") for row in results}) > 1
    for item in scores(results):
        protocol, data, split, metric, modality = item.key
        about = [metric + (", less is better" if item.sign < 0 else ""), data, split]
        about = [f"encoder of {modality}" if several and modality else "", *about]
        about = [part for part in about if part] + [f"{len(item.values)} seeds"] * (len(item.values) > 1)
        rows.append(((join(protocol or "result", h("span", " · ".join(about), class_="sub")),), item))
    if not rows:
        return section("Results", h("p", "No evaluation has been run yet.", class_="missing"))
    return section("Results", results_table(("protocol",), rows))


def _curves(metrics: list[Row]) -> Markup:
    logged = names(metrics)
    online = [n for n in logged if n.startswith(("knn", "online", "probe"))]
    spread = [n for n in logged if n.startswith(("feature_std", "effective_rank"))]
    groups = {
        "Learning": ["loss"],
        "Representation": [*online, *spread],
        "Schedule and speed": ["lr", "samples_per_s", "wait"],
    }
    known = {n for group in groups.values() for n in group}
    groups["Learning"] += [n for n in logged if n not in known]
    groups = {title: [n for n in group if n in logged] for title, group in groups.items()}
    if not logged:
        return section("Curves", h("p", "No metrics have been logged.", class_="missing"))
    intro = "The strong line is smoothed, the faint one raw. Point at a curve to read it."
    parts = [(h("h3", t), h("div", [_curve(metrics, n) for n in g], class_="charts")) for t, g in groups.items() if g]
    return section("Curves", *parts, intro=intro)


_TITLES = {
    "loss": "loss",
    "lr": "learning rate",
    "knn": "online k-NN",
    "feature_std": "feature std",
    "effective_rank": "effective rank",
    "samples_per_s": "samples per second",
    "wait": "waiting for data",
}


def _curve(metrics: list[Row], name: str) -> Markup:
    options: dict[str, Any] = {}
    if name.startswith("feature_std"):
        options = {"guide": (1.0, "1 = healthy"), "danger": COLLAPSED, "zero": True}
    elif name.startswith("knn") and np.nanmax(series(metrics, name)[1], initial=0) > 1:
        options = {"show": lambda percent: f"{percent:.3g} %"}
    elif name == "wait":
        options = {"zero": True, "show": lambda share: f"{100 * share:.3g} %"}
    elif name in ("lr", "samples_per_s") or name.startswith("effective_rank"):
        options = {"zero": True}
    options["span"] = metrics[0]["x"], metrics[-1]["x"]
    options["stages"] = [b["x"] for a, b in pairwise(metrics) if a.get("stage") != b.get("stage")]
    return line_chart(_TITLES.get(name, name.replace("_", " ")), *series(metrics, name), **options)


def _galleries(galleries: Sequence[Gallery]) -> Markup:
    parts: list[Markup | None] = []
    for gallery in galleries:
        parts.append(h("h3", gallery.title))
        parts.append(h("p", gallery.caption, class_="intro") if gallery.caption else None)
        for label, images in gallery.rows:
            pictures = [
                h("img", src=data_uri(thumbnail(one, 256)), alt=f"{gallery.title}: {label}, sample {k + 1}",
                  class_="pixelated" if max(one.shape[:2]) <= 64 else None)
                for k, one in enumerate(images)
            ]  # fmt: skip
            parts.append(
                h("div", h("div", label, class_="name"), h("div", pictures, class_="pictures wide"), class_="strip")
            )
    return section("Pictures", *parts)


def _settings(settings: Row) -> Markup:
    if not settings:
        return section("Settings", h("p", "There is no run.json that could be read.", class_="missing"))
    command = settings.get("command")
    shown = " ".join(map(str, command)) if isinstance(command, list) else command
    run = {k: v for k, v in settings.items() if k not in ("fields", "versions", "command", "git", "info")}
    versions, fields = (settings.get(k) or {} for k in ("versions", "fields"))
    tables = {
        "Method": _flat(fields),
        "Run": _flat(run),
        "Versions": _flat(versions) | _flat({"git": settings.get("git")}),
    }
    return section(
        "Settings",
        join(h("h3", "To repeat this run"), h("pre", h("code", shown))) if shown else None,
        h("div", [h("div", h("h3", t), _table(rows)) for t, rows in tables.items() if rows], class_="columns"),
    )


def _table(rows: Row) -> Markup:
    body = [h("tr", h("th", k, scope="row"), h("td", _plain(v))) for k, v in rows.items()]
    return h("table", h("tbody", *body), class_="settings")


def _flat(value: Any, prefix: str = "") -> Row:
    """Nested settings as dotted names."""
    if not isinstance(value, dict):
        return {prefix.rstrip(".") or "value": value}
    out: Row = {}
    for key, item in value.items():
        if isinstance(item, dict) and item:
            out |= _flat(item, f"{prefix}{key}.")
        elif item is not None and item != {}:
            out[f"{prefix}{key}"] = item
    return out


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    return str(value)


def _called(value: Any) -> str:
    """The name of a setting that is a name or has one, or the names of several."""
    if isinstance(value, dict) and all(isinstance(each, dict) for each in value.values()):
        named = {k: _called(each) for k, each in value.items()}
        return next(iter(named.values())) if len(named) == 1 else ", ".join(f"{k} {v}" for k, v in named.items())
    return str(value["name"]) if isinstance(value, dict) and "name" in value else _plain(value)


def _moment(value: Any) -> str | None:
    """A time stamp, in seconds or ISO 8601, to the minute."""
    when = _time(value)
    return when.strftime("%Y-%m-%d %H:%M %Z").strip() if when else (str(value) if value else None)


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(value) if isinstance(value, int | float) else datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None


def _machine(value: Any) -> str | None:
    """The accelerator where there is one."""
    if not isinstance(value, dict):
        return str(value) if value else None
    return _plain(value.get("gpu") or {k: v for k, v in value.items() if v is not None})


def _duration(record: Record) -> str | None:
    """From "started" to "finished", else the seconds of the last log line."""
    start, stop = _time(record.settings.get("started")), _time(record.settings.get("finished"))
    _, seconds = series(record.metrics, "seconds")
    minutes = seconds[-1] / 60 if len(seconds) and np.isfinite(seconds[-1]) else None
    if start and stop and (start.tzinfo is None) == (stop.tzinfo is None):
        minutes = (stop - start).total_seconds() / 60
    if minutes is None:
        return None
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.3g} min" if minutes < 90 else f"{int(minutes // 60)} h {round(minutes % 60):02d} min"
