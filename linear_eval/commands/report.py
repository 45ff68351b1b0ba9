"""`linear-eval report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import STORED_FEATURES, add_parser, add_verbose
from linear_eval.system.errors import InputError, load_torch

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

EXAMPLE = """\
example:
  linear-eval report runs/mine
  linear-eval report runs/without runs/with --output comparison.html
  linear-eval report runs/mine --tables table.tex --curves curves.pdf

Each is a run directory, a results.json, a study.json, a worth.json, or a folder that holds one. The
page is one file that needs neither a server nor a network, and holds small copies of some images:
--no-images leaves them out. Without --output it is report.html beside what is named first.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "report",
        says="one page of HTML that shows runs, results and studies",
        example=EXAMPLE,
        if_interrupted=STORED_FEATURES,
    )
    parser.add_argument(
        "sources", metavar="RUN|RESULTS|STUDY|WORTH", type=Path, nargs="+", help="what is shown"
    )
    parser.add_argument("--output", metavar="FILE.html", type=Path, help="of the page")
    for name, ends in (("tables", ".csv, .md or .tex"), ("curves", ".csv, .png or .pdf")):
        parser.add_argument(
            f"--{name}",
            metavar="FILE",
            type=Path,
            action="append",
            default=[],
            help=f"write the {name} as well: {ends}; may be given more than once",
        )
    parser.add_argument(
        "--data-root", metavar="FOLDER", type=Path, help="where the images are, if they moved"
    )
    parser.add_argument("--no-images", action="store_true", help="show none")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that are no page of this command"
    )
    add_verbose(parser)
    parser.set_defaults(command=_report)


def _report(given: argparse.Namespace) -> None:
    if given.no_images and given.data_root is not None:
        raise InputError("--data-root: --no-images shows none; leave one of them out")
    from linear_eval.report.sources import check_sources

    check_sources(given.sources)
    load_torch(if_interrupted=given.if_interrupted)
    from linear_eval.report.page import ReportOptions, report

    options = ReportOptions(
        output=given.output,
        tables=tuple(given.tables),
        curves=tuple(given.curves),
        data_root=given.data_root,
        images=not given.no_images,
        overwrite=given.overwrite,
        verbose=given.verbose,
    )
    report(given.sources, options)
