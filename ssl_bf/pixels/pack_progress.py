"""How far packing has come: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from linear_eval.system import screen
from linear_eval.system.printable import one_line

SAY_EVERY = 60.0  # seconds, where there is no terminal for a progress bar

T = TypeVar("T")


def say(text: str) -> None:
    """Tell the user at once, whatever becomes of the command."""
    screen.say(f"images: {one_line(text)}")


@dataclass
class _Rate:
    """How fast images come, for lines in a log."""

    began: float
    done: int = 0

    def line(self, place: Path, start: int, total: int) -> str:
        seconds = max(time.monotonic() - self.began, 1e-9)
        left = (total - start - self.done) * seconds / max(self.done, 1)
        return (
            f"{place}: {start + self.done} of {total} packed, {self.done / seconds:,.0f} images/s, "
            f"ETA {tqdm.format_interval(left)}"
        )


def with_progress(
    images: Iterator[T], place: Path, start: int, total: int
) -> Generator[T, None, None]:
    """The same with a bar on a terminal, and a line now and then elsewhere."""
    rate = _Rate(time.monotonic())
    said = rate.began
    with screen.progress_bar(images, "packing", total, unit="image", initial=start) as bar:
        for image in bar:
            yield image
            rate.done += 1
            if bar.disable and time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                say(rate.line(place, start, total))
