"""The clustering family; see the package."""

from nolabel.recipes import Recipe


def swav(size: int) -> Recipe:
    """ResNet-50, batch 4,096, 800 epochs: 75.3 % linear top-1 in the paper's table 1."""
    return Recipe("resnet50", batch=4096, epochs=800)


def seer(size: int) -> Recipe:
    """RegNetY-256GF, batch 8,192, a billion images seen once: 84.2 % top-1 after fine-tuning (its largest net)."""
    return Recipe("regnety_2560", batch=8192, epochs=1)


def deepcluster_v2(size: int) -> Recipe:
    """ResNet-50, batch 4,096, 800 epochs: 75.2 % linear top-1 in the paper's table 1."""
    return Recipe("resnet50", batch=4096, epochs=800)


def deepcluster(size: int) -> Recipe:
    """VGG-16, batch 256, 200 epochs. It has the two wide layers itself, in timm without dropout and with the last ReLU, which
    the paper takes away before k-means.
    """
    return Recipe("vgg16_bn", batch=256, epochs=200, fields={"hidden": 0})


def sela(size: int) -> Recipe:
    """ResNet-50, batch 256, 400 epochs: 61.5 % linear top-1."""
    return Recipe("resnet50", batch=256, epochs=400)


def local_aggregation(size: int) -> Recipe:
    """ResNet-50, batch 128, 10 epochs of instance discrimination and 200 of local aggregation: 58.8 % linear top-1."""
    return Recipe("resnet50", batch=128, epochs=210)


def obow(size: int) -> Recipe:
    """ResNet-50, batch 256, 200 epochs: 73.8 % linear top-1."""
    return Recipe("resnet50", batch=256, epochs=200)


def deepercluster(size: int) -> Recipe:
    """VGG-16, batch 3,072, 100 epochs; the paper's data are 96 million images of YFCC100M. Its wide layers: see deepcluster."""
    return Recipe("vgg16_bn", batch=3072, epochs=100, fields={"hidden": 0, "clusters": 40000})
