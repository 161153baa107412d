"""HTML that is escaped unless it was made here, the shell of a page, and numbers as people read them."""

import base64
import hashlib
import html
import math
import os
from pathlib import Path
from typing import Any

from nolabel.report.style import CSS, SCRIPT

_VOID = {"img", "meta", "br"}


class Markup(str):
    """Text that is HTML already. Every other string is data and gets escaped."""

    __slots__ = ()


def escape(value: Any) -> Markup:
    """Any value as HTML text."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def h(tag: str, *children: Any, **attributes: Any) -> Markup:
    """One element. Lists of children are flattened; `class_` and `aria_label` become `class` and `aria-label`."""
    names = {k: k.rstrip("_").replace("_", "-") for k in attributes}
    given = "".join(f' {names[k]}="{html.escape(str(v))}"' for k, v in attributes.items() if v is not None)
    return Markup(f"<{tag}{given}>" if tag in _VOID else f"<{tag}{given}>{join(*children)}</{tag}>")


def join(*children: Any) -> Markup:
    """Children one after the other; None is nothing."""
    flat = (join(*c) if isinstance(c, list | tuple) else escape(c) for c in children if c is not None)
    return Markup("".join(flat))


def section(title: str, *children: Any, intro: Any = None) -> Markup:
    """A titled part of the page that the navigation can jump to."""
    lead = h("p", intro, class_="intro") if intro else None
    return h("section", h("h2", title), lead, *children, id=anchor(title))


def anchor(title: str) -> str:
    """The id of the section with this title."""
    return "".join(c if c.isalnum() else "-" for c in title.lower()).strip("-")


def document(title: str, head: Any, sections: dict[str, Markup]) -> Markup:
    """A whole page. `sections` are title to section; the browser is forbidden to load or run anything else."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    links = [h("a", name, href=f"#{anchor(name)}") for name in sections]
    return join(
        Markup("<!doctype html>\n"),
        h(
            "html",
            h(
                "head",
                h("meta", charset="utf-8"),
                h("meta", http_equiv="Content-Security-Policy", content=policy),
                h("meta", name="viewport", content="width=device-width, initial-scale=1"),
                h("meta", name="color-scheme", content="light dark"),
                h("title", title),
                h("style", Markup(CSS)),
            ),
            h(
                "body",
                h("header", head, h("nav", links, aria_label="Sections") if len(links) > 1 else None),
                h("main", *[join("\n", s) for s in sections.values()]),
                h("footer", "Written by nolabel. The page loads nothing from the network."),
                h("script", Markup(SCRIPT)),
            ),
            lang="en",
        ),
    )


def write_atomically(path: Path, text: str) -> Path:
    """Write under a temporary name, then rename: a reader sees the old page or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", errors="replace")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def number(value: float) -> str:
    """Four significant digits, thousands grouped."""
    if not math.isfinite(value):
        return "not finite"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def score(value: float | None) -> str:
    """A result with fixed decimals, so that a column of them lines up; a dash where there is none."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
