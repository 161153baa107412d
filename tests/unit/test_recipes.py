"""Recipes are found by the name of their method, so one that is called otherwise could never be used."""

import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from nolabel import encoders, methods, recipes
from nolabel.core import Clock, UserError, labelled_rows
from nolabel.core.fields import override, to_json
from nolabel.engine.parallel import device_of
from nolabel.optim import learning_rate
from nolabel.options import Options
from nolabel.plan import build_method
from nolabel.resolve import resolve
from nolabel.views.tiles import Tiles

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


PLANNED = {
    "cifar10": ("dino", "byol", "simsiam", "barlow_twins", "vicreg", "supervised", "fixmatch", "uda", "mean_teacher", "vat",
                "pseudo_label", "entropy_minimisation", "s4l", "noisy_student", "deepercluster", "swav", "seer", "simclr_v2",
                "moco_v1", "infomin", "pirl", "cmc", "amdim", "deep_infomax", "drlim", "triplet", "cpc_v1", "cpc_v2",
                "lejepa", "ibot", "dinov2", "esvit", "mugs", "knowledge_distillation"),
    "imagenet": ("byol", "simsiam", "barlow_twins", "vicreg", "dinov2", "deepcluster", "deepercluster", "mugs"),
}  # fmt: skip


@pytest.mark.parametrize(("setting", "name"), [(s, n) for s, names in PLANNED.items() for n in names])
def test_recipes_plan_and_build(setting, name):
    """On no memory, with images and labels of the toy world, at the size and the batch of the recipe."""
    options = Options(recipe=setting, cache="never", device="cpu", size=32 if setting == "cifar10" else 224)
    plan, data = resolve(name, options, {}, lambda what, share: None)
    recipe = recipes.find(setting, name, options.size)
    assert (
        plan.recipe == setting
        and plan.settings.batch == min(recipe.batch, 2**14)
        and plan.settings.epochs == recipe.epochs
    )
    with torch.device("meta"):
        method = build_method(plan, data.info)
    made = to_json(override(methods.load(name)(), recipe.fields))
    assert {k: v for k, v in to_json(method).items() if k != "views"} == {k: v for k, v in made.items() if k != "views"}
    assert sum(p.numel() for p in method.parameters()) > 5e6


@pytest.mark.parametrize("name", [n for n in PLANNED["cifar10"] if methods.describe(n).family == "semi"])
def test_semi_supervised_recipes_take_as_many_steps_and_labels(name):
    recipe = recipes.find("cifar10", name, 32)
    method = override(methods.load(name)(), recipe.fields)
    labelled = labelled_rows(method.labelled, recipe.batch)
    samples = 4000 if name == "supervised" else 46_000
    steps = method.stages * recipe.epochs * (samples // (recipe.batch - labelled or recipe.batch))
    assert labelled == 64 and 0.85 * 2**16 < steps < 1.1 * 2**16


def test_every_method_has_a_tiny_recipe():
    assert not [name for name in methods.names() if recipes.find("tiny", name, 32) is None]


@pytest.mark.parametrize("family", ["contrastive", "clustering", "distillation", "redundancy"])
def test_every_joint_embedding_has_a_recipe_for_small_images_on_a_gpu(family):
    names = [name for name in methods.names() if methods.describe(name).family == family]
    assert names and not [name for name in names if recipes.find("cifar10", name, 32) is None]


@pytest.mark.parametrize(("said", "side", "world"), [({}, 64, "toyworld:std"), ({"size": 32}, 32, "toyworld:std")])
def test_a_recipe_says_how_large_frames_are_where_the_user_does_not(said, side, world):
    made, _ = resolve("random_walk", Options(cache="never", device="cpu", **said), {}, lambda what, share: None)
    assert made.form.size == made.fields["views"]["size"] == side and made.data == world


def views_of_the_paper(name, **said):
    """The views of a plan by the papers' recipe."""
    options = Options(recipe="imagenet", cache="never", device="cpu", **said)
    made, _ = resolve(name, options, {}, lambda what, share: None)
    return made.fields["views"], made.form.size


@pytest.mark.parametrize(
    ("name", "seen"), [("cpc_v2", 260), ("cpc_v1", 256), ("amdim", 128), ("seer", 224), ("dino", 224)]
)
def test_the_views_of_a_paper_stand_where_no_size_is_asked_for(name, seen):
    views, size = views_of_the_paper(name)
    assert views == to_json(methods.load(name)().views) and size == seen


@pytest.mark.parametrize(
    ("name", "size", "grid", "offsets"),
    [(name, size, *found) for name, found in (("cpc_v2", (6, 3)), ("cpc_v1", (7, 2))) for size in (64, 96, 100, 224)],
)
def test_patches_go_with_the_size_that_is_asked_for(name, size, grid, offsets):
    views, seen = views_of_the_paper(name, size=size)
    method = override(methods.load(name)(), {"views": views})
    assert seen == views["size"] == size
    assert method.views.grid == grid and method.offsets.start == offsets, "as many patches, that overlap as much"


def test_crops_go_with_the_size_that_is_asked_for():
    views, seen = views_of_the_paper("seer", size=112)
    assert (views["size"], views["test_size"], views["local_size"], seen) == (80, 112, 48, 112)
    views, _ = views_of_the_paper("obow", size=112)
    assert (views["size"], views["crop_size"], views["local_size"]) == (112, 80, 48)


def test_small_pictures_keep_their_size_in_the_recipe_of_a_paper(tmp_path):
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8))
    views, seen = views_of_the_paper("cpc_v2", data=str(tmp_path / "images.npy"))
    assert (views["size"], views["patch"], views["stride"], seen) == (32, 9, 4, 32)


