"""What every method must reach after seconds on one core: the floors of its learning test."""

from typing import NamedTuple


class Floor(NamedTuple):
    """The short form of a method, and what it must show."""

    steps: int
    """in each of its stages: those of some 24 seconds on one core, of a minute or two for methods in stages and slow starters. In
    steps, so that a slower machine takes longer and reaches the same"""
    least: float
    """points above random init; of an own criterion what it must be beyond"""
    by: str = ""
    """another protocol than the first, or "own loss" and the like, for methods that show nothing else in seconds"""


LESS_IS_BETTER = ("loss", "pixel_error", "perplexity")
"""among the methods' own criteria"""

FLOORS: dict[str, Floor] = {
    "aae": Floor(110, 4.1),
    "amdim": Floor(100, 6.2),
    "arrow_of_time": Floor(70, 3.2),
    "audio_mae": Floor(50, 1.6),
    "autoencoder": Floor(120, 5.0),
    "avid": Floor(400, 8.0),
    "barlow_twins": Floor(130, 8.0),
    "beit": Floor(140, 5.0, "own loss"),
    "bigan": Floor(800, 3.0),
    "byol": Floor(345, 8.0, "linear"),
    "byol_a": Floor(70, 10.5),
    "clip": Floor(230, 10.0),
    "cmc": Floor(140, 1.7),
    "colorization": Floor(100, 3.3),
    "context_encoder": Floor(90, 4.8),
    "counting": Floor(150, 4.9),
    "cpc_speech": Floor(480, 11.7),
    "cpc_text": Floor(1500, 2.5),
    "cpc_v1": Floor(115, 4.9),
    "cpc_v2": Floor(62, 2.9),
    "dae": Floor(110, 3.7),
    "data2vec": Floor(100, 0.4, "own skill"),
    "data_distillation": Floor(300, 5.0),
    "deep_infomax": Floor(160, 12.0),
    "deepcluster": Floor(420, 1.6),
    "deepcluster_v2": Floor(270, 2.8),
    "deepercluster": Floor(400, 5.4),
    "depth_contrast": Floor(170, 2.0),
    "dino": Floor(135, 6.5, "linear"),
    "dinov2": Floor(78, 5.1),
    "drlim": Floor(90, 4.9),
    "entropy_minimisation": Floor(210, 2.7),
    "esvit": Floor(65, 5.3, "linear"),
    "exemplar": Floor(120, 13.3),
    "fixmatch": Floor(320, 5.0),
    "ibot": Floor(88, 4.5, "linear"),
    "ijepa": Floor(80, 0.4, "own skill"),
    "infomin": Floor(140, 1.9),
    "instance_discrimination": Floor(430, 4.0),
    "jigsaw": Floor(110, 7.0),
    "knowledge_distillation": Floor(90, 30.6),
    "lejepa": Floor(150, 9.6),
    "local_aggregation": Floor(370, 6.0),
    "m3ae": Floor(75, 2.4, "own loss"),
    "mae": Floor(170, 0.65, "own loss"),
    "masked_language_model": Floor(220, 0.31, "own masked_accuracy"),
    "mean_teacher": Floor(430, 5.5),
    "moco_v1": Floor(80, 7.7),
    "moco_v2": Floor(80, 5.5),
    "moco_v3": Floor(80, 6.2),
    "msn": Floor(200, 6.0),
    "mugs": Floor(72, 3.2),
    "multimae": Floor(30, 8.0, "own loss"),
    "next_token": Floor(220, 0.33, "own accuracy"),
    "nnclr": Floor(80, 2.7),
    "noisy_student": Floor(130, 5.0),
    "obow": Floor(230, 5.8),
    "pirl": Floor(260, 1.8),
    "point_contrast": Floor(130, 0.02, "own match_accuracy"),
    "point_mae": Floor(290, 0.05, "own loss"),
    "pseudo_label": Floor(155, 10.0),
    "random_walk": Floor(70, 6.1),
    "relative_position": Floor(80, 3.5),
    "rho_clips": Floor(260, 4.0),
    "rotation": Floor(100, 7.5),
    "s4l": Floor(120, 20.4),
    "seer": Floor(140, 5.2),
    "sela": Floor(240, 4.4),
    "shuffle_and_learn": Floor(90, 7.6),
    "siglip": Floor(225, 10.0),
    "simclr": Floor(90, 8.5),
    "simclr_v2": Floor(90, 10.5),
    "simmim": Floor(120, 0.65, "own loss"),
    "simsiam": Floor(130, 2.3),
    "skip_thought": Floor(470, 3.0),
    "split_brain": Floor(70, 2.8),
    "stacked_dae": Floor(260, 2.7),
    "supcon": Floor(100, 30.8),
    "supervised": Floor(200, 1.5),
    "swav": Floor(170, 9.5),
    "triplet": Floor(100, 10.5),
    "uda": Floor(130, 2.5),
    "um_mae": Floor(130, 0.7, "own loss"),
    "vae": Floor(140, 5.2),
    "vat": Floor(190, 3.0),
    "vicreg": Floor(120, 11.5),
    "video_colorization": Floor(340, 7.9),
    "videomae": Floor(45, 0.98, "own loss"),
}
"""margins are about half of what the short form does reach, bounds about halfway from what guesses without looking at the sample
reach (an error of 1 where targets are standardised, Deep InfoMax -ln(1 + 127 x 64)) or, where that is not known, an untrained
net; `python -m tests.learning` measures. Those of longer
forms are about half of the least margin over the seeds of the learning table"""
