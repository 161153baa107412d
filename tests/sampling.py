"""Which methods an expensive test runs on: those that changed, and a part of the rest that moves on with every commit."""

import ast
import subprocess
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from nolabel import methods

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "nolabel"


def sample(count: int, always: tuple[str, ...] = (), among: Iterable[str] | None = None) -> list[str]:
    """`count` methods (`among` those named) and `always`: changed ones first, but at least one of the others, in turn."""
    names = methods.names() if among is None else sorted(among)
    changed = [name for name in _turned(sorted(touched(modified()) & set(names)), count) if name not in always]
    others = [name for name in _turned(names, count) if name not in (*changed, *always)]
    changed = changed[: max(0, count - 1)] if others else changed[:count]
    return sorted({*always, *changed, *others[: count - len(changed)]})


def _turned(names: list[str], count: int) -> list[str]:
    """The names from another place on for each commit, so that in the course of commits each has its turn."""
    start = commits() * count % len(names) if names else 0
    return names[start:] + names[:start]


@cache
def commits() -> int:
    """How many commits there are; days, where there is no repository."""
    count = _git("rev-list", "--count", "HEAD")
    return int(count[0]) if count else int(time.time() // 86400)


@cache
def modified() -> frozenset[Path]:
    """Files that differ from the commit before the last."""
    names = _git("diff", "--name-only", "HEAD~1") + _git("ls-files", "--others", "--exclude-standard")
    return frozenset(ROOT / name for name in names)


@cache
def touched(files: frozenset[Path]) -> set[str]:
    """The methods of which one of these files is the own file, the tiny recipe, or imported by either, however far."""
    found = set()
    for name in methods.names():
        family = methods.describe(name).family
        own = [PACKAGE / "methods" / family / f"{name}.py", PACKAGE / "recipes" / "tiny" / f"{family}.py"]
        if files & set().union(*map(closure, own)):
            found.add(name)
    return found


@cache
def closure(path: Path) -> frozenset[Path]:
    """A file of the package and all files of it that it needs, by its import statements."""
    seen: set[Path] = set()
    todo = [path]
    while todo:
        file = todo.pop()
        if file in seen or not file.exists():
            continue
        seen.add(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nolabel"):
                todo += _files(node.module, [alias.name for alias in node.names])
    return frozenset(seen)


def _files(module: str, names: list[str]) -> list[Path]:
    """Where `from module import names` may find them: in the module, in the package, or as modules of it."""
    place = ROOT / "src" / Path(*module.split("."))
    return [place.with_suffix(".py"), place / "__init__.py", *(place / f"{name}.py" for name in names)]


def _git(*argv: str) -> list[str]:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *argv], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []
