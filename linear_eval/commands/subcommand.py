"""What the commands' argument parsers have in common."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linear_eval.system.line_parser import LineParser

    Commands = argparse._SubParsersAction[LineParser]

STORED_FEATURES = "only files named above were written; stored features are read the next time"


def add_parser(
    commands: Commands,
    name: str,
    *,
    says: str,
    example: str,
    if_interrupted: str = "only files named above were written",
) -> argparse.ArgumentParser:
    """Parser of one command.

    Args:
        commands: of the whole command line.
        name: the command.
        says: what it does, for the list of commands and its own help.
        example: below its own help.
        if_interrupted: what there is then, and how to go on.
    """
    parser = commands.add_parser(
        name,
        help=says,
        description=f"{says[0].upper()}{says[1:]}.",
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(if_interrupted=if_interrupted)
    return parser


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """`key=value ...`, also after options."""
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        help="dotted keys of the config, e.g. data.max_images=1000",
    )
    parser.set_defaults(late_go_to="overrides")


def add_config(
    parser: argparse.ArgumentParser, packaged: str, says: str, *, metavar: str = "CONFIG"
) -> None:
    """CONFIG, whose packaged names a shell can complete, and `--explain`."""
    config = parser.add_argument("config", metavar=metavar, help=says)
    config.completer = partial(_names, packaged)  # type: ignore[attr-defined]  # read by argcomplete
    parser.add_argument("--explain", metavar="KEY", help="say what a key means, and stop")


def _names(packaged: str, **_: object) -> list[str]:
    from linear_eval.strict_config.source import config_names

    return config_names(packaged)


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """`--verbose`, of commands that print notes."""
    parser.add_argument("--verbose", action="store_true", help="print all notes, not five at most")


def add_split(parser: argparse.ArgumentParser) -> None:
    """A backbone and the images of one split."""
    parser.add_argument("backbone", metavar="BACKBONE", type=Path, help="a backbone file")
    parser.add_argument("data", metavar="DATA", help="a config (as for run) or a folder of images")
    parser.add_argument(
        "--split",
        choices=("train", "test"),
        default="train",
        help="of a config, or of a folder with train/ and val/ or test/; default: train",
    )
