"""Several runs on one page: for every protocol a table, best first, with the spread over seeds and the baselines."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from nolabel.report.charts import results_table
from nolabel.report.markup import Markup, document, h, join, section, write_atomically
from nolabel.report.record import Row, Score, scores

_TASK = ("protocol", "data", "split", "metric")


def write_comparison(
    rows: Iterable[Row], path: Path, title: str, table: Sequence[Sequence[str]] = (), notes: Sequence[str] = ()
) -> Path:
    """Write a page from rows of results.json that also name their "method" and, where it matters, their "encoder".

    Rows that agree in method, encoder, protocol, data, split and metric are seeds of one score. A row may carry
    "report", the path of its run's report relative to this page, and the method then links to it. `table` holds cells
    that stand above the scores, the first row as head; `notes` say below it how they were measured.
    """
    rows = list(rows)
    links = {str(r.get("method") or ""): str(r["report"]) for r in rows if r.get("report")}
    tasks: dict[tuple[str, ...], list[Score]] = {}
    for item in scores(rows, by=(*_TASK, "method", "encoder")):
        tasks.setdefault(item.key[:4], []).append(item)
    found = {_title(task, tasks): _task(task, _title(task, tasks), items, links) for task, items in tasks.items()}
    sections = {"Overview": _overview(table, notes)} if table else {}
    sections |= found
    if not found:
        sections |= {"Results": section("Results", h("p", "There are no results to compare.", class_="missing"))}
    methods, seeds = (len({r.get(k) for r in rows}) for k in ("method", "seed"))
    lead = f"{methods} {'method' if methods == 1 else 'methods'}, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    head = join(
        h("p", "nolabel · comparison", class_="kicker"),
        h("h1", title),
        h("p", lead, class_="lead") if rows else None,
    )
    return write_atomically(Path(path), document(title, head, sections))


def _overview(table: Sequence[Sequence[str]], notes: Sequence[str]) -> Markup:
    head = [h("th", name, scope="col", class_="n" if i else None) for i, name in enumerate(table[0])]
    body = [
        h(
            "tr",
            h("th", cells[0], scope="row"),
            [h("td", c, class_="n", data_label=n) for c, n in zip(cells[1:], table[0][1:])],
        )
        for cells in table[1:]
    ]
    lines = h("table", h("thead", h("tr", head)), h("tbody", body), class_="results")
    return section("Overview", lines, *(h("p", note, class_="intro") for note in notes))


def _title(task: tuple[str, ...], tasks: Iterable[tuple[str, ...]]) -> str:
    """Protocol and data; split and metric too where two tables would have the same name."""
    alike = sum(other[:2] == task[:2] for other in tasks)
    return " · ".join(part for part in (task if alike > 1 else task[:2]) if part) or "Results"


def _task(task: tuple[str, ...], title: str, items: list[Score], links: dict[str, str]) -> Markup:
    items = sorted(items, key=lambda s: -s.sign * s.mean)
    several = len({s.key[5] for s in items}) > 1
    lines = []
    for item in items:
        name, encoder = item.key[4] or "unnamed", item.key[5]
        shown = h("a", name, href=links[name]) if name in links else name
        below = [encoder] * several + [f"{len(item.values)} seeds"] * (len(item.values) > 1)
        sub = h("span", " · ".join(below), class_="sub") if below else None
        lines.append(((join(shown, sub),), item))
    better = "more is better" if items[0].sign > 0 else "less is better"
    what = " · ".join(part for part in (task[3], task[2], better) if part)
    return section(title, results_table(("method",), lines), intro=what)
