"""`ssl-bf ablate`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_config, add_overrides, add_parser
from linear_eval.system.errors import load_torch

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands
    from ssl_bf.study.study_file import StudyConfig

EXAMPLE = """\
example:
  ssl-bf ablate quickstart 'seeds=[0,1]' epochs=2 jobs=1 directory=runs/try

STUDY is a YAML file, or the name of a packaged one (ssl-bf configs lists them). Keys of the study
(base, arms, seeds, budget, judge, contrasts, jobs, directory, ...) are its own; every other
key=value goes to the base config of all arms, data.* to the judge's config as well. The same
command goes on with what is there, and takes new seeds, arms and contrasts.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "ablate",
        says="compare arms over seeds, judged, with intervals",
        example=EXAMPLE,
        if_interrupted="finished runs are kept; the same command goes on",
    )
    add_config(parser, "study", "a YAML file or a packaged name", metavar="STUDY")
    add_overrides(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="say what is done, and stop")
    what.add_argument(
        "--pilot", action="store_true", help="say from three seeds how many are needed, and stop"
    )
    what.add_argument("--show", action="store_true", help="print the whole study and stop")
    parser.add_argument(
        "--launch",
        choices=("local", "slurm"),
        default="local",
        help="where runs work: here, or as jobs of Slurm (extra slurm)",
    )
    parser.set_defaults(command=_ablate)


def _ablate(given: argparse.Namespace) -> None:
    from linear_eval.strict_config.places import LEFT_OUT
    from linear_eval.strict_config.reader import to_yaml
    from ssl_bf.study.arms import check_arms, open_arms
    from ssl_bf.study.study_file import load_study

    only_shown = given.show or given.explain is not None
    missing = LEFT_OUT if only_shown else None
    loaded = load_study(given.config, given.overrides, for_missing=missing)
    study = loaded.value
    if given.show:
        print(to_yaml(study), end="")
    elif given.explain is not None:
        print(_explained(given.explain, study))
    elif given.status:
        check_arms(study)
        load_torch(if_interrupted=given.if_interrupted)  # by which arms are checked
        from ssl_bf.study.judging import open_judge
        from ssl_bf.study.status import status_lines

        open_arms(study)
        open_judge(study)
        print("\n".join(status_lines(study)))
    else:
        check_arms(study)
        load_torch(if_interrupted=given.if_interrupted)
        from ssl_bf.study.ablate import ablate
        from ssl_bf.study.processes import Here
        from ssl_bf.study.slurm import Slurm

        ablate(study, Slurm() if given.launch == "slurm" else Here(), pilot=given.pilot)


def _explained(key: str, study: StudyConfig) -> str:
    from linear_eval.strict_config.explained import explain
    from ssl_bf.study.study_file import StudyConfig as Whole

    return explain(Whole, key, study)
