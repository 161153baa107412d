"""What the short forms reach: `python -m tests.learning [METHOD...]` trains each for 24 seconds on one core and prints the
steps and half of the margin, for FLOORS of the study; of those with a criterion of their own also that.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch

from nolabel import methods
from nolabel.studies.learning import criterion_of, own_of, reached, short

torch.set_num_threads(1)
for name in sys.argv[1:] or methods.names():
    with tempfile.TemporaryDirectory() as folder:
        trained = short(name, Path(folder) / "run", minutes=0.4)
        last = json.loads((trained.folder / "metrics.jsonl").read_text().splitlines()[-1])
        value, untrained = reached(trained, criterion_of(name, own=False))
        said = f'    "{name}": Floor({last["step"]}, {(value - untrained) / 2:.1f}),  # {value:.1f} of {untrained:.1f}'
        if own_of(name):
            value, untrained = reached(trained, by := criterion_of(name, own=True))
            said += f"; {by} {value:.3f} of {untrained:.3f}"
    print(said, flush=True)
