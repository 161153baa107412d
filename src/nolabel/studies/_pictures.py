"""Pictures of studies as SVG: a heat map of pairs, lines over a number, bars of a ladder."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nolabel.studies._findings import Table

COLOURS = ("#4269d0", "#ff725c", "#3ca951", "#a463f2")
GREY = "#8f95a3"


@dataclass(frozen=True)
class Picture:
    """Something drawn on axes of a size in inches."""

    size: tuple[float, float]
    draw: Callable[[Any], None]

    def write(self, path: Path) -> None:
        """To a file of the kind that its ending says; the same bytes for the same numbers."""
        import matplotlib as mpl
        from matplotlib.figure import Figure

        from nolabel.engine.checkpoint import write_atomic

        style: Any = {"svg.hashsalt": "nolabel", "axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
        with mpl.rc_context(style):
            figure = Figure(figsize=self.size, layout="constrained")
            self.draw(figure.subplots())
            kind = path.suffix[1:]
            dated: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {}
            write_atomic(path, lambda file: figure.savefig(file, format=kind, dpi=110, bbox_inches="tight", **dated))


def heat_map(table: Table, names: Sequence[str], pair: Callable[[str, str], str], axis: str) -> Picture:
    """A square of all pairs, one alone on the diagonal, and the mean of each row; empty where nothing is measured."""

    def draw(axes: Any) -> None:
        import numpy as np

        found = np.full((len(names), len(names)), np.nan)
        for i, first in enumerate(names):
            for j, second in enumerate(names):
                if cell := table.get(pair(first, second)):
                    found[i, j] = cell.mean
        known = ~np.isnan(found)
        means = [found[i, known[i]].mean() if known[i].any() else math.nan for i in range(len(names))]
        shown = np.concatenate((found, np.array(means)[:, None]), 1)
        image = axes.imshow(shown, cmap="viridis")
        middle = sum(image.get_clim()) / 2 if known.any() else 0.0
        for (i, j), value in np.ndenumerate(shown):
            if not math.isnan(value):
                colour = "white" if value < middle else "black"
                axes.text(j, i, f"{value:.1f}", ha="center", va="center", color=colour)
        axes.axvline(len(names) - 0.5, color="white", linewidth=4)
        axes.set_xticks(range(len(names) + 1), [*names, "mean"])
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.figure.colorbar(image, ax=axes, label=axis).outline.set_visible(False)

    return Picture((1.6 + 0.8 * (len(names) + 1), 0.8 + 0.72 * len(names)), draw)


def lines(
    table: Table,
    series: Mapping[str, Sequence[tuple[float | str, str]]],
    axis: str,
    below: str,
) -> Picture:
    """A line for each of `series`, from (place, variant) pairs; places are numbers, on a scale of doublings, or names."""

    def draw(axes: Any) -> None:
        places = list(dict.fromkeys(x for line in series.values() for x, _ in line))
        named = any(isinstance(x, str) for x in places)
        for (label, line), colour in zip(series.items(), COLOURS):
            there = [(places.index(x) if named else x, table[name]) for x, name in line if name in table]
            x, cells = [x for x, _ in there], [cell for _, cell in there]
            spread = [cell.std or 0.0 for cell in cells]
            axes.errorbar(x, [c.mean for c in cells], spread, label=label, color=colour, marker="o", capsize=3)
            fresh = [c.random_init for c in cells]
            if fresh and None not in fresh:
                axes.plot(x, fresh, color=colour, linewidth=1, linestyle=":")
        axes.plot([], [], color=GREY, linewidth=1, linestyle=":", label="random init")
        if named:
            axes.set_xticks(range(len(places)), places)
            axes.set_xlim(-0.3, len(places) - 0.7)
        else:
            axes.set_xscale("log", base=2)
            axes.set_xticks(places, [f"{x:,}" for x in places])
            axes.minorticks_off()
        axes.set_xlabel(below)
        axes.set_ylabel(axis)
        axes.grid(axis="y", color=GREY, alpha=0.25)
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(series) + 1)

    return Picture((5.6, 3.6), draw)


def bars(table: Table, names: Sequence[str], paper: Mapping[str, float], axis: str) -> Picture:
    """A bar from random init to what it reached for each variant, top to bottom; whiskers of one std, and the paper's."""

    def draw(axes: Any) -> None:
        there = [(i, table[name]) for i, name in enumerate(names) if name in table]
        cells, fresh = [cell for _, cell in there], [cell.random_init or 0.0 for _, cell in there]
        gain = [cell.mean - x for cell, x in zip(cells, fresh)]
        whiskers = {"xerr": [cell.std or 0.0 for cell in cells], "error_kw": {"ecolor": "black", "capsize": 3}}
        axes.barh([i for i, _ in there], gain, 0.68, left=fresh, color=COLOURS[0], **whiskers)
        for i, name in enumerate(names):
            words = (f"{table[name].mean:.1f}  " if name in table else "") + (
                f"paper {paper[name]:.1f}" if name in paper else ""
            )
            axes.text(1.02, i, words, va="center", transform=axes.get_yaxis_transform(), color="black")
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"{axis}; bars begin at random init")

    return Picture((6.4, 1.2 + 0.34 * len(names)), draw)


def margins(
    groups: Mapping[str, Mapping[str, tuple[float, float | None, float | None, float | None]]], axis: str
) -> Picture:
    """A line for each name, under the heading of its group: a ring at random init, a tick at the raw input, a dot with
    whiskers at what was reached; (mean, std, random init, raw input), the line red where it leads down.
    """
    lines = [(name, row) for group, rows in groups.items() for name, row in [(group, None), *rows.items()]]

    def draw(axes: Any) -> None:
        for i, (_, row) in enumerate(lines):
            if row is None:
                continue
            mean, std, fresh, raw = row
            if fresh is not None:
                axes.plot(
                    [fresh, mean], [i, i], color=COLOURS[0] if mean > fresh else COLOURS[1], linewidth=2, zorder=1
                )
                axes.plot(fresh, i, "o", markersize=4.5, markerfacecolor="white", markeredgecolor=GREY)
            if raw is not None:
                axes.plot(raw, i, "|", color=GREY, markersize=8)
            axes.errorbar(mean, i, xerr=std or None, fmt="o", color=COLOURS[0], markersize=4.5, capsize=2)
        axes.set_yticks(range(len(lines)), [name for name, _ in lines])
        for tick, (_, row) in zip(axes.get_yticklabels(), lines):
            tick.set_fontweight("normal" if row else "bold")
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_xlim(0, 100)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"{axis}; rings: random init, ticks: raw input")

    return Picture((6.4, 0.8 + 0.19 * len(lines)), draw)
