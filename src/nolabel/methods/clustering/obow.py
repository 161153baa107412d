r"""OBoW: from crops, guess which visual words the whole image has for a teacher whose vocabulary moves along.

Gidaris, Bursuc, Puy, Komodakis, Cord, Perez, "OBoW: Online Bag-of-Visual-Words Generation for Self-Supervised Learning",
CVPR 2021, arXiv:2012.11552.

    bag(x) = L1-normalised max over places of  softmax_k( -|t(x)_place - w_k|^2 / (delta mu) )            (section 3.2)
    L = sum over crop sizes, mean over levels of  KL( bag(x) || softmax( kappa f(crop) . n(G(n(w_k))) ) )     (section 3)
    w <- queue of one 3 x 3 mean of t(x) an image;  mu <- .99 mu + .01 mean_place min_k |.|^2;  t <- EMA of f

Shapes: B images, C channels of a level, L its places, K words, D features. The words of the targets are those of the
logits, before the queue moves. What is kept is the student. Differs: the place a word is taken from is dealt by a hash
of image and step, alike on any number of ranks; small crops are drawn one by one, not cut from one image; maps of fewer
than five places a side keep their border.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim
from nolabel.core.dist import mean_over_ranks
from nolabel.core.random import deal
from nolabel.losses.cluster import bag_of_words, products, square_distances, usage
from nolabel.losses.distill import cross_entropy_soft
from nolabel.losses.geometry import feature_std
from nolabel.networks.ema import EMA
from nolabel.networks.memory import Queue
from nolabel.networks.mlp import mlp
from nolabel.views.crops import WholeAndCrops


class OBoW(Method):
    codewords: int = 8192
    """K"""
    levels: int = 2
    """how many of the encoder's last feature maps have a vocabulary each (conv4 and conv5)"""
    sharpness: float = 15.0
    """1 / delta; 10 for ResNet-18"""
    scale: float = 8.0
    """kappa; 5 for ResNet-18"""
    momentum: tuple[float, float] = (0.99, 1.0)
    """of the teacher, a cosine from first to last"""
    distance_momentum: float = 0.99
    """of mu"""
    views: WholeAndCrops = WholeAndCrops()
    optim: Optim = Optim("sgd", lr=0.03, weight_decay=1e-4, scaled=False, warmup_epochs=10, final_lr=3e-5)

    def build(self, data, image):
        self.encoder, self.teacher = image, EMA(image)
        dims = image.map_dims[-self.levels :]
        self.generators = nn.ModuleList(mlp(dim, 2 * image.dim, image.dim) for dim in dims)
        self.vocabularies = nn.ModuleList(Queue(self.codewords, dim, unit=False) for dim in dims)
        for vocabulary in self.vocabularies:
            vocabulary.rows.normal_().clamp_(min=0)
        self.register_buffer("mean_distance", torch.full((self.levels,), 0.5))

    def forward(self, views, t):
        weights_KD = [F.normalize(g(F.normalize(v.rows, dim=1)).float(), dim=1)
                      for g, v in zip(self.generators, self.vocabularies)]  # fmt: skip
        bags_BK = self.bags(views["whole"], deal(views["index"], t.step, 2**30))
        entropy = torch.stack([-(b * b.clamp_min(1e-12).log()).sum(1).mean() for b in bags_BK]).mean()
        loss, sizes = 0.0, [name for name in ("global", "local") if name in views]
        features = [self.encoder(views[name].flatten(0, 1)).unflatten(0, views[name].shape[:2]) for name in sizes]
        for f_VBD in features:
            for w_KD, bag_BK in zip(weights_KD, bags_BK):
                logits_VBK = self.scale * products(f_VBD, w_KD)
                loss = loss + cross_entropy_soft(logits_VBK, bag_BK.expand_as(logits_VBK)) / self.levels
        logs = {
            "words_used": usage(bags_BK[-1]),
            "words_an_image": entropy.exp(),
            "std": feature_std(features[0].flatten(0, 1)),
            "distance": self.mean_distance[-1].clone(),
        }
        return loss - len(sizes) * entropy, logs

    @torch.no_grad()
    def bags(self, whole, lot_B):
        """Bags of every level; then new words, one an image by its lot."""
        bags_BK, maps = [], self.teacher.net.maps(whole)[1][-self.levels :]
        for level, (map_BCHW, words) in enumerate(zip(maps, self.vocabularies)):
            if min(map_BCHW.shape[2:]) >= 5:
                map_BCHW = map_BCHW[..., 1:-1, 1:-1]
            distance_BLK = square_distances(map_BCHW.flatten(2).mT, words.rows)
            nearest = mean_over_ranks(distance_BLK.amin(2).mean())
            mean = self.mean_distance[level].lerp_(nearest, 1 - self.distance_momentum)
            bags_BK.append(bag_of_words(distance_BLK, self.sharpness / mean))
            places_BLC = F.avg_pool2d(map_BCHW.float(), min(3, *map_BCHW.shape[2:]), stride=1).flatten(2).mT
            words.enqueue(places_BLC[torch.arange(len(lot_B), device=lot_B.device), lot_B % places_BLC.shape[1]])
        return bags_BK

    def after_step(self, t):
        self.teacher.update(self.encoder, t.cosine(*self.momentum))
