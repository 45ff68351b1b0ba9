"""An argument parser that refuses a malformed command line in one line."""

from __future__ import annotations

import argparse
import os
from typing import Any, NoReturn

from linear_eval.system.errors import EXIT_WRONG_INPUT
from linear_eval.system.printable import one_line


class LineParser(argparse.ArgumentParser):
    """Without the many lines of usage that argparse prints first; its commands inherit that."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and which help to read, and exit with 2."""
        self.exit(EXIT_WRONG_INPUT, f"error: {one_line(message)}; see {self.prog} --help\n")

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """As in argparse, which would call `nargs="*"` required when something else is missing."""
        action = super().add_argument(*names, **options)
        action.required = action.required and action.nargs != "*"
        return action


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks how a line goes on, and exit; needs the package argcomplete."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete
    except ImportError:
        return  # the shell then has nothing to offer
    argcomplete.autocomplete(parser)
