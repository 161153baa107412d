"""One file per paper, in one folder per family. The folder listing is the catalogue: no registry, no torch needed."""

import ast
import importlib
import re
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nolabel.core import Method, Preset

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
    """the family where that is one; else what `build` takes, "any" for methods on the tokens of every modality"""


def names() -> list[str]:
    """All methods by name, which is the name of the file."""
    return sorted(_files())


def load(name: str) -> "type[Method]":
    """The method class of a file: the only class in it that is a `Method`. Raises UserError for an unknown name."""
    family = _path(name).parent.name  # before torch is imported
    from nolabel.core import Method, Preset

    module = importlib.import_module(f"nolabel.methods.{family}.{name}")
    for value in vars(module).values():
        if isinstance(value, Preset):
            return _with_defaults(value, module.__name__)
    found = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Method) and v is not Method]
    if len(found) != 1:
        raise TypeError(f"{module.__file__} must hold exactly one Method, it has {len(found)}")
    return found[0]


def _with_defaults(preset: "Preset", module: str) -> "type[Method]":
    """The method of a preset: the same class with other defaults, which belongs to the file of the preset."""
    if module not in _presets:
        kind = load(preset.of)
        hints = {k: type(v) if k == "views" else kind.__annotations__[k] for k, v in preset.fields.items()}
        name = module.rpartition(".")[2].title().replace("_", "")
        _presets[module] = type(name, (kind,), {**preset.fields, "__annotations__": hints, "__module__": module})
    return _presets[module]


_presets: "dict[str, type[Method]]" = {}


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
    if preset := _preset(tree):
        takes = [preset[1]]
    family = path.parent.name
    modalities = (family,) if family in MODALITIES else tuple(t if t in MODALITIES else "any" for t in takes)
    return Entry(name, family, title, citation, arxiv[1] if arxiv else "", modalities)


class Field(NamedTuple):
    """A hyper-parameter as its method file has it."""

    name: str
    kind: str
    default: str
    """the paper's value, as Python text"""
    meaning: str


class Page(NamedTuple):
    """A method file taken apart for reading: nothing of it is imported."""

    header: str
    """citation, formulas, shapes"""
    fields: tuple[Field, ...]
    forward: str
    """the code of the loss"""
    path: Path


def explain(name: str) -> Page:
    """Header, hyper-parameters and `forward` of a method. Raises UserError for an unknown name."""
    path = _path(name)
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    if preset := _preset(tree):
        return _explain_preset(tree, preset[0], path)
    (method,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and _is_method(node)]
    fields = []
    for here, after in zip(method.body, [*method.body[1:], None]):
        if not isinstance(here, ast.AnnAssign) or here.value is None or "ClassVar" in ast.unparse(here.annotation):
            continue
        said = ast.literal_eval(after.value) if isinstance(after, ast.Expr) and _is_text(after.value) else ""
        meaning = said or {"views": "augmentation", "optim": "optimiser"}.get(ast.unparse(here.target), "")
        default = " ".join(ast.unparse(here.value).split())
        fields.append(Field(ast.unparse(here.target), ast.unparse(here.annotation), default, " ".join(meaning.split())))
    forward = next(n for n in method.body if isinstance(n, ast.FunctionDef) and n.name == "forward")
    code = "\n".join(text.splitlines()[forward.lineno - 1 : forward.end_lineno])
    return Page(ast.get_docstring(tree) or "", tuple(fields), textwrap.dedent(code), path)


def _explain_preset(tree: ast.Module, of: str, path: Path) -> Page:
    """The page of the method that a preset is of, with the preset's header and defaults."""
    page = explain(of)
    call = next(n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "Preset")
    changed = call.args[2]
    assert isinstance(changed, ast.Dict)
    new = {ast.literal_eval(k): " ".join(ast.unparse(v).split()) for k, v in zip(changed.keys, changed.values) if k}
    fields = tuple(f._replace(default=new.get(f.name, f.default)) for f in page.fields)
    return Page(ast.get_docstring(tree) or "", fields, page.forward, path)


def markdown(name: str) -> str:
    """The page of a method for the documentation."""
    page = explain(name)
    title, _, rest = page.header.partition("\n")
    blocks = [b.strip("\n") for b in rest.strip("\n").split("\n\n")]
    body = "\n\n".join(f"```\n{b}\n```" if b.startswith("    ") else b for b in blocks)
    rows = "\n".join(f"| `{f.name}` | `{f.default}` | {f.meaning} |".replace("||", "\\|\\|") for f in page.fields)
    return (
        f"# {name}\n\n{title}\n\n{body}\n\n"
        f"| field | the paper's | meaning |\n|---|---|---|\n{rows}\n\n"
        f"```python\n{page.forward}\n```\n\n"
        f"Source: `src/nolabel/methods/{page.path.parent.name}/{name}.py` · `nolabel train {name}`\n"
    )


def _is_method(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "Method" for base in node.bases)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _path(name: str) -> Path:
    files = _files()
    if name not in files:
        from nolabel.core.errors import UserError, nearest

        raise UserError(f"unknown method '{name}'{nearest(name, files)} ('nolabel methods' lists them all)")
    return files[name]


def _preset(tree: ast.Module) -> tuple[str, str] | None:
    """Method and modality of a file that holds a preset, without importing it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Preset":
            of, takes = (ast.literal_eval(a) for a in node.args[:2])
            return of, takes
    return None


@cache
def _files() -> dict[str, Path]:
    return {p.stem: p for p in _HERE.glob("*/*.py") if not p.stem.startswith("_")}
