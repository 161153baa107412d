"""What the short forms reach: `python -m tests.learning [METHOD...]` prints half of each margin, for FLOOR of the study."""

import sys
import tempfile
from pathlib import Path

import torch

from nolabel import methods
from nolabel.studies.learning import short

torch.set_num_threads(1)
for name in sys.argv[1:] or methods.names():
    with tempfile.TemporaryDirectory() as folder:
        value, untrained = short(name, Path(folder) / "run")
    print(f'    "{name}": {(value - untrained) / 2:.1f},  # {value:.1f} of {untrained:.1f}', flush=True)
