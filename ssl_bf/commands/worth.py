"""`ssl-bf worth`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_parser
from linear_eval.system.errors import InputError, load_torch
from linear_eval.system.printable import printable

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

_MOST_MINUTES = 100_000  # two months

EXAMPLE = """\
example:
  ssl-bf worth photos
  ssl-bf worth photos --minutes 60 --frozen timm:resnet18.a1_in1k

FOLDER has a folder of images per class; or train/ and perhaps val/ and test/ with such folders in
them; or images without classes. What comes out is report.html in the output folder, with a verdict,
its interval and the accuracy by number of labels. The same command goes on where it stopped.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "worth",
        says="whether pretraining pays on a folder of images, with an interval",
        example=EXAMPLE,
        if_interrupted="finished stages are kept; the same command goes on",
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="of images")
    parser.add_argument(
        "--minutes", metavar="M", type=float, default=30.0, help="it may take; default: 30"
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="of all files; default: runs/worth/NAME"
    )
    parser.add_argument(
        "--frozen",
        metavar="FILE|timm:NAME",
        action="append",
        default=[],
        help="pretrained weights to compare with and to start from; may be given more than once",
    )
    parser.add_argument("--no-labels", action="store_true", help="do not take folders for classes")
    parser.add_argument(
        "--jobs", metavar="N", type=int, help="runs at a time; default: one per core, or per GPU"
    )
    parser.set_defaults(command=_worth)


def _worth(given: argparse.Namespace) -> None:
    if not 0 < given.minutes <= _MOST_MINUTES:
        raise InputError(
            f"--minutes: {given.minutes:g}, expected a number above 0, up to {_MOST_MINUTES:,}; "
            "give one"
        )
    if given.jobs is not None and given.jobs < 1:
        raise InputError(f"--jobs: {given.jobs}, expected 1 or more; give that")
    output = given.output or Path("runs/worth") / given.folder.absolute().name
    if not given.folder.is_dir() and not output.is_dir():  # which may have the scanned images
        raise InputError(
            f"FOLDER: {printable(str(given.folder))} is no folder, expected one of images; "
            "give its path"
        )
    load_torch(if_interrupted=given.if_interrupted)
    from ssl_bf.worth.worth import Asked, worth

    worth(
        Asked(
            folder=given.folder,
            output=output,
            minutes=given.minutes,
            frozen=tuple(given.frozen),
            labels=not given.no_labels,
            jobs=given.jobs,
        )
    )
