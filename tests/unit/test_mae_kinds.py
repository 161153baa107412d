"""MAE on tubes and spectrograms is MAE: presets change defaults only, targets are those of the papers."""

import inspect
from pathlib import Path

import torch

from nolabel import methods
from nolabel.methods.masked.mae import MAE
from tests.support import Noise, build


def test_presets_are_the_same_method_with_other_defaults():
    for name in ("videomae", "audio_mae"):
        kind = methods.load(name)
        assert kind.forward is MAE.forward and kind.build is MAE.build
        assert kind is methods.load(name) and methods.name_of(kind) == name
        assert "class " not in Path(inspect.getfile(kind)).read_text()
    assert methods.load("videomae")().mask == "tube" and MAE().mask == "random"
    assert methods.describe("videomae").modalities == ("video",)


def test_targets_by_channel():
    method = build("videomae")
    x_BMP = torch.randn(2, 5, method.encoder.patch_dim, generator=torch.Generator().manual_seed(0)).double()
    found, mean, deviation = method.target(x_BMP)
    values = method.encoder.patch_dim // 3
    for b in range(2):
        for m in range(5):
            for c in range(3):
                own = [float(x_BMP[b, m, v * 3 + c]) for v in range(values)]
                center = sum(own) / values
                spread = (sum((v - center) ** 2 for v in own) / (values - 1) + 1e-6) ** 0.5
                for v in range(values):
                    assert abs(float(found[b, m, v * 3 + c]) - (own[v] - center) / spread) < 1e-6
    torch.testing.assert_close(found * deviation + mean, x_BMP)


def test_what_is_seen_does_not_enter_the_loss():
    """The loss is the mean over hidden tubes, and nine tenths of the places are hidden at all times."""
    method = build("videomae", hide=0.9)
    noise = Noise.of(method)
    x = method.views(noise.at(0, 0), torch.Generator().manual_seed(0))["x"]
    torch.manual_seed(0)
    hide_BM = method.guess(x)[1]
    times, places = method.encoder.grid[0], method.encoder.length // method.encoder.grid[0]
    assert hide_BM.shape[1] == times * (places - round(places * 0.1))
    rows = method.show({"x": x}, None)
    assert rows["painted"].shape == (len(x) * x.shape[2], 3, 32, 32)
