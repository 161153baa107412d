"""Runs are killed with two methods always, and with a third that changes; with --all-methods, with every one."""

from nolabel import methods
from tests.sampling import sample


def pytest_generate_tests(metafunc):
    if "killed" in metafunc.fixturenames:
        everything = metafunc.config.getoption("--all-methods")
        metafunc.parametrize(
            "killed",
            [n for n in (methods.names() if everything else sample(3, always=("mae", "simclr"))) if _on_images(n)],
        )


def _on_images(name):
    """Whether images alone are enough: the file of the test holds nothing else."""
    kind = methods.load(name)
    return tuple(kind.views.reads) == ("image",) and kind.labelled == 0
