r"""Knowledge distillation: a net matches the softened outputs, or the features, of a frozen teacher.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NeurIPS Workshop 2014, arXiv:1503.02531.

    labels:   L = alpha T^2 KL( softmax(t / T) || softmax(s / T) ) + (1 - alpha) CE(s, y)                  (section 2)
    features: L = 1 - cos( A s(x), t(x) )    without labels

Stage 1 of `labels` trains the teacher: a classifier on the frozen encoder of the file `teacher`, or, where none is given,
a whole net of the student's kind (Furlanello et al. 2018: born again). Stage 2 trains the student; rows without a label
take part in the first term, which alone (alpha = 1) is the last step of SimCLR v2. Teacher and student see the same view,
the teacher in evaluation mode. Shapes: B images, D features, E of the teacher, K classes. Differs: a student born again
starts from the weights from which its teacher started, not from others.
"""

import copy
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from nolabel.core import Method, Optim, UserError
from nolabel.encoders.files import load_encoder
from nolabel.losses.distill import kl, negative_cosine
from nolabel.views.image import OneView


class KnowledgeDistillation(Method):
    target: Literal["labels", "features"] = "labels"
    """what is matched: class probabilities, or features where there are no labels"""
    teacher: str = ""
    """encoder.safetensors of a run, whose views must be normalised alike; without it the teacher is trained first"""
    temperature: float = 4.0
    """T"""
    alpha: float = 0.9
    """weight of the teacher against the labels"""
    share: float = 1.0
    """share of each batch that carries labels"""
    views: OneView = OneView(size=224, scale=(0.08, 1.0))
    optim: Optim = Optim("sgd", lr=0.2, weight_decay=5e-4, warmup_epochs=0)

    @property
    def labelled(self):
        """Share of every batch that carries labels."""
        return self.share if self.target == "labels" else 0.0

    @property
    def stages(self):
        """The teacher's classifier is trained first."""
        return 2 if self.target == "labels" else 1

    def build(self, data, image):
        self.encoder = image
        if self.target == "features" and not self.teacher:
            raise UserError("distilling features needs a teacher: give --teacher runs/NAME/encoder.safetensors")
        if self.target == "labels" and not data.classes:
            raise UserError("distilling labels needs classes and this data has none: give --target features")
        expert = load_encoder(Path(self.teacher)) if self.teacher else copy.deepcopy(image)
        self.expert = expert.requires_grad_(False)
        if self.target == "labels":
            self.expert_head = nn.Linear(expert.dim, len(data.classes))
            self.head = nn.Linear(image.dim, len(data.classes))
        else:
            self.head = nn.Linear(image.dim, expert.dim)

    def groups(self, t):
        teaches = t.stage < self.stages - 1
        own = [self.expert] if teaches and not self.teacher else []
        trained = [self.expert_head, *own] if teaches else [self.encoder, self.head]
        return {"all": [p for module in trained for p in module.parameters()]}

    def forward(self, views, t):
        x, teaches = views["x"], t.stage < self.stages - 1
        self.expert.train(teaches and not self.teacher)
        with torch.set_grad_enabled(teaches and not self.teacher and torch.is_grad_enabled()):
            seen_BE = self.expert(x)
        if self.target == "features":
            loss = 1 + negative_cosine(self.head(self.encoder(x)), seen_BE)
            return loss, {"cosine": 1 - loss.detach()}
        expert_BK = self.expert_head(seen_BE).float()
        if teaches:
            return self.supervised(expert_BK, views["label"])
        logits_BK = self.head(self.encoder(x)).float()
        loss, logs = self.supervised(logits_BK, views["label"])
        soft = kl(logits_BK, expert_BK, self.temperature)
        agreement = (logits_BK.argmax(1) == expert_BK.argmax(1)).float().mean()
        return self.alpha * soft + (1 - self.alpha) * loss, {**logs, "kl": soft.detach(), "agreement": agreement}

    def predict(self, x):
        return self.head(self.encoder(x)) if self.target == "labels" else None

    def supervised(self, logits_BK, label_B):
        """Cross-entropy over the rows that have a label, and their accuracy."""
        known_B = (label_B >= 0).float()
        cost_B = F.cross_entropy(logits_BK, label_B, ignore_index=-1, reduction="none")
        count, right_B = known_B.sum().clamp(min=1), (logits_BK.argmax(1) == label_B).float()
        return cost_B.sum() / count, {"accuracy": (right_B * known_B).sum() / count}
