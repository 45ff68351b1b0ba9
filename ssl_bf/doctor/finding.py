"""One line of the doctor: what was looked at, what it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["fine", "look", "wrong"]  # nothing to do; may be meant so; will fail or mislead


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    topic: str
    says: str

    def __str__(self) -> str:
        """As it is printed."""
        return f"{self.level:5}  {self.topic}: {self.says}"
