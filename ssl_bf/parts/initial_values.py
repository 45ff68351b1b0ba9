"""Initial values that depend on the seed and the part's name alone.

So adding a relation, or another head, leaves the initial backbone of a run untouched.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ssl_bf.keyed_random import key


@contextmanager
def initial_values(seed: int, part: str) -> Iterator[None]:
    """Inside, torch's global CPU generator is keyed by (seed, part); afterwards it is as before."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would reseed the GPU too, and nothing would put it back.
        torch.default_generator.manual_seed(key(seed, "initial values", part))
        yield
