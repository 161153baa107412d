"""The point cloud family; see the package. In the toy world the second axis points up."""

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.views.points import OneCloud, TwoClouds


def point_contrast(size: int) -> Recipe:
    """256 points a view, of which 64 are in both; turned about the upright axis, for any rotation asks for more than minutes.
    Toy world, one minute on one core: matches found among 8,192 points 3.9 % (any rotation: 0.3; untrained 1.3), mean IoU of
    parts 54.4 (untrained 48.4); one seed.
    """
    return Recipe(
        "tiny_points",
        batch=16,
        minutes=2.5,
        fields={
            "temperature": 0.1,
            "views": TwoClouds(points=256, pairs=64, jitter=0.01, turn="up", up=1),
            "optim": Optim("adamw", lr=1e-3, weight_decay=0.05, scaled=False, warmup_epochs=0.2),
        },
    )


def point_mae(size: int) -> Recipe:
    """16 groups of 16 points, a decoder of one block."""
    return Recipe(
        "tiny_point_groups",
        batch=32,
        minutes=2.5,
        fields={
            "width": 96,
            "depth": 1,
            "heads": 3,
            "views": OneCloud(points=256, turn="up", up=1),
            "optim": Optim("adamw", lr=2e-3, weight_decay=0.05, scaled=False, warmup_epochs=1),
        },
    )


def depth_contrast(size: int) -> Recipe:
    """128 points a view, 16 voxels a side, queues of 1,024."""
    return Recipe(
        "tiny_points",
        batch=32,
        minutes=2.5,
        fields={
            "queue": 1024,
            "momentum": 0.99,
            "hidden": 128,
            "out": 64,
            "cells": 16,
            "filters": 16,
            "views": TwoClouds(points=128, pairs=0, crop=(0.5, 1.0), drop=0.1, flip=0.5, turn="up", up=1),
            "optim": Optim("adamw", lr=1e-3, weight_decay=0.05, scaled=False, warmup_epochs=0.2),
        },
    )
