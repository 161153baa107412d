"""All methods where they fit into --learning-minutes; else those that changed and, in turn, some of the others."""

from nolabel import methods
from tests.sampling import sample

SECONDS = 45
"""what the short form of one method takes on one core, judging included"""


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        count = int(60 * metafunc.config.getoption("--learning-minutes") // SECONDS)
        everything = metafunc.config.getoption("--all-methods") or count >= len(methods.names())
        metafunc.parametrize("name", methods.names() if everything else sample(count) if count else [])
