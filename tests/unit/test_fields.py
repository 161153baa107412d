"""Fields to JSON and back: what does not fit its hint is refused with the name of the field."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from nolabel.core import Optim, UserError
from nolabel.core.fields import from_json, override, to_json


@dataclass(frozen=True)
class Inner:
    scale: tuple[float, float] = (0.2, 1.0)
    names: tuple[str, ...] = ()
    mode: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    count: int = 3
    rate: float = 0.5
    on: bool = True
    word: str | None = None
    either: int | str = 1
    inner: Inner = Inner()
    more: dict[str, Any] = field(default_factory=dict)
    place: Path | None = None


@pytest.mark.parametrize(
    "changes",
    [{}, {"rate": 2}, {"word": "x", "either": "y"}, {"inner": {"scale": [0, 1], "names": ["p", "q"], "mode": "b"}},
     {"more": {"k": [1, {"l": None}]}, "count": -7, "on": False}],
)  # fmt: skip
def test_there_and_back(changes):
    made = override(Outer(), changes)
    assert from_json(Outer, to_json(made)) == made
    assert isinstance(made.rate, float) and isinstance(made.inner.scale[0], float)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": 1.5}, "count: expected a whole number, got 1.5"),
        ({"count": True}, "count: expected a whole number, got True"),
        ({"count": None}, "count: expected a whole number, got None"),
        ({"rate": "0.1"}, "rate: expected a number"),
        ({"on": 1}, "on: expected true or false"),
        ({"word": 3}, "word: expected text"),
        ({"either": 1.5}, "either: expected text"),
        ({"inner": []}, "inner: expected an object"),
        ({"inner": {"scale": 0.5}}, "scale: expected a list"),
        ({"inner": {"scale": [1, 2, 3]}}, "scale: expected 2 values"),
        ({"inner": {"names": [1]}}, "names: expected text"),
        ({"inner": {"mode": "c"}}, "mode: expected one of 'a', 'b'"),
        ({"inner.mode": []}, "mode: expected one of"),
        ({"more": []}, "more: expected an object"),
        ({"cuont": 1}, "did you mean 'count'"),
    ],
)
def test_what_does_not_fit_is_named(changes, words):
    with pytest.raises(UserError, match=words):
        override(Outer(), changes)


def test_objects_stand_for_themselves():
    assert override(Outer(), {"inner": Inner(mode="b"), "place": Path("x")}).inner.mode == "b"
    with pytest.raises(UserError, match="inner: expected an object"):
        override(Outer(), {"inner": Optim()})
