"""Hyper-parameters are fields: their JSON form, and the flags they become."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from nolabel.core.errors import UserError, nearest


def to_json(value: Any) -> Any:
    """A dataclass (or plain value) as JSON types; tuples become lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    if isinstance(value, Mapping):
        return {k: to_json(v) for k, v in value.items()}
    return value


def from_json(kind: Any, value: Any) -> Any:
    """The inverse of `to_json`, led by type hints. Unknown names raise `UserError` with the nearest name."""
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        known = [f.name for f in dataclasses.fields(kind) if f.init]
        for name in value:
            if name not in known:
                raise UserError(f"{getattr(kind, '__name__', kind)} has no field '{name}'{nearest(name, known)}")
        return kind(**{k: _of_field(k, hints[k], v) for k, v in value.items()})  # type: ignore[operator]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _either([a for a in args if a is not type(None)], value) if value is not None else None
    if origin is tuple and isinstance(value, list | tuple):
        inner = args[:1] * len(value) if len(args) == 2 and args[1] is Ellipsis else args
        if len(inner) != len(value):
            raise UserError(f"expected {len(inner)} values, got {list(value)}")
        return tuple(from_json(a, v) for a, v in zip(inner, value))
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {k: from_json(args[1], v) for k, v in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not _fits(kind, origin, args, value):
        wanted = _WORDS.get(origin or kind, "an object" if origin is None else f"one of {', '.join(map(repr, args))}")
        raise UserError(f"expected {wanted}, got {value!r:.60}")
    return value


_WORDS = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "an object", tuple: "a list"
}  # fmt: skip


def _fits(kind: Any, origin: Any, args: tuple[Any, ...], value: Any) -> bool:
    """Whether a value may stand where `kind` is hinted; hints that are not data (protocols, paths) take anything."""
    if origin is typing.Literal:
        return value in args
    wanted = origin or kind
    if wanted in _WORDS:
        return isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
    return not dataclasses.is_dataclass(kind) or isinstance(value, kind)  # type: ignore[arg-type]


def _of_field(name: str, kind: Any, value: Any) -> Any:
    """`from_json`, with the name of the field in what it says."""
    try:
        return from_json(kind, value)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def _either(kinds: list[Any], value: Any) -> Any:
    """The value as the first of several kinds that takes it."""
    for kind in kinds[:-1]:
        try:
            return from_json(kind, value)
        except UserError:
            continue
    return from_json(kinds[-1], value)


def override(value: Any, changes: dict[str, Any]) -> Any:
    """A copy of a dataclass with changed fields; nested ones by dots ("views.strength") or by dicts."""
    nested: dict[str, dict[str, Any]] = {}
    flat: dict[str, Any] = {}
    known = [f.name for f in dataclasses.fields(value) if f.init]
    hints = typing.get_type_hints(type(value))
    for name, change in changes.items():
        head, _, rest = name.partition(".")
        if head not in known:
            raise UserError(f"{type(value).__name__} has no field '{head}'{nearest(head, known)}")
        if rest:
            nested.setdefault(head, {})[rest] = change
        elif isinstance(change, dict) and dataclasses.is_dataclass(getattr(value, head)):
            nested.setdefault(head, {}).update(change)
        else:
            flat[head] = _of_field(head, hints[head], change)
    for head, more in nested.items():
        flat[head] = override(flat.get(head, getattr(value, head)), more)
    return dataclasses.replace(value, **flat)
