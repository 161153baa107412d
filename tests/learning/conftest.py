"""Methods with a floor: all where they fit into --learning-minutes; else those that changed and, in turn, some others."""

from nolabel.studies._floors import FLOORS
from tests.sampling import sample

SECONDS = 45
"""what the short form of one method takes on one core, judging included"""


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        count = int(60 * metafunc.config.getoption("--learning-minutes") // SECONDS)
        chosen = list(FLOORS) if metafunc.config.getoption("--all-methods") else sample(count, among=FLOORS)
        metafunc.parametrize("name", chosen)
