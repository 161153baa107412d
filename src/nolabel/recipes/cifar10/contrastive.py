"""The contrastive family; see the package."""

from dataclasses import replace

from nolabel.core import Optim
from nolabel.recipes import Recipe
from nolabel.recipes.cifar10 import MUON
from nolabel.views.image import OneView, TwoViews
from nolabel.views.parts import ImageAndParts, Patches, TwoViewsAndParts


def simclr(size: int) -> Recipe:
    """The setting of most published CIFAR-10 clocks: 200 epochs, batch 512, SGD 0.06 per 128 samples."""
    return Recipe(
        "resnet18",
        batch=512,
        epochs=200,
        fields={
            "temperature": 0.2,
            "views": TwoViews(size=size, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0)),
            "optim": Optim("sgd", lr=0.12, weight_decay=5e-4, warmup_epochs=10),
        },
    )


def moco_v2(size: int) -> Recipe:
    """The authors' CIFAR-10 demonstration, both views as queries: 85.3 % 200-NN there. It adds both losses at rate 0.06 and
    decay 5e-4; their mean takes the same steps at twice the rate, 0.06 per 256, and half the decay.
    """
    return Recipe(
        "resnet18",
        batch=512,
        epochs=200,
        fields={
            "temperature": 0.1,
            "momentum": 0.99,
            "queue": 4096,
            "hidden": 0,
            "symmetric": True,
            "views": TwoViews(size=size, jitter=(0.4, 0.4, 0.4, 0.1), blur=(0.0, 0.0)),
            "optim": Optim("sgd", lr=0.06, weight_decay=2.5e-4, warmup_epochs=0),
        },
    )


def moco_v3(size: int) -> Recipe:
    """The heads, views and LARS of solo-learn, in a fifth of its 1,000 epochs."""
    return Recipe(
        "resnet18",
        batch=256,
        epochs=200,
        fields={
            "layers": 2,
            "last_norm": False,
            "views": TwoViews(size=size, jitter=(0.4, 0.4, 0.2, 0.1), blur=(0.0, 0.0), solarize=(0.0, 0.2)),
            "optim": Optim("lars", lr=0.3, weight_decay=1e-6, trust=0.02, trust_clip=True, warmup_epochs=10),
        },
    )


def nnclr(size: int) -> Recipe:
    """A queue of 4,096, less than a tenth of the data."""
    return Recipe(
        "resnet18",
        batch=512,
        epochs=200,
        fields={
            "temperature": 0.2,
            "queue": 4096,
            "views": TwoViews(size=size, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0)),
            "optim": Optim("sgd", lr=0.12, weight_decay=5e-4, warmup_epochs=10),
        },
    )


def supcon(size: int) -> Recipe:
    """The paper's batch and rate for CIFAR-10, 200 of its 1,000 epochs."""
    return Recipe(
        "resnet18",
        batch=1024,
        epochs=200,
        fields={"views": TwoViews(size=size, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0))},
    )


def instance_discrimination(size: int) -> Recipe:
    """The authors' CIFAR-10 setting: cross-entropy over the whole bank; 80.8 % k-NN in the paper."""
    return Recipe(
        "resnet18",
        batch=128,
        epochs=200,
        fields={
            "temperature": 0.1,
            "negatives": 0,
            "softmax": True,
            "views": OneView(size=size, jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, gray=0.2),
            "optim": Optim("sgd", lr=0.06, weight_decay=5e-4, warmup_epochs=0, drops=(0.4, 0.6, 0.8)),
        },
    )


def simclr_v2(size: int) -> Recipe:
    """SimCLR's views under a head of three layers, and LARS, which deep heads ask for. Begun: 37.1 in five minutes, untrained
    27.6.
    """
    return Recipe(
        "resnet18",
        batch=512,
        epochs=200,
        fields={
            "temperature": 0.2,
            "hidden": 512,
            "views": TwoViews(size=size, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0)),
            "optim": Optim("lars", lr=0.4, weight_decay=1e-4, trust=0.02, trust_clip=True, warmup_epochs=10),
        },
    )


def moco_v1(size: int) -> Recipe:
    """The authors' CIFAR-10 demonstration with one view as query (82.6 % 200-NN there), in steps instead of its cosine.
    Begun: 29.6 in five minutes; with Muon, 34.6.
    """
    return Recipe(
        "resnet18",
        batch=512,
        epochs=200,
        fields={
            "temperature": 0.1,
            "momentum": 0.99,
            "queue": 4096,
            "views": TwoViews(size=size, jitter=(0.4, 0.4, 0.4, 0.1), blur=(0.0, 0.0)),
            "optim": Optim("sgd", lr=0.03, weight_decay=5e-4, warmup_epochs=0, drops=(0.6, 0.8)),
        },
    )


