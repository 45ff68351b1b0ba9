"""Lines about how the images of splits were found, for whoever reads the screen."""

from __future__ import annotations

from collections.abc import Iterable

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.system import screen
from linear_eval.system.distributed import is_main
from linear_eval.system.printable import one_line


def tell_notes(splits: Iterable[ImageSplit]) -> None:
    """Print each note of the splits once, before the work begins; of several processes, one."""
    if is_main():
        for note in dict.fromkeys(note for split in splits for note in split.notes):
            screen.say(f"note: {one_line(note)}")
