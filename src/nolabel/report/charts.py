"""Charts as inline SVG and HTML: crisp at any size, coloured by the theme of the reader."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nolabel.report.markup import Markup, h, join, number, score
from nolabel.report.record import Score

WIDTH, HEIGHT = 340, 180
LEFT, RIGHT, TOP, BOTTOM = 44, 336, 8, 158
RAW_POINTS, READOUT_POINTS, SPARSE = 600, 160, 40

PALETTE = ("#4269d0", "#e0a100", "#ff725c", "#3ca951", "#a463f2", "#5ab8c4", "#f26fa5", "#9c6b4e", "#7fb82e", "#8f95a3",
           "#2a8c82", "#c2562d")  # fmt: skip
"""Colours of classes: they differ in lightness as well as hue and stand on white and on black"""


def line_chart(
    title: str,
    x: np.ndarray,
    y: np.ndarray,
    *,
    guide: tuple[float, str] | None = None,
    danger: float | None = None,
    zero: bool = False,
    show: Callable[[float], str] = number,
    span: tuple[float, float] | None = None,
    stages: Sequence[float] = (),
) -> Markup:
    """A smoothed line over the faint raw one; points that are not finite are red ticks on the axis.

    x, y (n,), on an axis over `span`. `guide` is a dashed line with a name, `danger` shades everything below a value,
    `zero` starts the axis at 0.
    """
    finite = np.isfinite(y)
    if not finite.any():
        return h("figure", h("figcaption", h("b", title), " was never finite."), class_="chart")
    dense = int(finite.sum()) > SPARSE
    smooth = smoothed(y) if dense else y
    ticks = _ticks(*_range(y, smooth, zero, guide))
    low, high = ticks[0], ticks[-1]
    first, last = span or (float(x.min()), float(x.max()))
    px = LEFT + (RIGHT - LEFT) * ((x - first) / (last - first) if last > first else np.full(len(x), 0.5))
    py, ps = (BOTTOM - (BOTTOM - TOP) * np.clip((v - low) / (high - low), 0, 1) for v in (y, smooth))

    def height(value: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low), 1)

    parts = [_axes(ticks, show, height, first, last)]
    if danger is not None and danger > low:
        y0 = height(danger)
        parts.append(h("rect", class_="danger", x=LEFT, y=y0, width=RIGHT - LEFT, height=round(BOTTOM - y0, 1)))
    if guide is not None:
        parts.append(_rule(height(guide[0]), "guide"))
        parts.append(h("text", guide[1], x=RIGHT, y=height(guide[0]) - 4, text_anchor="end"))
    for stage in stages:
        at = round(LEFT + (RIGHT - LEFT) * (stage - first) / max(last - first, 1e-9), 1)
        parts.append(h("line", class_="stage", x1=at, x2=at, y1=TOP, y2=BOTTOM))
    if dense:
        keep = _extremes(y, RAW_POINTS)
        parts.append(h("path", class_="raw-line", d=_path(px[keep], py[keep])))
    else:
        parts.append(h("path", class_="dots", d=_dots(px[finite], py[finite])))
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), RAW_POINTS)).astype(int))
    parts.append(h("path", class_="line", d=_path(px[keep], ps[keep])))
    peak = int(np.where(finite, y, -np.inf).argmax())
    if y[peak] > high:
        anchor = "end" if px[peak] > (LEFT + RIGHT) / 2 else "start"
        parts.append(h("text", f"peak {show(float(y[peak]))}", x=round(px[peak], 1), y=TOP - 2, text_anchor=anchor))
    if not finite.all():
        parts.append(h("path", class_="broken", d="".join(f"M{v:.1f} {BOTTOM}v-8" for v in px[~finite][:400])))
    cursor = h("g", h("line", y1=TOP, y2=BOTTOM), h("circle", r=3.5), class_="cursor")
    keep = np.flatnonzero(np.isfinite(smooth))
    keep = keep[np.unique(np.linspace(0, len(keep) - 1, min(len(keep), READOUT_POINTS)).astype(int))]
    points = [[round(px[i], 1), round(ps[i], 1), f"step {x[i]:,.0f}: {show(float(smooth[i]))}"] for i in keep.tolist()]
    values = y[finite]
    spoken = f"{title}: {len(y):,} points from {show(float(values[0]))} to {show(float(values[-1]))}, " + (
        f"lowest {show(float(values.min()))}, highest {show(float(values.max()))}"
    )
    return h(
        "figure",
        h("figcaption", h("b", title), h("output", show(float(smooth[keep[-1]])))),
        h("svg", *parts, cursor, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=spoken),
        class_="chart",
        data_points=json.dumps(points, separators=(",", ":")),
    )


def smoothed(y: np.ndarray) -> np.ndarray:
    """A Gaussian moving average over 1/60 of the curve that skips what is not finite: no lag, unlike an EMA.

    Medians of five come first, so that one spike does not become a hill. A schedule is smooth already and stays as is.
    """
    known = np.isfinite(y)
    place = np.arange(len(y))
    y = np.interp(place, place[known], y[known])
    if np.median(np.abs(np.diff(y, 2))) <= 1e-3 * np.ptp(y):
        return np.where(known, y, np.nan)
    y = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(y, 2, "edge"), 5), axis=1)
    sigma = max(1.0, len(y) / 60)
    reach = math.ceil(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    total, weight = (
        np.convolve(np.pad(v, reach), kernel, "valid") for v in (np.where(known, y, 0), known.astype(float))
    )
    return np.where(weight > 1e-6, total / np.maximum(weight, 1e-12), np.nan)


def _range(y: np.ndarray, smooth: np.ndarray, zero: bool, guide: tuple[float, str] | None) -> tuple[float, float]:
    """The span of the smooth line and of all but the wildest raw points, so that one spike does not flatten a curve."""
    known = np.concatenate((np.nanquantile(np.where(np.isfinite(y), y, np.nan), (0.005, 0.995)), smooth))
    known = known[np.isfinite(known)]
    low, high = float(known.min()), float(known.max())
    if guide is not None:
        low, high = min(low, guide[0]), max(high, guide[0])
    low = min(low, 0.0) if zero else low
    if high - low < 1e-6 * max(abs(high), 1e-12):
        low, high = low - (0.5 * abs(low) or 0.5), high + (0.5 * abs(high) or 0.5)
    return low, high


def _ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that enclose the range."""
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough * 0.999)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(start, stop + 1)]


