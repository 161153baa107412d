"""The arithmetic of `python -m tests.claims`, whose trainings are no part of the suite."""

import pytest
import torch

from tests.claims import CLAIMS, Bar, asked, by_neighbours, falls, holds, verdict


def test_a_claim_holds_by_a_deviation():
    least, most = Bar("", lambda v: 0, 3), Bar("", lambda v: 0, 3, most=True)
    assert holds(least, [4, 5, 6]) and not holds(least, [2, 4, 6])
    assert holds(most, [1, 1.5, 2]) and not holds(most, [1, 2, 4])
    assert verdict(least, [2, 4, 6]) == "by the mean" and verdict(least, [1, 2, 3]) == "**no**"
    assert verdict(least, [4]) == "yes, one seed" and verdict(least, [2]) == "**no**, one seed"


def test_words_by_their_neighbours():
    train = torch.tensor([[5, 6, 7, 0], [5, 6, 7, 0], [5, 8, 9, 0]])
    assert by_neighbours(train, torch.tensor([[5, 6, 7, 0], [5, 8, 9, 0], [5, 8, 7, 0]])) == pytest.approx(200 / 3)


def test_the_smallest_fall():
    assert falls({"ahead_1": 9.0, "ahead_2": 5.0, "ahead_3": 4.5, "chance": 1.0}) == 0.5
    assert all(claim.bars for claim in CLAIMS.values())


def test_what_was_asked_has_a_number_of_its_own():
    assert len({asked(name) for name in CLAIMS}) == len(CLAIMS)
    assert asked("clip") == asked("clip")
