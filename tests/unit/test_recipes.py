"""Recipes are found by the name of their method, so one that is called otherwise could never be used."""

import importlib
import inspect
from pathlib import Path

import pytest

from nolabel import methods, recipes
from nolabel.plan import Options, resolve

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


@pytest.mark.parametrize(("said", "side", "world"), [({}, 64, "toyworld:std"), ({"size": 32}, 32, "toyworld:std")])
def test_a_recipe_says_how_large_frames_are_where_the_user_does_not(said, side, world):
    made, _ = resolve("random_walk", Options(cache="never", device="cpu", **said), {}, lambda what, share: None)
    assert made.form.size == made.fields["views"]["size"] == side and made.data == world


def test_small_recipes_turn_clouds_about_the_axis_that_is_upright_in_the_toy_world():
    from nolabel.data.toyworld import shapes

    points = shapes.render([0, 1, 2, 3, 4, 5, 6, 7], points=256)["points"]
    again = shapes.render([0, 1, 2, 3, 4, 5, 6, 7], points=256, resample=("pose",))["points"]
    unmoved = [axis for axis in range(3) if abs(points[:, :, axis] - again[:, :, axis]).max() < 0.05]
    views = [
        recipes.find("tiny", name, 32).fields["views"] for name in ("point_contrast", "point_mae", "depth_contrast")
    ]
    assert [v.up for v in views] == unmoved * 3 and all(v.turn == "up" for v in views)
