"""Reads the documents: fenced blocks, each with the mark above it, and what the text names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

RUN_ELSEWHERE = {"README.md", "docs/python.md"}  # its Python: tests/examples/test_python_page.py
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_FENCE = re.compile(r"^```(.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: where it stands.
        line: number of its opening fence.
        language: behind the fence.
        mark: the HTML comment that ends on the line above; empty where there is none.
        text: what is inside.
    """

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def kind(self) -> str:
        """The mark without what belongs to it: `run`, `prints`, `made by` or `not run`."""
        return re.sub(r"^run with$", "run", self.mark.partition(":")[0].strip())

    @property
    def overrides(self) -> list[str]:
        """What `run with` puts behind each command."""
        what, _, given = self.mark.partition(":")
        return given.split() if what == "run with" else []

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def shown(page: Path) -> str:
    """Its name in messages."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return list(_blocks(page, page.read_text(encoding="utf-8").splitlines()))


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    start: int | None = None
    for number, line in enumerate(lines):
        if not (match := _FENCE.match(line)):
            continue
        if start is None:
            start, language = number, match[1]
        else:
            inside = "\n".join(lines[start + 1 : number])
            yield Block(page, start + 1, language, _mark_above(lines, start), inside)
            start = None
    assert start is None, f"{shown(page)}: line {(start or 0) + 1}: a fence that does not end"


def _mark_above(lines: list[str], fence: int) -> str:
    if fence == 0 or not lines[fence - 1].endswith("-->"):
        return ""
    first = fence - 1
    while not lines[first].startswith("<!--"):
        first -= 1
    return " ".join(" ".join(lines[first:fence])[4:-3].split())


def commands(page: Path) -> list[list[str]]:
    """The words of each command that a page gives, run or not."""
    return [words for each in blocks(page) if each.language == "sh" for words in each.commands]


def prose(page: Path) -> list[tuple[int, str]]:
    """The lines outside of blocks and comments, with their numbers."""
    found, inside = [], ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if inside:
            inside = "" if (line.startswith("```") or "-->" in line) else inside
        elif line.startswith("```"):
            inside = "```"
        elif line.startswith("<!--"):
            inside = "" if "-->" in line else "<!--"
        else:
            found.append((number, line))
    return found


def quoted(page: Path) -> list[str]:
    """What stands between single backticks, outside of blocks."""
    text = "\n".join(line for _, line in prose(page))
    return [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", text)]


def matches(pattern: str, line: str) -> bool:
    """Whether a printed line is what a document says; `*` stands for anything, blanks for any."""
    parts = [re.escape(part) for part in " ".join(pattern.split()).split("*")]
    return re.fullmatch(".*".join(parts), " ".join(line.split())) is not None