def infomin(size: int) -> Recipe:
    """A queue of 4,096 and keys that follow at once; a third, turned crop, for tiles of small images show little. Begun:
    34.4; with RandAugment, smaller crops and slower keys (momentum 0.9) 30.3.
    """
    fields = {
        "temperature": 0.2, "momentum": 0.5, "queue": 4096, "hidden": 512, "splits": 1, "optim": MUON,
        "views": TwoViewsAndParts(
            size=size, scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), blur=(0.0, 0.0), transform="rotation",
            part_scale=(0.3, 1.0), operations=0,
        ),
    }  # fmt: skip
    return Recipe("resnet18", batch=256, epochs=200, fields=fields)


def pirl(size: int) -> Recipe:
    """Turned crops, for tiles of 12 px show little; cross-entropy over the whole bank. Begun: 39.6."""
    views = ImageAndParts(size=size, scale=(0.2, 1.0), transform="rotation", part_scale=(0.3, 1.0))
    fields = {"temperature": 0.1, "negatives": 0, "softmax": True, "views": views, "optim": MUON}
    return Recipe("resnet18", batch=256, epochs=200, fields=fields)


def cmc(size: int) -> Recipe:
    """Between light and colours, cross-entropy over whole banks. Begun: 37.1, untrained 33.0."""
    views = OneView(size=size, scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1))
    fields = {"temperature": 0.1, "negatives": 0, "softmax": True, "views": views, "optim": MUON}
    return Recipe("resnet18", batch=256, epochs=200, fields=fields)


def amdim(size: int) -> Recipe:
    """The paper's views for CIFAR-10; scores of 128 units, held within 10. Begun: 44.5."""
    views = TwoViews(size=size, scale=(0.3, 1.0), jitter=(0.4, 0.4, 0.4, 0.2), gray=0.25, blur=(0.0, 0.0))
    return Recipe("resnet18", batch=256, epochs=200, fields={"units": 128, "clip": 10.0, "views": views, "optim": MUON})


def deep_infomax(size: int) -> Recipe:
    """InfoNCE over places and crops without the critic; the paper has the Jensen-Shannon bound of whole images, which with
    the tiny encoder gives 37.6 where this gives 50.5. Begun: 35.9.
    """
    fields = {
        "bound": "nce", "prior_weight": 0.0, "hidden": 256, "units": 128, "views": OneView(size=size), "optim": MUON,
    }  # fmt: skip
    return Recipe("resnet18", batch=256, epochs=200, fields=fields)


def drlim(size: int) -> Recipe:
    """SimCLR's views as neighbours, a map of 64 dimensions. Begun: 39.1."""
    views = TwoViews(size=size, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0))
    return Recipe("resnet18", batch=256, epochs=200, fields={"out": 64, "views": views, "optim": MUON})


def triplet(size: int) -> Recipe:
    """SimCLR's views and a head of 512. Begun: 40.8."""
    views = TwoViews(size=size, scale=(0.2, 1.0), strength=0.5, blur=(0.0, 0.0))
    return Recipe("resnet18", batch=256, epochs=200, fields={"hidden": 512, "views": views, "optim": MUON})


def cpc_v2(size: int) -> Recipe:
    """A grid of 5 x 5 patches, of 12 px where images have 32: patches of the third row on are apart. ResNet v2, as in the paper,
    whose stem is wide: with the small one a patch costs eight times as much.
    Begun at 32 px in batches of 128, eight minutes: linear 42.9, untrained 39.1; 20-NN 33.3, untrained 34.8, and rising.
    """
    patch = size * 3 // 8
    views = Patches(size=size, scale=(0.6, 1.0), patch=patch, stride=(size - patch) // 4)
    fields = {"width": 64, "depth": 2, "views": views, "optim": replace(MUON, lr=1.2e-2)}
    return Recipe("resnetv2_18", batch=128, epochs=200, fields=fields)


def cpc_v1(size: int) -> Recipe:
    """CPC v2's grid and net, in grey, patches as they are. Begun as that one: linear 39.8, untrained 34.9; 20-NN 29.2, untrained
    28.5.
    """
    patch = size * 3 // 8
    views = Patches(
        size=size, scale=(0.6, 1.0), patch=patch, stride=(size - patch) // 4, gray=1.0, drop_color=0.0,
        patch_scale=(0.88, 0.88), patch_ratio=(1.0, 1.0), patch_flip=0.0, patch_jitter=(0.0, 0.0, 0.0, 0.0), patch_gray=0.0,
    )  # fmt: skip
    fields = {"width": 64, "depth": 2, "views": views, "optim": replace(MUON, lr=1.2e-2)}
    return Recipe("resnetv2_18", batch=128, epochs=200, fields=fields)
