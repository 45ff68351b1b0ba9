"""`linear-eval run`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import (
    STORED_FEATURES,
    add_config,
    add_overrides,
    add_parser,
    add_verbose,
)
from linear_eval.system.errors import load_torch, require_backbone

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

EXAMPLE = """\
example:
  linear-eval run cifar10 data.root=/data/cifar10 backbone=runs/mine/backbone.safetensors \\
      'baselines=[pixels, random]'
  torchrun --nproc-per-node 4 -m linear_eval run cifar10 ...     (the images, and searches, shared)

CONFIG is a YAML file, or the name of a packaged one: quickstart, cifar10, tiny_imagenet_40,
imagenet100, image_folder, in_shop, revisited_oxford, cifar100_lt, domains. backbone= is a backbone
file, or `timm:NAME` (timm's own weights), or `pixels`, or `random` (then architecture= as well).
--show prints every key with its value, ??? must be given; --explain KEY says what one means.
Prints a table with five lines of notes at most (--verbose: all), and writes results.json beside the
backbone, or to output=FILE. Results of the same backbone are replaced there, those of another only
with --overwrite.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "run",
        says="evaluate a backbone, and baselines beside it",
        example=EXAMPLE,
        if_interrupted=STORED_FEATURES,
    )
    add_config(parser, "evaluate", "a YAML file or a packaged name")
    parser.add_argument("--show", action="store_true", help="print the whole config and stop")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace results of another backbone"
    )
    add_overrides(parser)
    add_verbose(parser)
    parser.set_defaults(command=_run)


def _run(given: argparse.Namespace) -> None:
    from linear_eval.evaluation.config import EvaluateConfig
    from linear_eval.strict_config.reader import load_config, to_yaml
    from linear_eval.system.agreement import agreed, working_together
    from linear_eval.system.atomic_file import check_stays

    missing = "???" if given.show or given.explain is not None else None
    with working_together():
        loaded = agreed(
            lambda: load_config(
                EvaluateConfig,
                given.config,
                given.overrides,
                packaged="evaluate",
                for_missing=missing,
            )
        )
        if given.explain is not None:
            from linear_eval.strict_config.explained import explain

            print(explain(EvaluateConfig, given.explain, loaded.value))
            return
        if given.show:
            print(to_yaml(loaded.value), end="")
            return
        if loaded.value.output is not None:
            reads = {"the config": [Path(given.config)]}
            asked = Path(loaded.value.output)
            agreed(lambda: check_stays(asked, "output", overwrite=True, reads=reads))
        for path in loaded.value.backbone_files:
            agreed(partial(require_backbone, path))
        load_torch(if_interrupted=given.if_interrupted)
        from linear_eval.evaluation.run import run

        run(loaded.value, loaded.notes, verbose=given.verbose, overwrite=given.overwrite)
