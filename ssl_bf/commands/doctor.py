"""`ssl-bf doctor`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_config, add_parser
from linear_eval.system.errors import RunFailed, load_torch
from ssl_bf.commands import before_torch
from ssl_bf.commands.pretrain import explain_key

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

EXAMPLE = """\
example:
  ssl-bf doctor moco_v2_cifar10 data.root=data/cifar10

Writes nothing. Exit code 1: something is wrong. A run may leave "look" as it is.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "doctor",
        says="say what would go wrong or be slow, before hours are spent",
        example=EXAMPLE,
        if_interrupted="nothing was written",
    )
    add_config(parser, "pretrain", "a YAML file or a packaged name")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for pretrain")
    parser.set_defaults(command=_doctor)


def _doctor(given: argparse.Namespace) -> None:
    from linear_eval.strict_config.places import LEFT_OUT

    for_missing = LEFT_OUT if given.explain is not None else None
    before_torch.check_config(given.config, given.overrides, for_missing)
    if given.explain is not None:
        before_torch.check_key(given.explain)
    load_torch(if_interrupted=given.if_interrupted)
    if given.explain is not None:
        print(explain_key(given.config, given.overrides, given.explain))
    else:
        doctor(given.config, given.overrides)


def doctor(source: str, overrides: Sequence[str]) -> None:
    """Print a line per finding.

    Raises:
        RunFailed: something is wrong.
    """
    from linear_eval.strict_config.reader import load_config
    from linear_eval.system.printable import one_line
    from ssl_bf.config import PretrainConfig
    from ssl_bf.doctor.examine import examine
    from ssl_bf.ranks.processes import joined_processes

    config = load_config(PretrainConfig, source, overrides, packaged="pretrain").value
    wrong = 0
    with joined_processes(config):
        for finding in examine(config):
            wrong += finding.level == "wrong"
            print(one_line(str(finding)), flush=True)
    if wrong:
        raise RunFailed(f"doctor: {wrong} thing(s) are wrong, see the lines that begin so")
