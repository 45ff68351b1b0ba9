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
imagenet100, image_folder, in_shop, revisited_oxford. backbone= is a backbone file, or `pixels`,
or `random` (then architecture= as well).
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
_INDEX_EXAMPLE = """\
example:
  linear-eval index runs/mine/backbone.safetensors ~/photos --output photos_index
  linear-eval index runs/mine/backbone.safetensors tiny_imagenet_40 data.root=/data/tiny \\
      --split test --kind hnsw --output tiny_index

Writes a folder: the faiss index, the names of the images, and what it was made of. flat is exact;
ivf and hnsw are faster on many images, and print how much of the 10 nearest they find.
"""
_QUERY_EXAMPLE = """\
example:
  linear-eval query photos_index beach.jpg --k 5
  linear-eval query photos_index beach.jpg dog.jpg --sheet found.png --json found.json

Prints one line per neighbour: query, rank, cosine similarity, path (separated by tabs). The
backbone is found where it was when the index was made; if it moved, give --backbone.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; a malformed line exits with 2 at once."""
    parser = _parser()
    given, late = parser.parse_known_args(arguments)
    # argparse takes no positional arguments after an option: overrides and images may come last
    if unknown := [text for text in late if text.startswith("-")]:
        parser.error(f"unknown option: {' '.join(unknown)}; see linear-eval --help")
    getattr(given, given.late_go_to).extend(late)
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
    _add_index(commands)
    _add_query(commands)
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
    _add_split(parser)
    parser.add_argument("--output", metavar="FILE.npy", type=Path, required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    _add_overrides(parser)
    parser.set_defaults(command=_extract)


def _add_index(commands: _Commands) -> None:
    parser = commands.add_parser(
        "index",
        help="make images searchable by their features",
        description="Make images searchable by their features (needs faiss).",
        epilog=_INDEX_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_split(parser)
    parser.add_argument("--output", metavar="FOLDER", type=Path, required=True)
    parser.add_argument(
        "--kind", choices=("flat", "ivf", "hnsw"), default="flat", help="default: flat, exact"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an index that exists")
    _add_overrides(parser)
    parser.set_defaults(command=_index)


def _add_query(commands: _Commands) -> None:
    parser = commands.add_parser(
        "query",
        help="find the indexed images that are most like given ones",
        description="Find the indexed images that are most like given ones (needs faiss).",
        epilog=_QUERY_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("index", metavar="INDEX", type=Path, help="made by linear-eval index")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="an image file")
    parser.add_argument("--k", type=int, default=10, help="number of neighbours; default: 10")
    parser.add_argument("--backbone", metavar="FILE", type=Path, help="default: where it was")
    parser.add_argument("--sheet", metavar="FILE.png", type=Path, help="show what was found")
    parser.add_argument("--json", metavar="FILE.json", type=Path, help="write what was found")
    parser.set_defaults(command=_query, late_go_to="images")


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backbone", metavar="BACKBONE", type=Path, help="a backbone file")
    parser.add_argument("data", metavar="DATA", help="a config (as for run) or a folder of images")
    parser.add_argument(
        "--split", choices=("train", "test"), default="train", help="default: train"
    )


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        help="dotted keys of the config, e.g. knn.k=[20]",
    )
    parser.set_defaults(late_go_to="overrides")


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


def _index(given: argparse.Namespace) -> None:
    from linear_eval.index_images import index_images

    index_images(
        given.backbone,
        given.data,
        given.overrides,
        split_name=given.split,
        kind=given.kind,
        output=given.output,
        overwrite=given.overwrite,
    )


def _query(given: argparse.Namespace) -> None:
    from linear_eval.query import query

    query(
        given.index,
        [Path(image) for image in given.images],
        k=given.k,
        backbone=given.backbone,
        sheet=given.sheet,
        answers=given.json,
    )
