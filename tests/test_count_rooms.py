"""What the counts of the house are made with. Run: pytest tests/test_count_rooms.py."""

import pytest

from tests.count_rooms import arrows, counts, num_levels
from tests.test_architecture import ROOMS

GRAPH = {"p.a.x": {"p.a.y"}, "p.a.y": set(), "p.b.z": {"p.a.x", "p.a.y"}, "p.c": {"p.b.z"}}


def test_arrows_are_pairs_of_rooms_and_levels_follow_the_longest_way() -> None:
    assert arrows(GRAPH) == {("b", "a"), ("c", "b")}
    assert num_levels(arrows(GRAPH)) == 3
    assert num_levels({("c", "a"), ("c", "b"), ("b", "a")}) == 3
    assert num_levels(set()) == 1


@pytest.mark.parametrize("package", ROOMS)
def test_nothing_goes_upward(package: str) -> None:
    found = counts(package)
    assert found["upward arrows"] == 0
    assert found["levels of rooms"] <= found["rooms"] + found["modules at the root"]
