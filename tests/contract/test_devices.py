"""Every method's steps on a device that is not the CPU: nothing lies on the wrong one, and the host waits for nothing."""

import copy

from tests.processes import answer


def stepped(name):
    """Where the logs of two steps lie, and where the host waited in the second. Under autocast, by the rules of CUDA."""
    from nolabel.engine import Run, Settings
    from nolabel.engine.precision import attention_for, channels_last
    from tests import elsewhere
    from tests.support import Access, Feed, Noise, build

    method = build(name)
    source = Noise.of(method)
    elsewhere.install()
    device = elsewhere.DEVICE

    def moved(batch):
        return {k: v.to(device, non_blocking=True) for k, v in batch.items()}

    class There(Feed):
        def __next__(self):
            return moved(super().__next__())

    class Data(Access):
        labels = property(lambda self: source_access.labels.to(device))

    source_access, there = Access(source, method.views.plain), copy.copy(source)
    there.stored = moved(source.stored)
    data = Data(there, method.views.plain)
    method = attention_for(channels_last(method.to(device)), device)
    chosen = Settings(steps=2, batch=source.batch, log_every=100, precision="bf16")
    run = Run(method, source, chosen, feed=lambda s, start: There(source, s, start), data=data, device=device)
    places, waits, one = set(), [], run._one

    def watched(batches):
        elsewhere.waits.clear()
        one(batches)
        waits.append(dict(elsewhere.waits) if run.step > 1 else {})
        places.update(v.device.type for v in run.pending[-1].values())

    run._one = watched
    run.train()
    return places, waits


def test_a_step_lies_on_one_device_and_waits_for_nothing(name):
    places, waits = answer(240, stepped, name)
    assert places == {"elsewhere"}
    assert not any(waits), waits
