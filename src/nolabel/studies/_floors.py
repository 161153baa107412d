"""What every method must reach after seconds on one core: the floors of its learning test."""

from typing import NamedTuple


class Floor(NamedTuple):
    """The short form of a method, and what it must show."""

    steps: int
    """in each of its stages: those of 24 seconds on one core, so that a slower machine takes longer and reaches the same"""
    least: float
    """points above random init by the first protocol; with `own` what the method's own criterion must be beyond"""
    own: bool = False
    """for methods whose features need longer than seconds"""


LESS_IS_BETTER = ("loss", "pixel_error", "perplexity")
"""among the methods' own criteria"""

FLOORS: dict[str, Floor] = {
    "amdim": Floor(100, 6.2),
    "arrow_of_time": Floor(70, 3.2),
    "autoencoder": Floor(120, 5.0),
    "barlow_twins": Floor(130, 8.0),
    "byol_a": Floor(70, 10.5),
    "colorization": Floor(100, 3.3),
    "counting": Floor(150, 4.9),
    "deepcluster": Floor(420, 1.6),
    "deepcluster_v2": Floor(270, 2.8),
    "deepercluster": Floor(400, 5.4),
    "drlim": Floor(90, 4.9),
    "entropy_minimisation": Floor(210, 2.7),
    "exemplar": Floor(120, 13.3),
    "instance_discrimination": Floor(430, 4.0),
    "jigsaw": Floor(110, 7.0),
    "knowledge_distillation": Floor(90, 30.6),
    "lejepa": Floor(150, 9.6),
    "local_aggregation": Floor(370, 6.0),
    "moco_v2": Floor(80, 5.5),
    "moco_v3": Floor(80, 6.2),
    "nnclr": Floor(80, 2.7),
    "pirl": Floor(260, 1.8),
    "rotation": Floor(100, 7.5),
    "s4l": Floor(120, 20.4),
    "sela": Floor(240, 4.4),
    "simclr": Floor(90, 8.5),
    "simclr_v2": Floor(90, 10.5),
    "supcon": Floor(100, 30.8),
    "swav": Floor(170, 9.5),
    "triplet": Floor(100, 10.5),
    "uda": Floor(130, 2.5),
    "vicreg": Floor(120, 11.5),
}
"""margins are about half of what the short form does reach, bounds about halfway from what an untrained net has or, where that
is known and harder, from what guesses without looking at the sample reach; `python -m tests.learning` measures"""
