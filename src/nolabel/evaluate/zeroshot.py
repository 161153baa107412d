"""Zero-shot: classes are told apart by their names alone, through prompts that the text encoder reads.

    w_c = n( mean over prompts p of n(text(p with the name of class c)) ),   prediction argmax_c cos(f, w_c)

Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, section 3.1.
arXiv:2103.00020. The untrained encoders are the control; `chance` stands in the settings.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.core import Batch, UserError
from nolabel.data.text import Sentence
from nolabel.evaluate.features import EvalData, autocast, frozen, to_device
from nolabel.evaluate.knn import top_accuracy


@dataclass(frozen=True)
class ZeroShot:
    """Accuracy in percent of the nearest prompt: `top1`, and `top5` where there are more than 5 classes."""

    templates: tuple[str, ...] = ("a {}", "a photo of a {}", "a picture of a {}", "there is a {}", "the {}")

    name: ClassVar[str] = "zero-shot"
    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("top1", "top5")
    labelled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for template in self.templates or ("",):
            if template.count("{}") != 1:
                raise UserError(f"the template '{template}' needs one {{}}, for the name of the class")

    def __call__(self, query: nn.Module, target: nn.Module, queries: EvalData, targets: EvalData) -> dict[str, float]:
        """Test samples against the prompts of their classes; `target` reads text, with the `tokenizer` of `targets`."""
        split: Any = queries.splits["test"]
        x_ND, y_N = queries.features(query, "test").labelled()
        weight_CD = self.weights(target, targets, split.classes)
        if x_ND.shape[1] != weight_CD.shape[1]:
            raise UserError(f"features of {x_ND.shape[1]} and {weight_CD.shape[1]} values lie in no common space")
        score_NC = F.normalize(x_ND, dim=1) @ weight_CD.T
        return {**top_accuracy(score_NC, y_N), "chance": 100 / len(split.classes)}

    def weights(self, encoder: nn.Module, data: EvalData, classes: tuple[str, ...]) -> Tensor:
        """A direction of length 1 for each class (C, D)."""
        if data.tokenizer is None:
            raise UserError("zero-shot needs a tokenizer")
        prompts = [t.replace("{}", name.replace("_", " ")) for name in classes for t in self.templates]
        decode = Sentence(data.words, data.tokenizer)
        ids = np.empty((len(prompts), data.words), np.int64)
        for prompt, row in zip(prompts, ids):
            decode(prompt, row)
        device, parts = torch.device(data.device), []
        # the view takes whole samples: any other columns do
        other: Batch = {k: v[:1] for k, v in data.splits["test"].take(torch.arange(1)).items() if isinstance(v, Tensor)}
        with frozen(encoder), autocast(device, data.precision):
            for part in torch.from_numpy(ids).split(data.batch):
                stored = {k: v.expand(len(part), *v.shape[1:]) for k, v in other.items()}
                view = data.transform(to_device({**stored, "text": part}, device))
                parts.append(encoder(view).float().cpu())
        each_CTD = F.normalize(torch.cat(parts), dim=1).unflatten(0, (len(classes), len(self.templates)))
        return F.normalize(each_CTD.mean(1), dim=1)
