"""What the short forms reach: `python -m tests.learning [METHOD...]` trains each for 24 seconds on one core and prints the
steps and half of the margin, for FLOORS of the study, and what it reaches by its other criteria.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch

from nolabel import methods
from nolabel.studies.learning import judged_by, own_of, reached, short

torch.set_num_threads(1)
for name in sys.argv[1:] or methods.names():
    with tempfile.TemporaryDirectory() as folder:
        trained = short(name, Path(folder) / "run", minutes=0.4)
        last = json.loads((trained.folder / "metrics.jsonl").read_text().splitlines()[-1])
        first, *others = [*judged_by(name), *([f"own {own_of(name)}"] if own_of(name) else [])]
        value, untrained = reached(trained, first)
        said = f'    "{name}": Floor({last["step"]}, {(value - untrained) / 2:.1f}),  # {value:.1f} of {untrained:.1f}'
        for by in others:
            said += "; {} {:.3f} of {:.3f}".format(by, *reached(trained, by))
    print(said, flush=True)
