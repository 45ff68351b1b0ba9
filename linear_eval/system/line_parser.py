"""An argument parser that refuses a malformed command line in one line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
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

    def parse_all(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """The whole line; overrides and images may come last.

        argparse takes no positional arguments after an option. A command that does names the
        argument that gets them as its default `late_go_to`.
        """
        given, late = self.parse_known_args(arguments)
        if unknown := [text for text in late if text.startswith("-")]:
            self.error(f"unknown option: {' '.join(unknown)}")
        if late and "late_go_to" not in given:
            self.error(f"unexpected: {' '.join(late)}, expected all files before the options")
        if late:
            getattr(given, given.late_go_to).extend(late)
        return given


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks how a line goes on, and exit; needs the package argcomplete."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete
    except ImportError:
        return  # the shell then has nothing to offer
    argcomplete.autocomplete(parser)
