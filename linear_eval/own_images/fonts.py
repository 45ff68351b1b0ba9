"""Texts of any script, drawn with the fonts of this machine that have their letters.

A letter that a font lacks is never drawn as an empty box: a text with one that no font has is
replaced by a number, and `Lettering.numbered` says what the numbers stand for.
"""

from __future__ import annotations

import shutil
import subprocess
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linear_eval.system.printable import printable

if TYPE_CHECKING:
    from PIL import ImageDraw

_USUAL = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf")  # wider alphabets than Pillow's
_FOLDERS = (
    *("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts"),
    *("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
)
_PRETENDERS = ("lastresort", "adobeblank")  # have a box, or nothing, for every letter
_NO_LETTERS = "\uffff\U0010ffff"  # that no font has
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"  # without a form of their own
_SHAPED = ((0x900, 0xDFF), (0xF00, 0x109F), (0x1780, 0x17FF))  # Indic to Sinhala, Tibetan, Khmer
_TRIAL_SIZE = 24  # at which no two letters look alike

FontFile = tuple[str, int]
"""Path, and number of the face in it."""


class Font:
    """One font file, and which letters it has."""

    def __init__(self, drawing: Any) -> None:
        """Take a font of Pillow."""
        from PIL import ImageFont

        self.drawing = drawing
        self._can_shape = drawing.layout_engine == ImageFont.Layout.RAQM
        self._trial = drawing.font_variant(size=_TRIAL_SIZE, layout_engine=ImageFont.Layout.BASIC)
        self._missing = {self._form(letter) for letter in _NO_LETTERS}
        self._known: dict[str, bool] = {}

    def has(self, letters: str) -> bool:
        """Whether it can draw them all so that they can be read."""
        return all(self._has(letter) for letter in letters)

    def _has(self, letter: str) -> bool:
        if letter not in self._known:
            form = self._form(letter)
            is_there = form not in self._missing and any(form[1])
            self._known[letter] = letter in _JOINERS or letter.isspace() or is_there
        return self._known[letter] and (self._can_shape or not _needs_shaping(letter))

    def _form(self, letter: str) -> tuple[tuple[int, int], bytes]:
        mask = self._trial.getmask(letter, mode="L")
        return mask.size, bytes(mask)


class Lettering:
    """Draws texts of one size."""

    def __init__(
        self, size: int, search: Callable[[str], Sequence[FontFile]] | None = None
    ) -> None:
        """Look for fonts of `size` pixels; `search` names those for a letter, the best first."""
        self._size = size
        self._search = search or installed_fonts
        self._fonts: dict[FontFile, Font | None] = {}
        self._found: dict[str, Font | None] = {}
        self._usual = Font(_usual_font(size))
        self.numbered: dict[str, str] = {}

    @property
    def ascent(self) -> int:
        """From the top of a line to the foot of its letters, in pixels."""
        return int(self._usual.drawing.getmetrics()[0])

    def readable(self, text: str) -> str:
        """The text as it can be drawn: itself, or a number that `numbered` explains."""
        text = unicodedata.normalize("NFC", "".join(map(_shown, text)))
        if self._runs(text) is not None:
            return text
        return self.numbered.setdefault(text, f"(name {len(self.numbered) + 1})")

    def length(self, text: str) -> float:
        """Of a readable text, in pixels."""
        lengths = (font.drawing.getlength(part) for part, font in self._runs(text) or [])
        return float(sum(lengths))

    def shortened(self, text: str, width: float) -> str:
        """A readable text in at most `width` pixels, its middle left out where it is longer."""
        if self.length(text) <= width:
            return text
        kept = len(text) - 1
        while kept > 2:
            short = f"{text[: kept // 3]}...{text[-(kept - kept // 3) :]}"
            if self._runs(short) is not None and self.length(short) <= width:
                return short
            kept -= 1
        return "..."

    def draw(
        self, draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, fill: Any
    ) -> None:
        """Draw a readable text; `place` is the left end of the line's top."""
        x, y = place[0], place[1] + self.ascent
        for part, font in self._runs(text) or []:
            draw.text((x, y), part, fill, font.drawing, anchor="ls")
            x += font.drawing.getlength(part)

    def _runs(self, text: str) -> list[tuple[str, Font]] | None:
        """Parts of one font each, the font before wherever it can; None if a letter has none."""
        runs: list[tuple[str, Font]] = []
        for letters in _clusters(text):
            if runs and runs[-1][1].has(letters):
                runs[-1] = (runs[-1][0] + letters, runs[-1][1])
            elif font := self._font_for(letters):
                runs.append((letters, font))
            else:
                return None
        return runs

    def _font_for(self, letters: str) -> Font | None:
        if self._usual.has(letters):
            return self._usual
        if letters not in self._found:
            fonts = map(self._open, self._search(letters[0]))
            self._found[letters] = next((f for f in fonts if f and f.has(letters)), None)
        return self._found[letters]

    def _open(self, file: FontFile) -> Font | None:
        from PIL import ImageFont

        if file not in self._fonts:
            try:
                self._fonts[file] = Font(ImageFont.truetype(file[0], self._size, index=file[1]))
            except OSError:  # no outlines (most fonts of emoji), damaged, or gone
                self._fonts[file] = None
        return self._fonts[file]


@cache
def installed_fonts(letter: str) -> list[FontFile]:
    """Fonts of this machine that say they have a letter; without fontconfig, all there are."""
    tool = shutil.which("fc-list")
    if tool is None:
        return _fonts_in_folders()
    wanted = f":charset={ord(letter):x}"
    done = subprocess.run(
        [tool, "-f", "%{style}\t%{index}\t%{file}\n", wanted],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,  # what it cannot find is not there
    )
    lines = [line.split("\t", 2) for line in done.stdout.splitlines()]
    found = [(style, path, int(index) & 0xFFFF) for style, index, path in lines]
    return [(path, index) for _, path, index in sorted(found, key=_by_style) if _is_honest(path)]


@cache
def _fonts_in_folders() -> list[FontFile]:
    folders = [Path(folder).expanduser() for folder in _FOLDERS]
    files = [path for folder in folders for path in folder.rglob("*") if _is_font(path)]
    found = [(path.stem, str(path), 0) for path in files]
    return [(path, index) for _, path, index in sorted(found, key=_by_style) if _is_honest(path)]


def _is_font(path: Path) -> bool:
    return path.suffix.lower() in (".ttf", ".otf", ".ttc")


def _is_honest(path: str) -> bool:
    return not any(name in Path(path).name.lower() for name in _PRETENDERS)


def _by_style(found: tuple[str, str, int]) -> tuple[bool, str, int]:
    style, path, index = found
    return not any(name in style for name in ("Regular", "Book", "Medium")), path, index


def _usual_font(size: int) -> Any:
    from PIL import ImageFont

    for name in _USUAL:
        try:
            return ImageFont.truetype(name, size)
        except OSError:  # not on this machine
            continue
    return ImageFont.load_default(size)


def _shown(letter: str) -> str:
    return letter if letter in _JOINERS else printable(letter)


def _needs_shaping(letter: str) -> bool:
    """Whether letters side by side, from left to right, would not be what is written."""
    from_right = unicodedata.bidirectional(letter) in ("R", "AL")
    return from_right or any(first <= ord(letter) <= last for first, last in _SHAPED)


def _clusters(text: str) -> Iterator[str]:
    """Letters with the marks on them."""
    cluster = ""
    for letter in text:
        if cluster and not (unicodedata.category(letter)[0] == "M" or letter in _JOINERS):
            yield cluster
            cluster = ""
        cluster += letter
    if cluster:
        yield cluster
