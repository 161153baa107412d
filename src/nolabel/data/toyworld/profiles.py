"""How hard the toy world is. Lengths are in units of the image side, angles in radians, brightness in 0 .. 1."""

import math
from dataclasses import dataclass

from nolabel.core.errors import UserError


@dataclass(frozen=True)
class Profile:
    """Ranges of the factors. Object 0, the one that gives the label, is always there, in front and the largest."""

    objects: int
    """most objects in a scene; the count is uniform over 1 .. objects"""
    radius: tuple[float, float]
    """radius of the circle that a shape about fills"""
    margin: float = 1.0
    """least distance of a centre from the border, in radii"""
    rotation: float = math.pi
    """start angles are uniform in -rotation .. rotation"""
    contrast: float = 0.25
    """least difference of luminance between an object and the middle of the background"""
    chroma: float = 0.3
    """largest saturation of any colour"""
    background: float = 0.12
    """largest amplitude of the background pattern"""
    texture: float = 0.15
    """amplitude of the texture that tells the material"""
    light: float = 0.15
    """largest change of the lighting gain, overall and across the image"""
    camera: float = 0.0
    """largest pan, and twice the largest relative zoom"""
    occluder: bool = False
    """a bar in front of everything"""


PROFILES = {
    # What augmentations vary (place, size, brightness) varies much and what they do not (patterns, hue) little, so that
    # the shape is the best clue to which picture a crop is from, and yet pixels do not tell it.
    "easy": Profile(objects=1, radius=(0.22, 0.32), margin=0.8, chroma=0.15, background=0.06, texture=0.08, light=0.3),
    # As easy, and things stand as they should, but for a few degrees: which way is up can be told.
    "upright": Profile(
        objects=1,
        radius=(0.22, 0.32),
        margin=0.8,
        rotation=math.pi / 10,
        chroma=0.15,
        background=0.06,
        texture=0.08,
        light=0.3,
    ),
    # The texture, and with it the material, is the clue: what a thing sounds like can be seen.
    "textured": Profile(
        objects=1, radius=(0.34, 0.44), margin=0.8, chroma=0.15, background=0.02, texture=0.35, light=0.2, contrast=0.15
    ),
    # As easy, in front of strong patterns that must not be taken for the thing.
    "busy": Profile(objects=1, radius=(0.22, 0.32), margin=0.8, chroma=0.15, background=0.4, texture=0.08, light=0.3),
    "std": Profile(objects=2, radius=(0.16, 0.24), background=0.2, light=0.3, camera=0.05),
    "hard": Profile(objects=3, radius=(0.13, 0.2), background=0.4, light=0.35, camera=0.08, occluder=True),
}


def profile_of(profile: str | Profile) -> Profile:
    """A profile by its name; a profile is handed through."""
    if isinstance(profile, Profile):
        return profile
    if profile not in PROFILES:
        raise UserError(f"toy world: no profile {profile!r}; there are {', '.join(PROFILES)}")
    return PROFILES[profile]
