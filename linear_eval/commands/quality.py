"""`linear-eval quality`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import (
    STORED_FEATURES,
    add_overrides,
    add_parser,
    add_split,
    add_verbose,
)
from linear_eval.system.errors import load_torch, require_backbone

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

EXAMPLE = """\
example:
  linear-eval quality runs/mine/backbone.safetensors ~/photos
  linear-eval quality runs/mine/backbone.safetensors cifar10 data.root=/data/cifar10 \\
      --split test --json quality.json

Prints RankMe, alignment and uniformity of the features, each with its range. Labels are not looked
at. A folder of images is read as by linear-eval extract.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "quality",
        says="judge features without labels: RankMe, alignment, uniformity",
        example=EXAMPLE,
        if_interrupted=STORED_FEATURES,
    )
    add_split(parser)
    parser.add_argument("--json", metavar="FILE.json", type=Path, help="write the numbers too")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a file that is not of this backbone"
    )
    add_overrides(parser)
    add_verbose(parser)
    parser.set_defaults(command=_quality)


def _quality(given: argparse.Namespace) -> None:
    require_backbone(given.backbone)
    load_torch(if_interrupted=given.if_interrupted)
    from linear_eval.own_images.quality import judge_quality

    judge_quality(
        given.backbone,
        given.data,
        given.overrides,
        split_name=given.split,
        output=given.json,
        verbose=given.verbose,
        overwrite=given.overwrite,
    )
