"""One study run on several data sets, as one: python -m bench.pooled_studies STUDY.json ...

The difference of a seed is its mean over the files, and seeds are what is drawn: the interval says
how the mean over these data sets would move with other seeds, not what another data set would give.
Contrasts, metrics and margins are those of the studies, which must agree; none was stated before
the first run, for a mean over data sets is nothing that a study asks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

from ssl_bf.study.verdict import Asked, answer

Values = dict[str, dict[int, dict[str, float]]]  # of an arm, by seed: metrics in percent


def read(path: Path) -> tuple[Values, list[Asked]]:
    """The runs of a study and what it asks."""
    study = json.loads(path.read_bytes())
    values: Values = {}
    for run in study["runs"]:
        metrics = {name: run["metrics"][name] for name in study["metrics"]}
        values.setdefault(run["arm"], {})[run["seed"]] = metrics
    keys = ("arm", "against", "metric", "margin", "stated_before")
    return values, [Asked(**{key: each[key] for key in keys}) for each in study["contrasts"]]


def pooled(studies: Sequence[Values]) -> Values:
    """The mean over studies, by arm, seed and metric.

    Raises:
        SystemExit: a run is missing in one of them, such as one that failed.
    """
    runs = [{(arm, seed) for arm, seeds in study.items() for seed in seeds} for study in studies]
    if missing := sorted({run for each in runs for run in each if any(run not in o for o in runs)}):
        raise SystemExit(f"not in every file: {missing}, expected the same runs in all")
    return {
        arm: {
            seed: {name: fmean(study[arm][seed][name] for study in studies) for name in metrics}
            for seed, metrics in seeds.items()
        }
        for arm, seeds in studies[0].items()
    }


def print_pooled(argv: Sequence[str] | None = None) -> None:
    """Print, of the mean over all files, mean and spread of each arm, and the contrasts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="STUDY.json")
    studies, asked = zip(*map(read, parser.parse_args(argv).files), strict=True)
    if any(each != asked[0] for each in asked):
        raise SystemExit("contrasts, metrics or margins differ, expected files of one study")
    values = pooled(studies)
    for arm, seeds in values.items():
        for metric in seeds[0]:
            of_seeds = [metrics[metric] for metrics in seeds.values()]
            print(f"{arm:15} {metric:28} {fmean(of_seeds):5.1f} +- {stdev(of_seeds):.1f}")
    later = [replace(each, stated_before=False) for each in asked[0]]
    for verdict in answer(later, values, list(values[asked[0][0].arm])):
        name = f"{verdict.asked.name}, {verdict.asked.metric}"
        print(f"{name}: {verdict.sentence} (p {verdict.p_holm:.3f})")


if __name__ == "__main__":
    print_pooled()
