"""The command `linear-eval`. Imports stay light here, so that `--help` answers at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval import __version__
from linear_eval.errors import InputError, run_command

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_RUN_EXAMPLE = """\
example:
  linear-eval run cifar10 data.root=/data/cifar10 backbone=runs/mine/backbone.safetensors \\
      'baselines=[pixels, random]'

CONFIG is a YAML file, or the name of a packaged one: quickstart, cifar10, tiny_imagenet_40,
imagenet100, image_folder. backbone= is a backbone file, or `pixels`, or `random` (then
architecture= as well).
Prints a table and writes results.json beside the backbone, or to output=FILE.
"""
_EXTRACT_EXAMPLE = """\
example:
  linear-eval extract runs/mine/backbone.safetensors ~/photos --output photos.npy
  linear-eval extract runs/mine/backbone.safetensors cifar10 data.root=/data/cifar10 \\
      --split test --output cifar10_test.npy

Writes features (images x width, float32) to FILE.npy, and image names and labels to FILE.json, in
the same order. A folder of images is read at the size that the backbone was trained on, unless
image_size= or images.* say otherwise.
"""
_COMPARE_EXAMPLE = """\
example:
  linear-eval compare runs/without/results.json runs/with/results.json
  linear-eval compare without_1 without_2 without_3 --against with_1 with_2 with_3 --paired

Two models: paired by test image; the intervals say how far other test images would move the
difference. Several pretraining runs per side: the intervals say how far other seeds would.
A folder stands for the results.json in it. Nothing is run again.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; a malformed line exits with 2 at once."""
    parser = _parser()
    given, late = parser.parse_known_args(arguments)
    # argparse takes no positional arguments after an option: overrides may well come last
    if unknown := [text for text in late if text.startswith("-")]:
        parser.error(f"unknown option: {' '.join(unknown)}; see linear-eval --help")
    if "overrides" in given:
        given.overrides += late
    elif late:
        parser.error(f"unexpected: {' '.join(late)}; give all files before the options")
    return run_command(lambda: given.command(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="linear-eval",
        description="Judge a frozen image backbone: k-NN, linear probe, retrieval.",
        epilog=_RUN_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"linear-eval {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_run(commands)
    _add_extract(commands)
    _add_compare(commands)
    return parser


def _add_run(commands: _Commands) -> None:
    parser = commands.add_parser(
        "run",
        help="evaluate a backbone, and baselines beside it",
        description="Evaluate a backbone, and baselines beside it.",
        epilog=_RUN_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG", help="a YAML file or a packaged name")
    _add_overrides(parser)
    parser.set_defaults(command=_run)


def _add_extract(commands: _Commands) -> None:
    parser = commands.add_parser(
        "extract",
        help="write a backbone's features for one's own tools",
        description="Write a backbone's features for one's own tools.",
        epilog=_EXTRACT_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("backbone", metavar="BACKBONE", type=Path, help="a backbone file")
    parser.add_argument("data", metavar="DATA", help="a config (as for run) or a folder of images")
    parser.add_argument("--output", metavar="FILE.npy", type=Path, required=True)
    parser.add_argument(
        "--split", choices=("train", "test"), default="train", help="default: train"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    _add_overrides(parser)
    parser.set_defaults(command=_extract)


def _add_compare(commands: _Commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="compare two models, or several runs of each, with intervals",
        description="Compare two models, or several runs of each, with intervals.",
        epilog=_COMPARE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    files = partial(parser.add_argument, metavar="RESULTS", type=Path, nargs="+")
    files("results", help="A and B; or, with --against, the runs of A")
    files("--against", help="the runs of B")
    parser.add_argument("--paired", action="store_true", help="run i of A belongs to run i of B")
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
    parser.set_defaults(command=_compare)


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        help="dotted keys of the config, e.g. knn.k=[20]",
    )


def _run(given: argparse.Namespace) -> None:
    from linear_eval.config import EvaluateConfig
    from linear_eval.evaluate import run
    from linear_eval.strict_config import load_config

    loaded = load_config(EvaluateConfig, given.config, given.overrides, packaged="evaluate")
    run(loaded.value, loaded.notes)


def _extract(given: argparse.Namespace) -> None:
    from linear_eval.extract import extract

    extract(
        given.backbone,
        given.data,
        given.overrides,
        split_name=given.split,
        output=given.output,
        overwrite=given.overwrite,
    )


def _compare(given: argparse.Namespace) -> None:
    from linear_eval.compare import CompareOptions, compare

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
    )
    compare(first, second, options)
