"""How often something happens, as a config says it: `10min`, `500steps`, `5epochs`."""

from __future__ import annotations

import re
from dataclasses import dataclass

EXPECTED = "a number with its unit, such as 90s, 10min, 2h, 500steps or 5epochs"
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_COUNTED = {"step": "steps", "steps": "steps", "epoch": "epochs", "epochs": "epochs"}
_TEXT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([a-z]+)")


@dataclass(frozen=True)
class Interval:
    """One of both is 0: a time, or a number of updates.

    Attributes:
        seconds: of wall-clock time.
        steps: optimizer updates.
    """

    seconds: float = 0.0
    steps: int = 0


def read_interval(text: str, steps_per_epoch: int = 1) -> Interval:
    """What the text says.

    Raises:
        ValueError: it says nothing of the kind; the message lacks the key.
    """
    found = _TEXT.fullmatch(text)
    number, unit = (float(found[1]), found[2]) if found else (0.0, "")
    if number > 0 and unit in _SECONDS:
        return Interval(seconds=number * _SECONDS[unit])
    if number >= 1 and number.is_integer() and unit in _COUNTED:
        is_epochs = _COUNTED[unit] == "epochs"
        return Interval(steps=int(number) * (steps_per_epoch if is_epochs else 1))
    raise ValueError(f"expected {EXPECTED}, got '{text}'")
