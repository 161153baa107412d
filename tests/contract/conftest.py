"""Every test of this suite runs on every method of the folder listing."""

from nolabel import methods


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", methods.names())
