"""One GPU and CIFAR-size images: ResNet-18 with the small stem, ViT-Tiny with 4-px patches.

nolabel train METHOD --data cifar10 --encoder resnet18 --recipe cifar10
"""
