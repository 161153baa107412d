"""The contrastive family; see the package."""

from dataclasses import replace

from nolabel.recipes import Recipe
from nolabel.recipes.tiny import FEW, HUES, MUON, SLOW, smaller, two_views
from nolabel.views.image import OneView
from nolabel.views.parts import ImageAndParts, Patches, TwoViewsAndParts


def simclr(size: int) -> Recipe:
    """CIFAR-10, ten minutes on two busy cores, 16.6 epochs: 20-NN 69.2 %, random init 33.0, raw pixels 45.4; one seed."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"temperature": 0.2, "hidden": 512, "views": two_views(size, hue=0.1), "optim": MUON},
    )


def moco_v2(size: int) -> Recipe:
    """Both views are queries; a queue of 1,024 and keys that follow at once, for a minute has few steps. Toy world, one
    minute on one core, 20-NN 42.3 (hue 0.2: 36.9; and momentum 0.9, twice the rate: 23.7), random init 17.0; one seed.
    """
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={
            "hidden": 512, "queue": 1024, "momentum": 0.5, "splits": 1, "symmetric": True,
            "views": two_views(size, hue=HUES[3]), "optim": SLOW,
        },
    )  # fmt: skip


def moco_v1(size: int) -> Recipe:
    """MoCo v2's tiny setting with the linear head and without a cosine. Not its temperature of 0.07: the first losses are then
    so near 0 (0.001) that float32 cannot show that several processes equal one.
    """
    fields = {
        "queue": 1024, "momentum": 0.5, "splits": 1, "symmetric": True, "temperature": 0.2,
        "views": two_views(size, hue=HUES[3]), "optim": replace(SLOW, drops=(0.6, 0.8)),
    }  # fmt: skip
    return Recipe("tiny", batch=256, minutes=2.5, fields=fields)


def moco_v3(size: int) -> Recipe:
    """Narrow heads, a sharper softmax, and keys that follow at once: toy world, one minute on one core, 20-NN 45.1 (momentum
    from 0.9 on: 34.9), random init 17.0; one seed.
    """
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={
            "temperature": 0.2, "hidden": 512, "out": 128, "layers": 2, "momentum": (0.5, 1.0),
            "views": two_views(size), "optim": MUON,
        },
    )  # fmt: skip


def nnclr(size: int) -> Recipe:
    """Narrow heads and a queue of 4,096."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={
            "temperature": 0.2, "queue": 4096, "hidden": 512, "bottleneck": 512, "out": 128,
            "views": two_views(size), "optim": MUON,
        },
    )  # fmt: skip


