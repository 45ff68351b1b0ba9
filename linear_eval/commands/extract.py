"""`linear-eval extract`."""

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
  linear-eval extract runs/mine/backbone.safetensors ~/photos --output photos.npy
  linear-eval extract runs/mine/backbone.safetensors cifar10 data.root=/data/cifar10 \\
      --split test --output cifar10_test.npy

Writes features (images x width, float32) to FILE.npy, and image names and labels to FILE.json, in
the same order. A folder of images is read at the size that the backbone was trained on, unless
image_size= or images.* say otherwise.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "extract",
        says="write a backbone's features for one's own tools",
        example=EXAMPLE,
        if_interrupted=STORED_FEATURES,
    )
    add_split(parser)
    parser.add_argument("--output", metavar="FILE.npy", type=Path, required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    add_overrides(parser)
    add_verbose(parser)
    parser.set_defaults(command=_extract)


def _extract(given: argparse.Namespace) -> None:
    require_backbone(given.backbone)
    load_torch(if_interrupted=given.if_interrupted)
    from linear_eval.own_images.extract import extract

    extract(
        given.backbone,
        given.data,
        given.overrides,
        split_name=given.split,
        output=given.output,
        overwrite=given.overwrite,
        verbose=given.verbose,
    )
