"""Methods under Lightning: they train, their hooks run, their schedule sets the rate."""

import pytest
import torch

from tests.support import Noise, build

lightning = pytest.importorskip(
    "lightning.pytorch", reason="the adapter needs lightning: pip install 'nolabel[lightning]'"
)


def test_a_method_trains_under_lightning():
    from nolabel.adapters.lightning import MethodModule

    method = build("byol")
    noise = Noise.of(method)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    batches = [noise.at(0, step) for step in range(noise.epoch_steps)]
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(MethodModule(method), torch.utils.data.DataLoader(batches, batch_size=None))
    after = method.state_dict()
    assert not torch.equal(after["online.0.stem.weight"], before["online.0.stem.weight"])
    target = [k for k in after if k.startswith("target.") and k.endswith("stem.weight")]
    assert target and all(not torch.equal(after[k], before[k]) for k in target), "after_step moved the average"


def test_the_schedule_sets_the_rate():
    from nolabel.adapters.lightning import MethodModule

    method = build("simclr")
    first = Noise.of(method).at(0, 0)
    module = MethodModule(method)
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader([first], batch_size=None))
    start = dict(build("simclr").named_parameters())
    moved = {k: (p - start[k]).abs().max() for k, p in method.named_parameters()}
    # AdamW's first step is one learning rate in every coordinate with a gradient, whatever the views drew
    assert all(0 < v <= 1.1e-3 for k, v in moved.items() if k.endswith("weight")), moved


def test_stages_are_refused():
    from nolabel.adapters.lightning import MethodModule

    method = build("simclr")
    type(method).stages = 2
    try:
        with pytest.raises(ValueError, match="stages"):
            MethodModule(method)
    finally:
        type(method).stages = 1
