"""Warnings of image libraries are counted: the first is shown, the others are one number."""

from __future__ import annotations

import atexit
import warnings
from typing import Any

from linear_eval.system.printable import one_line
from linear_eval.system.screen import say

LIBRARY = r"PIL\..*"


class CountedWarnings:
    """Takes what Pillow warns of in place of the screen; everything else is shown as ever."""

    def __init__(self) -> None:
        self.count = 0
        self._show: Any = None

    def install(self) -> None:
        """Begin to count; the number comes when the process ends."""
        warnings.filterwarnings("always", category=UserWarning, module=LIBRARY)
        self._show = warnings.showwarning
        warnings.showwarning = self._take
        atexit.register(self.tell)

    def tell(self) -> None:
        """Say how many there were, beside the one that was shown."""
        if self.count > 1:
            say(f"warning: {self.count - 1} more warnings of the image library Pillow")

    def _take(self, message: Any, category: Any, filename: str, *rest: Any, **named: Any) -> None:
        if "PIL" not in filename or not issubclass(category, UserWarning):
            self._show(message, category, filename, *rest, **named)
            return
        self.count += 1
        if self.count == 1:
            say(f"warning: Pillow: {one_line(str(message))}")
