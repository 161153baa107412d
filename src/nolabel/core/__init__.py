"""The contract everything stands on. Imports torch and nothing else."""

from nolabel.core.clock import Clock
from nolabel.core.method import Method, Preset, kept_by_modality
from nolabel.core.types import (
    Batch,
    DataInfo,
    Encoder,
    Logs,
    Optim,
    Source,
    TokenEncoder,
    UserError,
    ViewMaker,
    labelled_rows,
)

__all__ = [
    "Batch",
    "Clock",
    "DataInfo",
    "Encoder",
    "Logs",
    "Method",
    "Optim",
    "Preset",
    "Source",
    "TokenEncoder",
    "UserError",
    "ViewMaker",
    "kept_by_modality",
    "labelled_rows",
]
