"""A pretraining run that takes a second."""

from collections.abc import Callable

import pytest

from tests import combinations


@pytest.fixture(scope="session")
def tiny() -> Callable[[str, str], list[str]]:
    """(method, relation) -> overrides of the quickstart: see `combinations`."""
    return combinations.tiny
