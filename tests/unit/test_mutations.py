"""The planted mistakes still fit the code: their lines are there, and their tests exist."""

import shlex

import pytest

from tests.mutations import MISTAKES, ROOT


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_can_be_made(name):
    mistake = MISTAKES[name]
    text = (ROOT / "src" / "nolabel" / mistake.file).read_text()
    assert text.count(mistake.old) == 1 and mistake.new != mistake.old
    compile(text.replace(mistake.old, mistake.new), mistake.file, "exec")
    assert (ROOT / shlex.split(mistake.tests)[0]).exists()


def test_there_are_enough():
    assert len(MISTAKES) >= 20
