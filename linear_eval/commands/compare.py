"""`linear-eval compare`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_parser, add_verbose
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

EXAMPLE = """\
example:
  linear-eval compare runs/without/results.json runs/with/results.json
  linear-eval compare without_1 without_2 without_3 --against with_1 with_2 with_3 --paired

Two models: paired by test image; the intervals say how far other test images would move the
difference. Several pretraining runs per side: the intervals say how far other seeds would.
A folder stands for the results.json in it. Nothing is run again.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "compare",
        says="compare two models, or several runs of each, with intervals",
        example=EXAMPLE,
    )
    files = partial(parser.add_argument, metavar="RESULTS", type=Path, nargs="+")
    files("results", help="A and B; or, with --against, the runs of A")
    files("--against", help="the runs of B")
    parser.add_argument(
        "--paired", action="store_true", help="runs of one pretraining seed belong together"
    )
    parser.add_argument(
        "--by",
        choices=("image", "class"),
        help="what is resampled for two models; class: where images of one are not independent",
    )
    parser.add_argument(
        "--common-images",
        action="store_true",
        help="leave out test images that one side could not read",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the comparison as well")
    add_verbose(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a FILE that exists")
    parser.set_defaults(command=_compare)


def _compare(given: argparse.Namespace) -> None:
    from linear_eval.comparison.compare import CompareOptions, compare

    first, second = given.results, given.against
    if second is None:
        if len(first) != 2:
            raise InputError(
                f"RESULTS: {len(first)} given, expected two, A and B; for several runs of either "
                "side put --against before those of B"
            )
        first, second = first[:1], first[1:]
    options = CompareOptions(
        by=given.by,
        common_images=given.common_images,
        paired=given.paired,
        json_file=given.json,
        verbose=given.verbose,
        overwrite=given.overwrite,
    )
    compare(first, second, options)
