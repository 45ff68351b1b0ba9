"""Is the verdict of `ssl-bf worth` true? python -m bench.worth_honesty DATA --output FILE.jsonl.

DATA holds unpacked data sets of class folders (`SET/train/CLASS/*`). A draw takes some classes of
one of them and some images of each, shows half of these to `worth` with a small fixed plan, and
then finds the truth with the other half: the winner and its rival are trained with five further
seeds, all judged on the images that were kept back. The line of a draw says both signs, and whether
each is clear. Draws that the file has are not made again.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linear_eval.comparison.student_t import welch_interval
from linear_eval.system.screen import say
from ssl_bf.scan.found import TEST, TRAIN
from ssl_bf.scan.scan import IMAGES, scan_folder
from ssl_bf.worth.contest import Contest
from ssl_bf.worth.judging import ALL_LABELS
from ssl_bf.worth.plan import Plan, Rung
from ssl_bf.worth.recipes import CANDIDATES, SUPERVISED, Setting
from ssl_bf.worth.worth import Asked, worth

SIZES = {"small": (5, 80), "large": (10, 200)}  # classes, and images of each at most
SEEDS = 5
MUST, AIM = 0.8, 0.9


@dataclass(frozen=True)
class Draw:
    """One task: which data set, of which size, and the number of the draw."""

    data_set: str
    size: str
    number: int

    @property
    def name(self) -> str:
        """Of its folder and line."""
        return f"{self.data_set}-{self.size}-{self.number}"

    def build(self, data: Path, folder: Path) -> tuple[Path, Path]:
        """Two folders of links, classes inside: what `worth` sees, and what is kept back."""
        generator = random.Random(self.name)
        classes, images = SIZES[self.size]
        places = sorted(p for p in (data / self.data_set / "train").iterdir() if p.is_dir())
        for place in generator.sample(places, min(classes, len(places))):
            files = sorted(p for p in place.iterdir() if p.is_file())
            drawn = generator.sample(files, min(2 * images, len(files)))
            for number, path in enumerate(drawn):
                side = folder / ("kept" if number % 2 else "seen") / place.name
                side.mkdir(parents=True, exist_ok=True)
                link = side / f"{number}{path.suffix}"
                if not link.is_symlink():
                    link.symlink_to(path.absolute())
        return folder / "seen", folder / "kept"


def small_plan(epochs: int) -> Plan:
    """Two candidates, two seeds: all that two cores do in minutes."""
    setting = Setting(
        root="",
        backbone={"name": "small_conv"},
        size=32,
        precision="float32",
        threads=1,
        batch_size=32,
    )
    return Plan(
        setting=setting,
        jobs=1,
        candidates=CANDIDATES[:2],
        rungs=(Rung(kept=2, epochs=max(1, epochs // 4)),),
        epochs=epochs,
        seeds=2,
        budgets=(5,),
        supervised_budgets=(5,),
        draws=1,
        seconds=0.0,
    )


def judged_draw(draw: Draw, data: Path, work: Path, epochs: int) -> dict[str, Any]:
    """The verdict of one draw, and the truth."""
    folder = work / draw.name
    seen, kept = draw.build(data, folder)
    output = folder / "worth"
    outcome = worth(Asked(folder=seen, output=output, minutes=1, jobs=1), small_plan(epochs))
    said = outcome.differences[0]
    winner = next(each for each in CANDIDATES if each.name == outcome.contestants[0].name)
    interval = _truth(folder, output, kept, winner.name, str(said["rival"]), epochs)
    middle = sum(interval) / 2
    return {
        "draw": draw.name,
        "winner": winner.name,
        "rival": said["rival"],
        "points": said["points"],
        "interval": said["interval"],
        "clear": said["clear"],
        "truth": middle,
        "truth_interval": interval,
        "truth_clear": interval[0] > 0 or interval[1] < 0,
        "agrees": (middle > 0) == (said["points"] > 0),
    }


def _truth(
    folder: Path, output: Path, kept: Path, winner: str, rival: str, epochs: int
) -> tuple[float, float]:
    """95 % interval over seeds of winner less rival, in points, on the images kept back."""
    truth = folder / "truth"
    images = truth / IMAGES
    images.mkdir(parents=True, exist_ok=True)
    for part, source in ((TRAIN, output / IMAGES / TRAIN), (TEST, kept)):
        if not (images / part).is_symlink():
            (images / part).symlink_to(source.absolute())
    scan = scan_folder(folder / "seen", output, labels=True, side=128)
    plan = replace(small_plan(epochs), seeds=SEEDS, budgets=(), supervised_budgets=())
    plan = replace(plan, setting=replace(plan.setting, root=str(images.absolute())))
    contest = Contest(output=truth, scan=scan, plan=plan, frozen=())
    candidate = next(each for each in CANDIDATES if each.name == winner)
    ours = contest.judged_finalist(candidate, contest.finalist(candidate), TEST)
    theirs = next(each for each in contest.baselines(TEST) if each.name == rival)
    found = [[each.metrics[ALL_LABELS] for each in side.results[TEST]] for side in (theirs, ours)]
    if rival != SUPERVISED:  # the same with every seed
        found[0] *= 2
    low, high = welch_interval(*found)
    return low, high


def summary(lines: Sequence[dict[str, Any]]) -> str:
    """How often verdict and truth agree where the truth is clear."""
    clear = [each for each in lines if each["truth_clear"]]
    unclear = [each for each in lines if not each["truth_clear"]]
    agree = sum(each["agrees"] for each in clear)
    wrong = sum(each["clear"] and not each["agrees"] for each in lines)
    honest = sum(not each["clear"] for each in unclear)
    share = f", {100 * agree / len(clear):.0f} % (must {MUST:.0%}, aim {AIM:.0%})" if clear else ""
    return (
        f"{len(lines)} draws; truth clear in {len(clear)}, sign agrees in {agree} of them{share}; "
        f"truth not clear in {len(unclear)}, said to be so in {honest}; clear and wrong: {wrong}"
    )


def try_draws(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Make the draws that are missing, and say how often the verdict was right."""
    parser = argparse.ArgumentParser(description="Verdicts of ssl-bf worth against the truth.")
    parser.add_argument("data", type=Path, help="folder of unpacked data sets")
    parser.add_argument("--sets", nargs="+", default=["clothing-96-dev", "grocery-96-dev"])
    parser.add_argument("--draws", type=int, default=5, help="of each set and size")
    parser.add_argument("--epochs", type=int, default=40, help="of the winner")
    parser.add_argument("--work", type=Path, required=True, help="folder for all runs")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines")
    options = parser.parse_args(argv)
    known = options.output.read_text().splitlines() if options.output.is_file() else []
    lines: list[dict[str, Any]] = [json.loads(each) for each in known]
    draws = [
        Draw(name, size, number)
        for number in range(options.draws)
        for size in SIZES
        for name in options.sets
    ]
    for draw in draws:
        if draw.name in {each["draw"] for each in lines}:
            continue
        lines.append(judged_draw(draw, options.data, options.work, options.epochs))
        with options.output.open("a") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        say(summary(lines))
    print(summary(lines))
    return lines


if __name__ == "__main__":
    try_draws()
