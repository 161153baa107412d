"""Runs are killed with two methods always, and with a third that changes; with --all-methods, with every one."""

from nolabel import methods
from tests.sampling import sample


def pytest_generate_tests(metafunc):
    if "killed" in metafunc.fixturenames:
        everything = metafunc.config.getoption("--all-methods")
        metafunc.parametrize("killed", methods.names() if everything else sample(1, always=("mae", "simclr")))