def simclr_v2(size: int) -> Recipe:
    """A head of 512."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={"temperature": 0.2, "hidden": 512, "views": two_views(size), "optim": MUON},
    )


def supcon(size: int) -> Recipe:
    """A head of 512."""
    return Recipe("tiny", batch=256, minutes=2.5, fields={"hidden": 512, "views": two_views(size), "optim": MUON})


def colored(size: int, gray: float = 0.2) -> OneView:
    """One view with the crops of `two_views` and more hue."""
    return OneView(size=smaller(size), test_size=size, scale=(0.2, 1.0), jitter=HUES, gray=gray)


def instance_discrimination(size: int) -> Recipe:
    """The paper's setting for CIFAR: cross-entropy over the whole bank, tau 0.1. Toy world of 4,000, one minute on one core,
    20-NN 43.4 (hue 0.2: 35.8), random init 15.3; one seed.
    """
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={"temperature": 0.1, "negatives": 0, "softmax": True, "views": colored(size), "optim": SLOW},
        toyworld=FEW,
    )


def pirl(size: int) -> Recipe:
    """Rotation: tiles of small images show little. Cross-entropy over the whole bank. Toy world of 4,000, one minute on one
    core, 20-NN 41.3 (hue 0.2: 32.6), random init 15.3; one seed.
    """
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={
            "temperature": 0.1, "negatives": 0, "softmax": True, "optim": SLOW,
            "views": ImageAndParts(
                size=smaller(size), test_size=size, scale=(0.2, 1.0), jitter=HUES,
                transform="rotation", part_scale=(0.3, 1.0),
            ),
        },
        toyworld=FEW,
    )  # fmt: skip


def cmc(size: int) -> Recipe:
    """Cross-entropy over the whole banks. Toy world of 4,000, one minute on one core, 20-NN 30.7 (hue 0.2: 22.0), random init
    15.4; one seed.
    """
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={
            "temperature": 0.1, "negatives": 0, "softmax": True, "optim": SLOW,
            "views": colored(size, gray=0.0),
        },
        toyworld=FEW,
    )  # fmt: skip


def deep_infomax(size: int) -> Recipe:
    """InfoNCE over the places of a map at a quarter of the side; crops, which the paper does without; no critic, which would
    take half of the time. CIFAR-10, 1.5 minutes on one core: 20-NN 50.5 % (JSD with the critic 37.6), random init 33.1; one
    seed. Of the toy world the materials of textured things, in grey: what whole and places share is texture and colour, no
    shape, and colours alone would tell all images apart (one minute, three seeds, 20-NN 84.2, random init 50.5; coloured
    35.2, 36.7).
    """
    return Recipe(
        "tiny",
        batch=128,
        minutes=2.5,
        fields={
            "bound": "nce", "prior_weight": 0.0, "hidden": 256, "units": 128, "views": OneView(size=size), "optim": MUON,
        },
        toyworld="textured:grey:material",
    )  # fmt: skip


def amdim(size: int) -> Recipe:
    """Scores of 128 units."""
    return Recipe(
        "tiny", batch=128, minutes=2.5, fields={"units": 128, "clip": 10.0, "views": two_views(size), "optim": MUON}
    )


def drlim(size: int) -> Recipe:
    """A map of 64 dimensions instead of two."""
    return Recipe("tiny", batch=256, minutes=2.5, fields={"out": 64, "views": two_views(size), "optim": MUON})


def triplet(size: int) -> Recipe:
    """A head of 512."""
    return Recipe("tiny", batch=256, minutes=2.5, fields={"hidden": 512, "views": two_views(size), "optim": MUON})


def cpc_v2(size: int) -> Recipe:
    """A grid of 5 x 5 patches, of 12 px where images have 32; they are apart from the third row on. Of the toy world the patterns
    behind things, as that is what places share: one minute on one core, three seeds, 20-NN 74.6,
    random init 37.1.
    """
    patch = size * 3 // 8
    return Recipe(
        "tiny",
        batch=64,
        minutes=2.5,
        fields={
            "width": 64, "depth": 2,
            "views": Patches(size=size, scale=(0.6, 1.0), patch=patch, stride=(size - patch) // 4),
            "optim": MUON,
        },
        toyworld="std:background",
    )  # fmt: skip


def cpc_v1(size: int) -> Recipe:
    """CPC v2's tiny setting, downwards only, in grey, patches as they are: one minute on one core, three seeds, 20-NN 83.1,
    random init 61.8.
    """
    patch = size * 3 // 8
    views = Patches(
        size=size, scale=(0.6, 1.0), patch=patch, stride=(size - patch) // 4, gray=1.0, drop_color=0.0,
        patch_scale=(0.88, 0.88), patch_ratio=(1.0, 1.0), patch_flip=0.0, patch_jitter=(0.0, 0.0, 0.0, 0.0), patch_gray=0.0,
    )  # fmt: skip
    fields = {"width": 64, "depth": 2, "views": views, "optim": MUON}
    return Recipe("tiny", batch=64, minutes=2.5, fields=fields, toyworld="std:grey:background")


def infomin(size: int) -> Recipe:
    """MoCo v2's tiny setting, one way, with a rotated third crop: tiles of small images show little. Without RandAugment."""
    return Recipe(
        "tiny",
        batch=256,
        minutes=2.5,
        fields={
            "temperature": 0.2, "hidden": 512, "queue": 1024, "momentum": 0.5, "splits": 1, "optim": SLOW,
            "views": TwoViewsAndParts(
                size=smaller(size), test_size=size, scale=(0.2, 1.0), strength=1.0, jitter=HUES, blur=(0.0, 0.0),
                transform="rotation", part_scale=(0.3, 1.0), operations=0,
            ),
        },
    )  # fmt: skip
