"""`linear-eval architectures`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_parser
from linear_eval.system.errors import load_torch

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

EXAMPLE = """\
example:
  linear-eval architectures
  linear-eval architectures 'timm:*efficientnet_lite*'

Each line: width of the features, usual size of the images in pixels, parameters.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "architectures",
        says="list the architectures that can be named",
        example=EXAMPLE,
        if_interrupted="nothing was written",
    )
    parser.add_argument(
        "pattern", metavar="PATTERN", nargs="?", default="*", help="such as resnet*; timm:* of timm"
    )
    parser.set_defaults(command=_architectures)


def _architectures(given: argparse.Namespace) -> None:
    load_torch(if_interrupted=given.if_interrupted)
    from linear_eval.backbones.catalogue import TIMM_LINE, described, matching

    width = max(len(name) for name in matching(given.pattern))
    for name in matching(given.pattern):
        print(f"{name:{width}}  {described(name)}", flush=True)
    if given.pattern == "*":
        print(TIMM_LINE)
