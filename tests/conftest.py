"""What tests share: the real sample sets (skipped with a reason where missing), one thread, no GPU, a private cache."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # one outcome on every machine: on a GPU recipes, devices and sums are others
torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption("--all-methods", action="store_true", help="run sampled tests on every method")
    parser.addoption(
        "--learning-minutes", type=float, default=0.0, help="time for the short forms of the learning study"
    )


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        mark = pytest.mark.skip(reason="slow: run with --slow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(mark)


@pytest.fixture(autouse=True, scope="session")
def _private_cache(tmp_path_factory):
    """Tests neither read nor fill the user's cache."""
    os.environ["NOLABEL_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data():
    """The folder of small real data sets."""
    folder = Path(os.environ.get("NOLABEL_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real sample sets: set NOLABEL_TEST_DATA to a folder with cifar10/train.parquet and friends")
    return folder
