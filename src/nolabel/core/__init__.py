"""The contract everything stands on. Imports torch and nothing else, and that when a name is asked for: what is told to the
user (`core.errors`) must not wait for it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nolabel.core.clock import Clock
    from nolabel.core.errors import UserError
    from nolabel.core.method import Method, Preset, kept_by_modality
    from nolabel.core.types import Batch, DataInfo, Encoder, Logs, Optim, Source, TokenEncoder, ViewMaker, labelled_rows

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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nolabel.core' has no attribute '{name}'")
    for part in ("errors", "clock", "types", "method"):
        module = importlib.import_module(f"nolabel.core.{part}")
        if hasattr(module, name):
            globals()[name] = getattr(module, name)
            return globals()[name]
    raise AssertionError(name)