def test_tiles_go_with_the_size_of_their_view():
    view = Tiles().resized(96)
    assert (view.size, view.tile) == (96, 24) and view.tile <= 96 // view.grid


def test_rotation_has_the_steps_of_the_authors_on_small_images():
    recipe = recipes.find("cifar10", "rotation", 32)
    optim = override(methods.load("rotation")(), recipe.fields).optim
    rates = [learning_rate(optim, Clock(epoch, 200, 1), recipe.batch) for epoch in (0, 59, 61, 119, 121, 159, 161)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008])


def test_small_recipes_turn_clouds_about_the_axis_that_is_upright_in_the_toy_world():
    from nolabel.data.toyworld import shapes

    points = shapes.render([0, 1, 2, 3, 4, 5, 6, 7], points=256)["points"]
    again = shapes.render([0, 1, 2, 3, 4, 5, 6, 7], points=256, resample=("pose",))["points"]
    unmoved = [axis for axis in range(3) if abs(points[:, :, axis] - again[:, :, axis]).max() < 0.05]
    views = [
        recipes.find("tiny", name, 32).fields["views"] for name in ("point_contrast", "point_mae", "depth_contrast")
    ]
    assert [v.up for v in views] == unmoved * 3 and all(v.turn == "up" for v in views)


@pytest.mark.parametrize("name", ["ibot", "dinov2", "esvit", "mugs"])
@pytest.mark.parametrize("size", [24, 32, 40, 56])
def test_small_crops_are_whole_patches(name, size):
    recipe = recipes.find("tiny", name, size)
    encoder = encoders.make(recipe.encoder, (3, size, size))
    side = recipe.fields["views"].size
    assert encoder.embed(torch.zeros(1, 3, side, side)).shape[1] == (side // encoder.patch) ** 2 == 36


@pytest.mark.parametrize(
    ("method", "said", "setting", "side"),
    [
        ("simclr", {}, "tiny", 32),
        ("mae", {"data": "toyworld:easy"}, "tiny", 32),
        ("simclr", {"encoder": "resnet18"}, "cifar10", 32),
        ("simclr", {"recipe": "imagenet"}, "imagenet", 224),
    ],
)
def test_the_toy_world_is_learned_in_minutes_on_a_gpu_too(method, said, setting, side, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    plan, _ = resolve(method, Options(**said), {}, lambda what, share: None)
    assert (plan.recipe, plan.inputs["image"][-1]) == (setting, side)
    assert plan.settings.minutes == 2.5 if setting == "tiny" else plan.settings.epochs >= 100


@pytest.mark.parametrize(
    ("method", "setting", "encoder", "side"),
    [("simclr", "imagenet", "resnet50", 224), ("fixmatch", "cifar10", "resnet18", 224), ("vae", "tiny", "tiny", 64)],
)
def test_on_a_gpu_the_largest_setting_of_a_method_is_taken(method, setting, encoder, side, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 256, 256, 3), dtype=np.uint8)
    np.savez(tmp_path / "photos.npz", image=pixels, label=np.arange(12) % 2)
    plan, _ = resolve(method, Options(data=str(tmp_path / "photos.npz")), {}, lambda what, share: None)
    assert (plan.recipe, plan.encoder, plan.inputs["image"][-1]) == (setting, encoder, side)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="--processes 4: each has a GPU of its own, and there are 2"):
        resolve("simclr", Options(processes=4), {}, lambda what, share: None)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="process 3 finds no GPU of its own: there are 2; take fewer, or --device cpu"):
        device_of("auto")
