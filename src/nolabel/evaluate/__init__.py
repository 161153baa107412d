"""Protocols that judge a frozen encoder: one file each, none of which knows how it was trained."""

from nolabel.evaluate.classify import Classifier, Classify
from nolabel.evaluate.features import EvalData, Features, extract
from nolabel.evaluate.finetune import FineTune
from nolabel.evaluate.judge import Evaluator, Judgement, judge, judge_pairs
from nolabel.evaluate.knn import KNN
from nolabel.evaluate.linear import Linear
from nolabel.evaluate.lowshot import LowShot
from nolabel.evaluate.online import OnlineKNN
from nolabel.evaluate.perplexity import Perplexity
from nolabel.evaluate.propagation import Propagation
from nolabel.evaluate.retrieval import Retrieval
from nolabel.evaluate.segments import Segments
from nolabel.evaluate.zeroshot import ZeroShot

__all__ = [
    "KNN",
    "Classifier",
    "Classify",
    "EvalData",
    "Evaluator",
    "Features",
    "FineTune",
    "Judgement",
    "Linear",
    "LowShot",
    "OnlineKNN",
    "Perplexity",
    "Propagation",
    "Retrieval",
    "Segments",
    "ZeroShot",
    "extract",
    "judge",
    "judge_pairs",
]
