"""The command `ssl-bf`. Imports stay light here, so that `--help` answers at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from linear_eval import __version__
from linear_eval.system.errors import run_command
from linear_eval.system.line_parser import LineParser, complete
from linear_eval.system.printable import one_line
from ssl_bf.commands import COMMANDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; a malformed line exits with 2 at once."""
    parser = _parser()
    complete(parser)
    given = parser.parse_all(arguments)
    given.if_interrupted = one_line(given.if_interrupted.format_map(vars(given)))
    return run_command(partial(given.command, given), if_interrupted=given.if_interrupted)


def _parser() -> LineParser:
    parser = LineParser(
        prog="ssl-bf",
        description="Pretrain image backbones with MoCo-v2, MoCo-v3 or SimSiam and BatchFormer.",
        epilog="example: ssl-bf pretrain quickstart run.directory=runs/mine seed=1",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ssl-bf {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
