"""Ranks that cannot be forked are started by the module's name, which then has to do something."""

import subprocess
import sys

from nolabel import api


def test_the_module_that_ranks_run_is_a_command(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(api.processes, "launch", lambda module, *rest: asked.append(module) or 0)
    plan = type("Plan", (), {"settings": type("Settings", (), {"processes": 2})})
    api._launch(tmp_path, plan, True, None)
    done = subprocess.run([sys.executable, "-m", *asked, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "nolabel" in done.stdout
