"""`linear-eval index`."""

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
  linear-eval index runs/mine/backbone.safetensors ~/photos --output photos_index
  linear-eval index runs/mine/backbone.safetensors tiny_imagenet_40 data.root=/data/tiny \\
      --split test --kind hnsw --output tiny_index

Writes a folder: the faiss index, the names of the images, and what it was made of. flat is exact;
ivf and hnsw are faster on many images, and print how much of the 10 nearest they find.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "index",
        says="make images searchable by their features (needs faiss)",
        example=EXAMPLE,
        if_interrupted=STORED_FEATURES,
    )
    add_split(parser)
    parser.add_argument("--output", metavar="FOLDER", type=Path, required=True)
    parser.add_argument(
        "--kind", choices=("flat", "ivf", "hnsw"), default="flat", help="default: flat, exact"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an index that exists")
    add_overrides(parser)
    add_verbose(parser)
    parser.set_defaults(command=_index)


def _index(given: argparse.Namespace) -> None:
    require_backbone(given.backbone)
    load_torch(if_interrupted=given.if_interrupted)
    from linear_eval.own_images.index_images import index_images

    index_images(
        given.backbone,
        given.data,
        given.overrides,
        split_name=given.split,
        kind=given.kind,
        output=given.output,
        overwrite=given.overwrite,
        verbose=given.verbose,
    )
