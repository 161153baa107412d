"""One GPU and CIFAR-size images: ResNet-18 with the small stem, for CPC ResNet v2 with its own; for methods of tokens ViT-Tiny
with 4-px patches or, for DINO's heirs, tokens behind convolutions.

nolabel train METHOD --data cifar10 --recipe cifar10

Where no figure is published at this size, a setting is what was found with the tiny encoders on CIFAR-10, under the larger
net, and was begun. `Begun` is 20-NN after six minutes of one CPU core in batches of 64 of 10,000 images: ResNet-18 at 16 px,
untrained 28.5, SimCLR's published setting 39.8 after five; tokens at 32 px after five, untrained 31.7 (one seed each; tables in
results/cifar10-recipe). It shows that a setting learns, not where it ends.
"""

from nolabel.core import Optim

MUON = Optim("muon", lr=6e-3, weight_decay=0.05, scaled=False, warmup_epochs=5)
"""for methods without a published small setting, as in their tiny recipes, at half the rate since runs are long. On a CPU it
takes half of a step of 64, and yet: after five minutes MoCo v1 and CMC are at 34.6 and 37.9 (rate 1.2e-2), with SGD at 29.6 and
29.4"""
