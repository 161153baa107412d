"""Recipes are found by the name of their method, so one that is called otherwise could never be used."""

import importlib
import inspect
from pathlib import Path

import pytest

from nolabel import methods, recipes

HERE = Path(recipes.__file__).parent
FILES = [(setting, path.stem) for setting in recipes.SETTINGS for path in sorted((HERE / setting).glob("[!_]*.py"))]


@pytest.mark.parametrize(("setting", "family"), FILES)
def test_every_recipe_can_be_found(setting, family):
    module = importlib.import_module(f"nolabel.recipes.{setting}.{family}")
    made = {
        name: function
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__annotations__.get("return") is recipes.Recipe
    }
    found = {name for name in made if not name.startswith("_")}
    assert found <= set(methods.names()), "no method is called so"
    assert all(methods.describe(name).family == family for name in found)
    assert all(recipes.find(setting, name, 32) is not None for name in found)


def test_every_method_has_a_tiny_recipe():
    assert not [name for name in methods.names() if recipes.find("tiny", name, 32) is None]