def _axes(
    ticks: list[float], show: Callable[[float], str], height: Callable[[float], float], first: float, last: float
) -> Markup:
    rows = [
        join(_rule(height(t), "rule"), h("text", show(t), x=LEFT - 6, y=height(t) + 4, text_anchor="end"))
        for t in ticks
    ]
    steps = (
        h("text", f"step {first:,.0f}", x=LEFT, y=HEIGHT - 4),
        h("text", f"{last:,.0f}" if last > first else "", x=RIGHT, y=HEIGHT - 4, text_anchor="end"),
    )
    return join(rows, *steps)


def _rule(y: float, kind: str) -> Markup:
    return h("line", class_=kind, x1=LEFT, x2=RIGHT, y1=y, y2=y)


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """An SVG path that is interrupted where y is not finite."""
    out, pen = [], "M"
    for a, b in zip(x.tolist(), y.tolist()):
        if math.isfinite(b):
            out.append(f"{pen}{a:.1f} {b:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(out)


def _dots(x: Iterable[float], y: Iterable[float]) -> str:
    """Points as strokes without length: ten bytes each, and round caps make them circles."""
    return "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x, y))


def _extremes(y: np.ndarray, points: int) -> np.ndarray:
    """Indices of the lowest and highest value of each of points / 2 stretches: thins a curve but keeps its spikes."""
    if len(y) <= points:
        return np.arange(len(y))
    picked = []
    for part in np.array_split(np.arange(len(y)), points // 2):
        known = part[np.isfinite(y[part])]
        picked += [known[y[known].argmin()], known[y[known].argmax()]] if len(known) else [part[0]]
    return np.unique(picked)


def bar(item: Score, full: float) -> Markup:
    """A horizontal bar of a score on a scale from 0 to `full`, whiskers of one std, marks at the two baselines."""

    def at(value: float) -> str:
        return f"{100 * min(max(value / full, 0.0), 1.0):.2f}%" if math.isfinite(value) else "0%"

    std = item.std
    marks = [h("i", class_="fill", style=f"width:{at(item.mean)}")]
    if std is not None and math.isfinite(std):
        span = f"left:{at(item.mean - std)};right:{100 - float(at(item.mean + std)[:-1]):.2f}%"
        marks.append(h("i", class_="whisker", style=span))
    for kind, value in (("init", item.random_init), ("raw", item.raw_input)):
        if value is not None:
            marks.append(h("i", class_=kind, style=f"left:{at(value)}"))
    return h("div", *marks, class_="bar", aria_hidden="true")


def results_table(head: Sequence[str], rows: Sequence[tuple[Sequence[object], Score]]) -> Markup:
    """A table of scores beside their baselines, each with its bar. `head` names the columns before the numbers."""
    full: dict[str, float] = {}
    for _, item in rows:
        known = [v for v in (*item.values, item.random_init, item.raw_input) if v is not None and math.isfinite(v)]
        high = max(known, default=1.0)
        whole = 1.0 if high <= 1 else 100.0 if item.sign > 0 and high <= 100 else high  # a share, percent, anything
        full[item.metric] = max(full.get(item.metric, 0.0), whole, 1e-12)
    numbers = ("value", "random init", "raw input")
    header = [h("th", c, scope="col") for c in head] + [h("th", c, scope="col", class_="n") for c in numbers]
    body = []
    for cells, item in rows:
        spread = h("span", f" ± {score(item.std)}", class_="spread") if item.std is not None else None
        line = [h("th", cells[0], scope="row"), *(h("td", c, data_label=n) for n, c in zip(head[1:], cells[1:]))]
        line.append(h("td", score(item.mean), spread, class_="n value", data_label=numbers[0]))
        for label, value in zip(numbers[1:], (item.random_init, item.raw_input)):
            kind = "n" if item.beats(value) else "n worse"
            line.append(h("td", score(value), class_=kind, data_label=label))
        body.append(h("tr", *line, h("td", bar(item, full[item.metric]) if item.sign else None, class_="bars")))
    key = [
        h("span", h("i", class_="fill"), "trained"),
        h("span", h("i", class_="init"), "same encoder, untrained"),
        h("span", h("i", class_="raw"), "raw input, no encoder"),
        h("span", h("b", "red", class_="worse"), "not beaten by training"),
    ]
    return join(
        h("table", h("thead", h("tr", *header, h("td"))), h("tbody", *body), class_="results"),
        h("p", *key, class_="key", aria_hidden="true"),
    )


@dataclass(frozen=True)
class Group:
    """Points of a scatter plot that belong together: their name, their rows, and a colour or grey."""

    name: str
    rows: np.ndarray
    colour: str | None


def scatter(xy: np.ndarray, groups: list[Group], alt: str) -> Markup:
    """Points xy (n, 2) in [0, 1], coloured by group, the name of a group at the median of its points."""
    wide, tall, margin = 720, 480, 16
    px = margin + (wide - 2 * margin) * xy[:, 0]
    py = margin + (tall - 2 * margin) * xy[:, 1]
    paths, labels, legend = [], [], []
    taken: list[tuple[float, float]] = []
    for group in groups:
        stroke, fill = (f"{p}:{group.colour}" if group.colour else None for p in ("stroke", "background"))
        d = _dots(px[group.rows], py[group.rows])
        kind = None if group.colour else "other"
        paths.append(h("path", d=d, style=stroke, class_=kind, vector_effect="non-scaling-stroke"))
        count = h("small", f"{len(group.rows):,}")
        legend.append(h("li", h("i", style=fill), h("span", group.name), count, tabindex=0))
        x, y = float(np.median(px[group.rows])), float(np.median(py[group.rows]))
        if group.colour and all(abs(x - a) > 60 or abs(y - b) > 16 for a, b in taken):
            taken.append((x, y))
            place = f"left:{100 * x / wide:.1f}%;top:{100 * y / tall:.1f}%"
            labels.append(h("span", group.name, style=place, aria_hidden="true"))
    drawing = h("svg", *paths, viewBox=f"0 0 {wide} {tall}", role="img", aria_label=alt)
    if len(groups) == 1:
        return h("div", h("div", drawing, class_="plot"), class_="scatter alone")
    return h("div", h("div", drawing, *labels, class_="plot"), h("ul", *legend, class_="legend"), class_="scatter")
