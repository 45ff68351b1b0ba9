"""`ssl-bf configs`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_parser

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

EXAMPLE = """\
example:
  ssl-bf configs

For ssl-bf pretrain NAME, linear-eval run NAME and ssl-bf ablate NAME. What a config
holds: ssl-bf pretrain NAME --show; what a key means: ssl-bf pretrain NAME --explain KEY.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "configs",
        says="list the packaged configs",
        example=EXAMPLE,
        if_interrupted="nothing was written",
    )
    parser.set_defaults(command=_configs)


def _configs(given: argparse.Namespace) -> None:
    del given
    from linear_eval.strict_config.source import packaged_configs

    for folder, command in (
        ("pretrain", "ssl-bf pretrain"),
        ("evaluate", "linear-eval run"),
        ("study", "ssl-bf ablate"),
    ):
        configs = packaged_configs(folder)
        print(f"{command} NAME")
        width = max(len(name) for name in configs)
        for name, says in configs.items():
            print(f"  {name:{width}}  {says}")
