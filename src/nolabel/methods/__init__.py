"""One file per paper, in one folder per family. The folder listing is the catalogue: no registry, no torch needed."""

import ast
import importlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nolabel.core import Method

_HERE = Path(__file__).parent
MODALITIES = ("image", "video", "audio", "points", "text")


@dataclass(frozen=True)
class Entry:
    """What the header of a method file says."""

    name: str
    family: str
    title: str
    """the first line: what the method does"""
    citation: str
    arxiv: str
    modalities: tuple[str, ...]
    """what `build` takes; "any" for methods that run on the tokens of every modality"""


def names() -> list[str]:
    """All methods by name, which is the name of the file."""
    return sorted(_files())


def load(name: str) -> "type[Method]":
    """The method class of a file: the only class in it that is a `Method`."""
    from nolabel.core import Method, UserError
    from nolabel.core.fields import nearest

    files = _files()
    if name not in files:
        raise UserError(f"unknown method '{name}'{nearest(name, files)} ('nolabel methods' lists them all)")
    module = importlib.import_module(f"nolabel.methods.{files[name].parent.name}.{name}")
    found = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Method) and v is not Method]
    if len(found) != 1:
        raise TypeError(f"{module.__file__} must hold exactly one Method, it has {len(found)}")
    return found[0]


def name_of(method: "Method | type[Method]") -> str:
    """The name of a method: that of its file."""
    kind = method if isinstance(method, type) else type(method)
    return kind.__module__.rpartition(".")[2]


def describe(name: str) -> Entry:
    """Read a method's header without importing it."""
    path = _files()[name]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    header = ast.get_docstring(tree) or ""
    title, _, rest = header.partition("\n")
    citation = " ".join(rest.strip().split("\n\n")[0].split())
    arxiv = re.search(r"arXiv:(\d{4}\.\d{4,5})", citation)
    builds = [
        f for c in tree.body if isinstance(c, ast.ClassDef)
        for f in c.body if isinstance(f, ast.FunctionDef) and f.name == "build"
    ]  # fmt: skip
    takes = [a.arg for f in builds for a in f.args.args[2:]]
    return Entry(
        name,
        path.parent.name,
        title,
        citation,
        arxiv[1] if arxiv else "",
        tuple(t if t in MODALITIES else "any" for t in takes),
    )


@cache
def _files() -> dict[str, Path]:
    return {p.stem: p for p in _HERE.glob("*/*.py") if not p.stem.startswith("_")}
