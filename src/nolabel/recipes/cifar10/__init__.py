"""One GPU and CIFAR-size images: ResNet-18 with the small stem; for methods of tokens ViT-Tiny with 4-px patches or, for
DINO's heirs, tokens behind convolutions.

nolabel train METHOD --data cifar10 --encoder resnet18 --recipe cifar10

Where no figure is published at this size a recipe says how far it was run. `Begun` is 20-NN after five minutes of one CPU core
at 16 px, in batches of 64 of 10,000 images (results/compare-cifar10-10k-cifar10-recipe.md; SimCLR there: 39.8, untrained 28.5):
it shows that a setting learns, or that it takes longer.
"""

from nolabel.core import Optim

MUON = Optim("muon", lr=6e-3, weight_decay=0.05, scaled=False, warmup_epochs=5)
"""for methods without a published small setting, as in their tiny recipes, at half the rate since runs are long"""
