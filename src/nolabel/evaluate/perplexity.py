"""Perplexity: how many words a language model hesitates between, on the test split, beside an n-gram of the same words.

    perplexity = exp( mean over tokens of -log p(x_i | x_1 ... x_{i-1}) )

Every token but START and PAD is predicted, END included. The control without a network, the column `raw_input`, is
interpolated Kneser-Ney of order 5 (Ney, Essen, Kneser, Computer Speech and Language 1994) trained on the training split.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nolabel.core import UserError
from nolabel.core.types import PAD
from nolabel.evaluate.baselines import RawInput
from nolabel.evaluate.features import EvalData, autocast, batches, frozen, to_device


@dataclass(frozen=True)
class Perplexity:
    """`perplexity` of a causal text encoder whose embedding also scores words, and `bits` a token."""

    order: int = 5
    """of the n-gram"""
    discount: float = 0.75
    """of the n-gram"""

    name: ClassVar[str] = "perplexity"
    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = ("perplexity",)
    labelled: ClassVar[bool] = False

    def __call__(self, encoder: Any, data: EvalData) -> dict[str, float]:
        """On the test split. Raises UserError where the encoder is no language model."""
        if isinstance(encoder, RawInput):
            train, test = (_ids(data, split).numpy() for split in ("train", "test"))
            loss = -NGram(train, self.order, self.discount).log_p(test).mean()
            return {"perplexity": math.exp(loss), "bits": loss / math.log(2)}
        if not getattr(encoder, "causal", False):
            raise UserError("the encoder does not predict words from those before them")
        total, count = 0.0, 0
        device = torch.device(data.device)
        with frozen(encoder):
            for text in _ids(data, "test").split(data.batch):
                text_BL = text.to(device)
                with autocast(device, data.precision):
                    h_BLD = encoder.encode(text_BL[:, :-1])
                    logits_BLV = F.linear(h_BLD, encoder.words.weight.to(h_BLD.dtype))
                next_BL = text_BL[:, 1:]
                nll = F.cross_entropy(logits_BLV.float().transpose(1, 2), next_BL, ignore_index=PAD, reduction="sum")
                total, count = total + float(nll), count + int((next_BL != PAD).sum())
        return {"perplexity": math.exp(total / count), "bits": total / count / math.log(2)}


def _ids(data: EvalData, split: str) -> Tensor:
    """Token ids (N, L) of a split as the encoder takes them."""
    source, device = data.splits[split], torch.device("cpu")
    parts = batches(source, torch.arange(len(source)), data.batch)
    return torch.cat([data.transform(to_device(part, device)) for part in parts])


class NGram:
    """Interpolated Kneser-Ney with one discount:

    p_n(w | h) = (max(c(h w) - d, 0) + d t(h) p_{n-1}(w | h')) / c(h),  h' without its first word, t(h) the number of
    different words after h. Below the highest order c(g) counts the different words before g. p_0 is uniform over the words
    that occur, and one more.
    """

    def __init__(self, ids_NL: NDArray, order: int = 5, discount: float = 0.75) -> None:
        self.order, self.discount = order, discount
        self.uniform = 1 / (len(np.unique(ids_NL[ids_NL != PAD])) + 1)
        grams = [_grams(ids_NL, n) for n in range(1, order + 1)]
        self.tables = []
        for n, (full_M, context_M, _, _) in enumerate(grams, 1):
            if n < order:  # each different longer n-gram counts once; what begins a text has none, and counts itself
                _, first = np.unique(grams[n][0], return_index=True)
                begins = grams[n - 1][3]
                full_M = np.concatenate((grams[n][2][0][first], full_M[begins]))
                context_M = np.concatenate((grams[n][2][1][first], context_M[begins]))
            keys, at, counts = np.unique(full_M, return_index=True, return_counts=True)
            contexts, of = np.unique(context_M[at], return_inverse=True)
            totals, types = np.bincount(of, counts), np.bincount(of)
            self.tables.append((keys, counts, contexts, totals, types))

    def log_p(self, ids_NL: NDArray) -> NDArray:
        """Log probability of every token that is predicted, one after the other (M,)."""
        n_rows, length = ids_NL.shape
        p_NL = np.full((n_rows, length), self.uniform)
        for n, (keys, counts, contexts, totals, types) in enumerate(self.tables, 1):
            full, context, places = _hashes(ids_NL, n)
            c, seen = _look(keys, counts, full), _look(contexts, totals, context)
            kinds = _look(contexts, types, context)
            lower = p_NL[places]
            known = np.maximum(c - self.discount, 0) + self.discount * kinds * lower
            p_NL[places] = np.where(seen > 0, known / np.maximum(seen, 1), lower)
        return np.log(p_NL[:, 1:][ids_NL[:, 1:] != PAD])


def _hashes(ids_NL: NDArray, n: int) -> tuple[NDArray, NDArray, tuple[NDArray, NDArray]]:
    """Hashes of all n-grams and of all but their last words, and where they end. None holds PAD."""
    length = ids_NL.shape[1]
    rows, last = np.nonzero(ids_NL[:, n - 1 :] != PAD) if n <= length else (np.zeros(0, int), np.zeros(0, int))
    last = last + n - 1
    context = np.full(len(rows), n, np.uint64)
    for k in range(n - 1, 0, -1):
        context = _mix(context, ids_NL[rows, last - k])
    return _mix(context, ids_NL[rows, last]), context, (rows, last)


def _grams(ids_NL: NDArray, n: int) -> tuple[NDArray, NDArray, tuple[NDArray, NDArray], NDArray]:
    """Hashes of the n-grams that end after the first token, of their contexts, of both one word shorter; which begin."""
    full, context, (rows, last) = _hashes(ids_NL, n)
    predicted = last > 0
    rows, last = rows[predicted], last[predicted]
    short = np.full(len(rows), n - 1, np.uint64)
    for k in range(n - 2, 0, -1):
        short = _mix(short, ids_NL[rows, last - k])
    return full[predicted], context[predicted], (_mix(short, ids_NL[rows, last]), short), last == n - 1


def _mix(hash_M: NDArray, word_M: NDArray) -> NDArray:
    with np.errstate(over="ignore"):
        x = (hash_M ^ word_M.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        return x ^ (x >> np.uint64(31))


def _look(keys: NDArray, values: NDArray, wanted: NDArray) -> NDArray:
    """The values of keys, ascending, 0 for those that are not there."""
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
