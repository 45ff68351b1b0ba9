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
    given, late = parser.parse_known_args(arguments)
    # argparse takes no positional arguments after an option: overrides and images may come last
    if unknown := [text for text in late if text.startswith("-")]:
        parser.error(f"unknown option: {' '.join(unknown)}")
    if late and "late_go_to" not in given:
        parser.error(f"unexpected: {' '.join(late)}, expected all files before the options")
    if late:
        getattr(given, given.late_go_to).extend(late)
    return run_command(partial(given.command, given), if_interrupted=given.if_interrupted)


def _parser() -> argparse.ArgumentParser:
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
