"""nolabel: self-supervised and semi-supervised learning.

import nolabel as nl
run = nl.train("simclr", data="photos/")        # the same verbs as on the command line; arrays will do, too
run = nl.load("runs/simclr-photos")
run.results, run.judge("cifar10/"), run.embed("photos/"), run.export("encoder.onnx"), run.report()
nl.catalogue()                                  # every method with paper, family and modality
nl.compare(["simclr", "byol"], data="photos/")  # several methods on one budget
"""

from typing import TYPE_CHECKING, Any

__all__ = ["Options", "Trained", "UserError", "catalogue", "compare", "load", "resume", "train"]

if TYPE_CHECKING:
    from nolabel.api import Options, Trained, catalogue, load, resume, train
    from nolabel.core import UserError
    from nolabel.studies.compare import compare


def __getattr__(name: str) -> Any:
    """Import torch only when a verb is used: the command's --help must not wait for it."""
    if name == "__version__":
        from importlib.metadata import version

        return version("nolabel")
    if name == "compare":
        from nolabel.studies.compare import compare

        return compare
    if name in __all__:
        from nolabel import api

        return getattr(api, name)
    raise AttributeError(f"module 'nolabel' has no attribute '{name}'")
