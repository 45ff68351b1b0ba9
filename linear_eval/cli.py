"""The command `linear-eval`. Imports stay light here, so that `--help` answers at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from linear_eval import __version__
from linear_eval.commands import COMMANDS, run
from linear_eval.system.errors import run_command
from linear_eval.system.line_parser import LineParser, complete


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; a malformed line exits with 2 at once."""
    parser = _parser()
    complete(parser)
    given = parser.parse_all(arguments)
    return run_command(partial(given.command, given), if_interrupted=given.if_interrupted)


def _parser() -> LineParser:
    parser = LineParser(
        prog="linear-eval",
        description="Judge a frozen image backbone: k-NN, linear probe, retrieval.",
        epilog=run.EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"linear-eval {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser
