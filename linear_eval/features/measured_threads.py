"""The number of threads that computes fastest now, measured by trying.

More threads are not always faster. The work that they share may be too short. And a thread whose
core is busy with another process holds up all others, many times over.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch

from linear_eval.features.table import Embed
from linear_eval.system.cores import asked_threads, core_use, lacks_cores, torch_threads

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 5
FEWER_ROUNDS = 3  # where all of them take longer than LONG
LONG = 0.5  # seconds
HOPELESS = 2.0  # times as slow at best as another in two rounds, or its square in one: left out
TRIED_SECONDS = 0.015  # what is tried takes at least so long, or is all there is
ONE_KERNEL = 16  # images: with fewer, one thread takes other kernels than several
BESIDE_OTHERS = 5, 0.1  # turns, and seconds of each; then waits are met as often as later
NOTICED = 0.3  # seconds of work after which one can say whether others want the cores
AGAIN_AFTER = 60.0  # seconds; what else runs on the machine comes and goes
AT_FIRST_AFTER = 10.0  # seconds of work; shorter work is measured only beside other processes

Clock = Callable[[], float]
K = TypeVar("K")


def seconds_by_turns(
    tried: Mapping[K, Callable[[], object]], clock: Clock = time.perf_counter
) -> dict[K, list[float]]:
    """How long each takes, several times by turns so that all meet the same disturbance.

    Call each once before: first calls make what libraries keep.

    Returns:
        For each its seconds, at least one; those of the hopeless are fewest.
    """
    seconds: dict[K, list[float]] = {name: [] for name in tried}
    began = clock()
    for number in range(ROUNDS):
        if number >= FEWER_ROUNDS and clock() - began > LONG:
            break
        least = min(map(min, seconds.values())) if number else float("inf")
        hopeless = HOPELESS if number > 1 else HOPELESS**2
        for name, call in tried.items():
            if min(seconds[name], default=0.0) <= hopeless * least:
                start = clock()
                call()
                seconds[name].append(clock() - start)
    return seconds


def thread_counts(cores: int) -> list[int]:
    """What to try: all, one fewer (beside one busy process), then a quarter fewer each time."""
    counts = [cores, max(1, cores - 1)]
    while counts[-1] > 1:
        counts.append(counts[-1] * 3 // 4)
    return sorted(set(counts), reverse=True)


def seconds_by_threads(
    call: Callable[[], object],
    cores: int,
    clock: Clock = time.perf_counter,
) -> dict[int, float]:
    """Seconds of `call` by the number of threads that torch uses, up to `cores`.

    The median of a few calls: it takes a fraction of a second. Where other processes want the cores
    too, the mean of many, because a thread that wakes gets its core at once and waits for it later,
    seldom but long. Numbers so small that each only gets slower are not tried.
    """
    before = core_use()
    tried: dict[int, Callable[[], object]] = {}
    least = float("inf")
    for count in thread_counts(cores):
        start = clock()
        _with_threads(count, call)
        took = clock() - start
        tried[count] = partial(_with_threads, count, call)
        if took > HOPELESS**2 * least:
            break
        least = min(least, took)
    turns = seconds_by_turns(tried, clock)
    if lacks_cores(before, core_use()):
        return _beside_others(tried, clock)
    return {count: statistics.median(seconds) for count, seconds in turns.items()}


def _beside_others(tried: Mapping[K, Callable[[], object]], clock: Clock) -> dict[K, float]:
    """Mean seconds of each, in turns of several calls; fewer turns where one call takes longer."""
    turns, long = BESIDE_OTHERS
    seconds, calls = dict.fromkeys(tried, 0.0), dict.fromkeys(tried, 0)
    began = clock()
    for _ in range(turns):
        if clock() - began > turns * long * len(tried):
            break
        for name, call in tried.items():
            start = clock()
            while (took := clock() - start) < long:
                call()
                calls[name] += 1
            seconds[name] += took
    return {name: seconds[name] / calls[name] for name in tried}


def fastest(seconds: Mapping[K, float]) -> K:
    """The name of the least."""
    return min(seconds, key=seconds.__getitem__)


def long_enough(call: Callable[[int], object], most: int, clock: Clock = time.perf_counter) -> int:
    """The number of images, 2 or twice as many again and again up to `most`, to be tried with."""
    images = min(2, most)
    while True:
        for _ in range(2):  # the first time, libraries make what they keep for this number
            start = clock()
            call(images)
            took = clock() - start
            if took > 10 * TRIED_SECONDS:
                return images
        if images == most or took >= TRIED_SECONDS:
            return images
        images = min(2 * images, most)


def on_fastest_threads(embed: Embed, device: torch.device) -> Embed:
    """`embed` on a CPU with the number of threads that is fastest now, up to torch's own number.

    Features are equal to the bit whatever it is, as far as we have seen: torch takes other kernels
    for one thread than for several only where there are fewer than `ONE_KERNEL` images, and these
    keep torch's own number. It is measured on the first images of a batch: at once if other
    processes want the cores, after some seconds of work otherwise, and then every minute again.
    """
    cores = torch.get_num_threads()
    if device.type != "cpu" or cores == 1 or asked_threads() is not None:
        return embed
    chosen, worked, pause, before = cores, 0.0, AT_FIRST_AFTER, core_use()

    def faster(images: Tensor) -> Tensor:
        nonlocal chosen, worked, pause, before
        if len(images) < ONE_KERNEL:
            return embed(images)
        if NOTICED < worked <= pause == AT_FIRST_AFTER and lacks_cores(before, core_use()):
            pause = 0.0
        if worked > pause:
            count = long_enough(lambda count: embed(images[:count]), len(images))
            chosen = fastest(seconds_by_threads(lambda: embed(images[:count]), cores))
            worked, pause = 0.0, AGAIN_AFTER
        start = time.perf_counter()
        if not worked:
            before = core_use()
        with torch_threads(chosen):
            features = embed(images)
        worked += time.perf_counter() - start
        return features

    return faster


def _with_threads(count: int, call: Callable[[], object]) -> None:
    with torch_threads(count):
        call()
