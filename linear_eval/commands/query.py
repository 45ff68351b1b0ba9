"""`linear-eval query`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_parser, add_verbose
from linear_eval.system.errors import InputError, load_torch
from linear_eval.system.printable import printable

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

EXAMPLE = """\
example:
  linear-eval query photos_index beach.jpg --k 5
  linear-eval query photos_index beach.jpg dog.jpg --sheet found.png --json found.json

Prints one line per neighbour: query, rank, cosine similarity, path (separated by tabs). The
backbone is found where it was when the index was made; if it moved, give --backbone.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "query",
        says="find the indexed images most like given ones (needs faiss)",
        example=EXAMPLE,
    )
    parser.add_argument("index", metavar="INDEX", type=Path, help="made by linear-eval index")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="an image file")
    parser.add_argument("--k", type=int, default=10, help="number of neighbours; default: 10")
    parser.add_argument("--backbone", metavar="FILE", type=Path, help="default: where it was")
    parser.add_argument("--sheet", metavar="FILE.png", type=Path, help="show what was found")
    parser.add_argument("--json", metavar="FILE.json", type=Path, help="write what was found")
    parser.add_argument("--max-pixels", metavar="N", type=int, help="of an image; default: data's")
    add_verbose(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.set_defaults(command=_query, late_go_to="images")


def _query(given: argparse.Namespace) -> None:
    if not given.index.is_dir():
        raise InputError(
            f"{printable(str(given.index))}: no such folder, expected an index; make one with "
            "`linear-eval index`"
        )
    load_torch(if_interrupted=given.if_interrupted)
    from linear_eval.own_images.query import query

    query(
        given.index,
        [Path(image) for image in given.images],
        k=given.k,
        backbone=given.backbone,
        sheet=given.sheet,
        answers=given.json,
        max_pixels=given.max_pixels,
        verbose=given.verbose,
        overwrite=given.overwrite,
    )
