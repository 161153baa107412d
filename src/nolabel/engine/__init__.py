"""The loop, checkpoints, processes and observers. Knows methods only as `core.Method`, and no modality."""

from nolabel.engine.checkpoint import Checkpoints
from nolabel.engine.observe import Observer
from nolabel.engine.run import Interrupted, NonFinite, OutOfMemory, Run
from nolabel.engine.settings import Settings

__all__ = ["Checkpoints", "Interrupted", "NonFinite", "Observer", "OutOfMemory", "Run", "Settings"]
