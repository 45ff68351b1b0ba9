"""What lies beside the images of a folder: counted while it is scanned, told in one line."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from linear_eval.datasets.image_formats import HEIF_ADVICE, HEIF_SUFFIXES
from linear_eval.datasets.system_files import is_expected_beside_images
from linear_eval.system.printable import printable

_SUFFIX = re.compile(r"[^\s.]{1,12}")
_SHOWN_SUFFIXES = 8
_SHOWN_NAMES = 3


@dataclass
class Unread:
    """Counts of the files that a scan did not take.

    Attributes:
        names: how many files of each kind: ".txt", "without suffix", "hidden .jpg".
        hidden_folders: none of the well-known ones; not entered.
        broken_links: links without the suffix of an image that lead nowhere.
        twice: folders that were read before under another path.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    hidden_folders: list[str] = field(default_factory=list)
    broken_links: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)

    def count(self, name: str) -> None:
        """Count a file that is not read as an image."""
        if not is_expected_beside_images(name):
            stem, _, suffix = name.rpartition(".")
            known = stem and _SUFFIX.fullmatch(suffix)
            self.kinds[f".{suffix.lower()}" if known else "without suffix"] += 1

    def summary(self) -> str:
        """Numbers by suffix, the largest first: "9 .txt, 3 .xmp, 2 without suffix"."""
        ordered = sorted(self.kinds.items(), key=lambda kind: (-kind[1], kind[0]))
        parts = [f"{count} {printable(kind)}" for kind, count in ordered[:_SHOWN_SUFFIXES]]
        rest = sum(count for _, count in ordered[_SHOWN_SUFFIXES:])
        return ", ".join([*parts, f"{rest} others"] if rest else parts)

    def notes(self, folder: Path) -> tuple[str, ...]:
        """One line about the folder, or none."""
        total = sum(self.kinds.values())
        said = []
        if total:
            are = "file is not read as an image" if total == 1 else "files are not read as images"
            said.append(f"{total} {are}: {self.summary()}")
        if any(f".{suffix}" in self.kinds for suffix in HEIF_SUFFIXES):
            said.append(f"HEIC and HEIF photographs: {HEIF_ADVICE}")
        if self.hidden_folders:
            said.append(f"hidden folders are not entered: {_few(self.hidden_folders)}")
        if self.broken_links:
            said.append(f"links that lead nowhere: {_few(self.broken_links)}")
        if self.twice:
            said.append(f"folders read again under another name (links): {_few(self.twice)}")
        return (f"{printable(str(folder))}: {'; '.join(said)}",) if said else ()


def _few(names: list[str]) -> str:
    shown = [printable(name) for name in sorted(names)[:_SHOWN_NAMES]]
    more = len(names) - len(shown)
    return ", ".join([*shown, f"and {more} more"] if more else shown)
