"""A pretraining run that takes a second, and two processes that are started once."""

from collections.abc import Callable, Iterator

import pytest

from tests import combinations
from tests.two_gloo_processes import TwoProcesses, started


@pytest.fixture(scope="session")
def tiny() -> Callable[[str, str], list[str]]:
    """(method, relation) -> overrides of the quickstart: see `combinations`."""
    return combinations.tiny


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoProcesses]:
    with started(tmp_path_factory.mktemp("processes") / "store") as processes:
        yield processes
