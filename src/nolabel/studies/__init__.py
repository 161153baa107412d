"""Questions that a command answers again: one file each, whose name is the study's and whose function of that name runs it.

The folder listing is the registry; flags and help come from the signature and the docstring of that function.
"""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path

_HERE = Path(__file__).parent


def names() -> list[str]:
    """All studies by name, which is the name of the file."""
    return sorted(p.stem for p in _HERE.glob("*.py") if not p.stem.startswith("_"))


def load(name: str) -> Callable[..., None]:
    """The function that runs a study. Raises `UserError` where there is none of that name."""
    from nolabel.core import UserError
    from nolabel.core.errors import nearest

    if name not in names():
        raise UserError(f"unknown study '{name}'{nearest(name, names())}")
    return getattr(importlib.import_module(f"nolabel.studies.{name}"), name)  # type: ignore[no-any-return]


def title(name: str) -> str:
    """The first line of a study's file, read without importing it."""
    header = ast.get_docstring(ast.parse((_HERE / f"{name}.py").read_text(encoding="utf-8"))) or ""
    return header.partition("\n")[0]
