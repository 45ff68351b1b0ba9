"""Threads in which torch computes on one core, beside a caller who may use all of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import torch


def serial_threads(count: int, name: str = "") -> ThreadPoolExecutor:
    """A pool of `count` threads that share no operation of torch among cores (products excepted).

    For decoding, resizing and copying while the caller computes. Else each of them would have a
    team of threads of its own; and as soon as there are more of these than cores, OpenMP lets every
    team sleep between two operations, that of the caller too: many short operations then take him
    three times as long on two cores.

    To be called by the thread whose operations shall use as many cores as before.
    """
    every = torch.get_num_threads()
    pool = _started(count, name)
    torch.set_num_threads(every)  # of the process, which each of them has set
    return pool


@contextmanager
def serial_threads_alone(count: int) -> Iterator[ThreadPoolExecutor]:
    """As `serial_threads`, for a caller who waits for them: products use one core each as well."""
    every = torch.get_num_threads()
    try:
        with _started(count, "") as pool:
            yield pool
    finally:
        torch.set_num_threads(every)


def _started(count: int, name: str) -> ThreadPoolExecutor:
    started = Barrier(count + 1)

    def start() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # from now on this thread asks the process no more
        started.wait()

    pool = ThreadPoolExecutor(count, name, initializer=start)
    for _ in range(count):
        pool.submit(int)  # all begin now: none is idle before the last has begun
    started.wait()
    return pool
