"""The arms of the long-tail studies in the plane of (many, few): python -m bench.long_tail_picture.

Reads `bench/results/study_cifar*_lt.csv`, writes `docs/pictures/long_tails.png`.
"""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import fmean, stdev

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
STUDIES = {"cifar100_lt": "CIFAR-100-LT", "cifar10_lt": "CIFAR-10-LT"}
PRIORS = ("none_prior_0.5", "none", "none_prior_1.5")  # of no relation, in this order
BESIDE = {  # where the name of an arm stands, in points
    "copy": (6, -10),
    "self_only": (-6, -12),
    "dropout_only": (-6, -12),
    "none": (-6, 4),
    "batchformer": (6, -4),
    "none_lr3": (6, -6),
    "batchformer_shipped": (6, 3),
    "none_prior_0.5": (-8, -2),
}


def read(name: str) -> dict[str, tuple[list[float], list[float]]]:
    """Of each arm, many and few of each seed."""
    arms: dict[str, tuple[list[float], list[float]]] = {}
    with (ROOT / f"bench/results/study_{name}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            many, few = arms.setdefault(row["arm"], ([], []))
            many.append(float(row["classifier/many"]))
            few.append(float(row["classifier/few"]))
    return arms


def main() -> None:
    """Draw both."""
    figure, places = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for place, (name, title) in zip(places, STUDIES.items(), strict=True):
        arms = read(name)
        line = [[fmean(values) for values in arms[arm]] for arm in PRIORS]
        place.plot(
            *zip(*line, strict=True),
            color="0.6",
            zorder=0,
            label="without relation, prior 0.5, 1, 1.5",
        )
        for arm, (many, few) in arms.items():
            color = "C1" if "batchformer" in arm else "C0" if arm.startswith("none") else "C2"
            place.errorbar(
                fmean(many), fmean(few), stdev(few), stdev(many), fmt="o", color=color, markersize=4
            )
            place.annotate(
                arm,
                (fmean(many), fmean(few)),
                xytext=BESIDE.get(arm, (6, 4)),
                textcoords="offset points",
                ha="right" if BESIDE.get(arm, (6, 4))[0] < 0 else "left",
                fontsize=8,
            )
        place.set(title=title, xlabel="many, percent", ylabel="few, percent")
        place.legend(frameon=False, fontsize=8)
    figure.savefig(ROOT / "docs/pictures/long_tails.png", dpi=110)


if __name__ == "__main__":
    main()
