"""Runs that repeat to the bit: algorithms that always add in the same order."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
CUBLAS_SETTING = ":4096:8"  # what cuBLAS's documentation names for repeatable sums


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Inside, an operation that cannot repeat to the bit raises; outside, all is as before.

    Open it before the first use of CUDA: cuBLAS reads its variable once.
    """
    before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, deterministic = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    variable = os.environ.get(CUBLAS_VARIABLE)
    os.environ[CUBLAS_VARIABLE] = CUBLAS_SETTING
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warned)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = (
            benchmark,
            deterministic,
        )
        if variable is None:
            del os.environ[CUBLAS_VARIABLE]
        else:
            os.environ[CUBLAS_VARIABLE] = variable
