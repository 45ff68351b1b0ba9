"""An argument parser that refuses a malformed command line in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from linear_eval.errors import EXIT_WRONG_INPUT, one_line


class LineParser(argparse.ArgumentParser):
    """Without the many lines of usage that argparse prints first; its commands inherit that."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and which help to read, and exit with 2."""
        self.exit(EXIT_WRONG_INPUT, f"error: {one_line(message)}; see {self.prog} --help\n")
