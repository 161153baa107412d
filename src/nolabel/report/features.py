"""What the features know, as sections of the report: a map of them and the neighbours of some samples."""

import numpy as np

from nolabel.report import embedding
from nolabel.report.charts import PALETTE, Group, scatter
from nolabel.report.markup import Markup, h, join, section
from nolabel.report.pictures import Pixels, data_uri, thumbnail, thumbnail_map

MAP_BYTES = 500_000
"""limit of the thumbnail map, so that a report stays small enough for an e-mail"""


def map_section(
    images: Pixels | None, features: np.ndarray | None, labels: np.ndarray | None, classes: tuple[str, ...]
) -> Markup:
    """The features in the plane, as points coloured by class and as thumbnails."""
    usable = _usable(features)
    if features is None or len(usable) < 3:
        return section("Embedding", h("p", _why_not(features, usable, "map"), class_="missing"))
    rows = embedding.draw(usable, embedding.MAP_POINTS)
    xy, method = embedding.project(embedding.unit_rows(features[rows]))
    if method == "one point":
        return section("Embedding", h("p", "All features are the same: the encoder has collapsed.", class_="missing"))
    intro = f"{len(rows):,} samples, placed by {method} of their features: near means alike, the axes mean nothing."
    groups = _groups(None if labels is None else labels[rows], len(rows), classes)
    parts = [scatter(xy, groups, f"{method} map of {len(rows):,} features, {len(groups)} groups")]
    if labels is None:
        parts.append(h("p", "There are no labels to colour the points by.", class_="missing"))
    if images is not None:
        colours: list[str | None] = [None] * len(rows)
        for group in groups if labels is not None else []:
            for i in group.rows.tolist():
                colours[i] = group.colour
        sheet, count = thumbnail_map(images[rows], xy, colours)
        alt = f"{count:,} thumbnails at the places of their features on the {method} map"
        note = "Frames have the colour of the class. " if labels is not None else ""
        caption = f"{note}{count:,} of {len(rows):,} fit without covering each other."
        picture = h("img", src=data_uri(sheet, MAP_BYTES), alt=alt, class_="map", loading="lazy")
        parts.append(h("figure", h("div", picture, class_="scroll"), h("figcaption", caption)))
    return section("Embedding", *parts, intro=intro)


def neighbour_section(
    images: Pixels | None, features: np.ndarray | None, labels: np.ndarray | None, classes: tuple[str, ...]
) -> Markup:
    """Eight samples, each with its eight nearest by cosine."""
    usable = _usable(features)
    if features is None or len(usable) < 2:
        return section("Neighbours", h("p", _why_not(features, usable, "list neighbours"), class_="missing"))
    if images is None:
        return section("Neighbours", h("p", "Without pictures there is nothing to show here.", class_="missing"))
    unit = embedding.unit_rows(features[usable])
    known = None if labels is None else labels[usable]
    queries = embedding.spread_queries(unit, known)
    origin = "classes" if known is not None and len(np.unique(known[known >= 0])) > 1 else "clusters"
    intro = f"Samples drawn at random, spread over {origin}, and their nearest by cosine, best first."
    key = None
    if known is not None and (known >= 0).any() and len(unit) > 1:
        count = min(int((known >= 0).sum()), embedding.QUERIES)
        share = embedding.neighbour_agreement(unit, known)
        intro += f" Over {count:,} such queries, {share:.1%} of the neighbours have the label of the query."
        key = h(
            "p",
            h("span", h("i", class_="swatch same"), "same label"),
            h("span", h("i", class_="swatch different"), "another label"),
            class_="key",
        )
    strips = []
    for query, near in zip(queries, embedding.nearest(unit, queries)):
        name = _name(known, query, classes)
        first = _image(images[usable[query]], f"Query: {name or 'sample'}", "query plain")
        others = []
        for rank, i in enumerate(near.tolist(), 1):
            kind, other = "plain", _name(known, i, classes)
            if known is not None and known[query] >= 0 and known[i] >= 0:
                kind = "same" if known[query] == known[i] else "different"
            others.append(_image(images[usable[i]], f"Neighbour {rank}: {other or 'sample'}", kind))
        label = h("div", name, class_="name") if name else None
        strips.append(h("div", label, first, h("div", others, class_="pictures"), class_="strip near"))
    return section("Neighbours", key, *strips, intro=intro)


def _image(image: Pixels, alt: str, kind: str) -> Markup:
    soft = "" if max(image.shape[:2]) > 64 else " pixelated"
    return h("img", src=data_uri(thumbnail(image, 128)), alt=alt, title=alt, class_=kind + soft)


def _usable(features: np.ndarray | None) -> np.ndarray:
    """Rows whose features are finite."""
    if features is None or not len(features):
        return np.empty(0, int)
    return np.flatnonzero(np.isfinite(features.reshape(len(features), -1)).all(1))


def _why_not(features: np.ndarray | None, usable: np.ndarray, what: str) -> Markup:
    if features is None:
        return join("No features were handed to the report.")
    if len(usable) < len(features):
        return join(f"Only {len(usable):,} of {len(features):,} features are finite: too few to {what}.")
    return join(f"{len(features):,} features are too few to {what}.")


def _groups(labels: np.ndarray | None, count: int, classes: tuple[str, ...]) -> list[Group]:
    """Name, rows and colour of each class; the smaller classes beyond the palette and unlabelled rows are grey."""
    if labels is None:
        return [Group("samples", np.arange(count), PALETTE[0])]
    present, sizes = np.unique(labels[labels >= 0], return_counts=True)
    coloured = sorted(present[np.argsort(-sizes, kind="stable")[: len(PALETTE)]].tolist())
    groups = [Group(_class(c, classes), np.flatnonzero(labels == c), PALETTE[k]) for k, c in enumerate(coloured)]
    rest = np.flatnonzero((labels >= 0) & ~np.isin(labels, coloured))
    unknown = np.flatnonzero(labels < 0)
    if len(rest):
        groups.append(Group(f"{len(present) - len(coloured)} other classes", rest, None))
    if len(unknown):
        groups.append(Group("no label", unknown, None))
    return groups


def _name(labels: np.ndarray | None, row: int, classes: tuple[str, ...]) -> str:
    return "" if labels is None else _class(int(labels[row]), classes)


def _class(label: int, classes: tuple[str, ...]) -> str:
    if label < 0:
        return "no label"
    return classes[label] if label < len(classes) else f"class {label}"
