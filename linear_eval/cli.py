"""The command `linear-eval`. Imports stay light here, so that `--help` answers at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval import __version__
from linear_eval.errors import run_command

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
_QUALITY_EXAMPLE = """\
example:
  linear-eval quality runs/mine/backbone.safetensors ~/photos
  linear-eval quality runs/mine/backbone.safetensors cifar10 data.root=/data/cifar10 \\
      --split test --json quality.json

Prints RankMe, alignment and uniformity of the features, each with its range. Labels are not looked
at. A folder of images is read as by linear-eval extract.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; a malformed line exits with 2 at once."""
    parser = _parser()
    given, late = parser.parse_known_args(arguments)
    # argparse takes no positional arguments after an option: overrides may well come last
    if unknown := [text for text in late if text.startswith("-")]:
        parser.error(f"unknown option: {' '.join(unknown)}; see linear-eval --help")
    given.overrides += late
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
    _add_quality(commands)
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


def _add_quality(commands: _Commands) -> None:
    parser = commands.add_parser(
        "quality",
        help="judge features without labels: RankMe, alignment, uniformity",
        description="Judge features without labels: RankMe, alignment, uniformity.",
        epilog=_QUALITY_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("backbone", metavar="BACKBONE", type=Path, help="a backbone file")
    parser.add_argument("data", metavar="DATA", help="a config (as for run) or a folder of images")
    parser.add_argument(
        "--split", choices=("train", "test"), default="train", help="default: train"
    )
    parser.add_argument("--json", metavar="FILE.json", type=Path, help="write the numbers too")
    _add_overrides(parser)
    parser.set_defaults(command=_quality)


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


def _quality(given: argparse.Namespace) -> None:
    from linear_eval.quality import judge_quality

    judge_quality(
        given.backbone, given.data, given.overrides, split_name=given.split, output=given.json
    )
