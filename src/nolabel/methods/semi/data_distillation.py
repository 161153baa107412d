r"""Data distillation: predictions averaged over transforms of an image are its new label; a student learns all labels.

Radosavovic, Dollar, Girshick, Gkioxari, He, "Data Distillation: Towards Omni-Supervised Learning", CVPR 2018,
arXiv:1712.04440.

    p_j = 1 / T  sum_t  p(transform_t(u_j)),   y'_j = argmax p_j, for the most confident share of each class    (section 3)
    L   = mean over rows with a label, given or made, of  H( y, p(x) )

Shapes: n rows with a label, N samples, C classes. Stage 0 trains the teacher on the labels; stage 1 the student, afresh,
on the union, each batch mixed 6 : 4. Transforms are zooms and mirror images. Differs: the paper finds boxes and
keypoints; for classes the threshold becomes a share of each guessed class, which keeps them balanced. Samples that got no
label stay in the batches, and count for nothing.
"""

import torch
import torch.nn.functional as F

from nolabel.core import Method, Optim, labelled_rows
from nolabel.core.dist import mean_over_ranks
from nolabel.losses.semi import most_confident, weighted_cross_entropy
from nolabel.networks.classifier import Ensemble, classifier
from nolabel.networks.ema import EMA
from nolabel.views.weak import Weak


class DataDistillation(Method):
    stages = 2
    zooms: tuple[float, ...] = (1.0, 1.15, 1.3)
    """how much the transforms enlarge; each is used as it is and mirrored"""
    made: float = 0.5
    """share of each guessed class that gets a label"""
    given: float = 0.6
    """share of each batch whose labels are given"""
    views: Weak = Weak(size=32)
    optim: Optim = Optim(
        "sgd", lr=0.03, momentum=0.9, nesterov=True, weight_decay=5e-4, warmup_epochs=0, scaled=False
    )  # fmt: skip

    @property
    def labelled(self):
        return self.given

    def build(self, data, image):
        self.model = classifier(image, data)
        self.start = EMA(self.model)  # never moves: what both stages start from
        self.register_buffer("guess", torch.full((data.size,), -1))

    def begin_stage(self, t, data):
        if t.stage == 0:
            return
        p_NC = mean_over_ranks(data.encode(Ensemble(self.model, self.zooms)))  # each rank has batch norms of its own
        chosen_N = most_confident(p_NC, data.labels < 0, self.made)
        self.guess.copy_(torch.where(chosen_N, p_NC.argmax(1), -1))
        self.model.load_state_dict(self.start.net.state_dict())

    def forward(self, views, t):
        n = labelled_rows(self.labelled, len(views["label"]))
        if t.stage == 0:
            loss = F.cross_entropy(self.model(views["x"][:n]).float(), views["label"][:n])
            return loss, {"supervised": loss.detach()}
        label_B = torch.cat((views["label"][:n], self.guess[views["index"][n:]]))
        logits_BC = self.model(views["x"]).float()
        has_B = (label_B >= 0).float()
        return weighted_cross_entropy(logits_BC, label_B.clamp(min=0), has_B), {"labelled": has_B.mean()}

    def predict(self, x):
        return self.model(x)

    def kept(self):
        return self.model[0]
