"""Pages made from the headers of the method files."""

import subprocess
import sys

import pytest
from docs.__main__ import FOLDER, README, pages, readme

from nolabel import methods
from nolabel.core import UserError


def test_pages_are_those_of_the_files():
    there = {p.name: p.read_text() for p in FOLDER.glob("*.md")}
    assert there == pages(), "docs/methods/ is old: run python -m docs"


def test_readme_names_every_method():
    assert README.read_text() == readme(), "the table in README.md is old: run python -m docs"


def test_explain_knows_fields_defaults_and_code():
    page = methods.explain("byol")
    fields = {f.name: f for f in page.fields}
    assert fields["momentum"].default == "(0.996, 1.0)" and "cosine" in fields["momentum"].meaning
    assert "labelled" not in fields and "turns" not in fields
    assert page.forward.startswith("def forward(self, views, t):") and "negative_cosine" in page.forward
    with pytest.raises(UserError, match="byol"):
        methods.explain("byoll")


def test_explain_on_the_command_line_needs_no_torch():
    code = "import sys; from nolabel.cli import main; main(['explain', 'simclr']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "2002.05709" in done.stdout and "temperature" in done.stdout
