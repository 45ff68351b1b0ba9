"""Wall time from launch to a k-NN accuracy on the hold-out. Run: python -m bench.time_to_accuracy.

The protocol: `ssl-bf pretrain moco_v2_cifar10` in a fresh process, as packaged but for what is
named in SETTINGS; 10 % of CIFAR-10's train are held out, and every 5 epochs each of them is named
by a vote of its 20 nearest among the 45,000 others (temperature 0.07, views' size, no test image).
The clock runs from launch until the first such line of metrics reaches the target, monitors
included; then the run is stopped. Each of `--rounds` has a seed of its own, from `--seed`, and one
JSON line.

    python -m bench.time_to_accuracy --device cuda --data FOLDER --rounds 1 --seed 2

`--epochs N` sets another length of the schedule. With --quick, few textures and no claim.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.options import lacks_gpu, parse
from bench.rounds import append, machine

CONFIG, TARGET = "moco_v2_cifar10", 80.0  # percent
EPOCHS, MONITOR_EVERY, GALLERY = 200, 5, 45_000
MOST_SECONDS, AIM_SECONDS = 240.0, 90.0
PATIENCE = 500.0  # seconds for a seed: a call with one shall end within 9 minutes
SETTINGS = [f"run.monitor_every={MONITOR_EVERY}", f"run.monitor_images={GALLERY}"]
SETTINGS += ["run.tensorboard=false", "run.save_every=1000000epochs"]
ON_GPU = ["speed.cuda_graph=true"]
QUICK = ["data.name=textures", "data.train_images=200", "backbone.name=small_conv", "batch_size=20"]
QUICK += ["method.batch_norm=local", "method.queue_size=80", "run.monitor_every=1"]


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """One run a seed."""
    options = parse("Wall time to 80 % k-NN accuracy on the hold-out.", argv, rounds=3)
    if lacks_gpu(options):
        return []
    if not (options.data or options.quick):
        print("skipped: add --data FOLDER, one with CIFAR-10")
        return []
    target = 1.0 if options.quick else TARGET
    first = options.seed
    rows = [one_seed(first + number, target, options) for number in range(options.rounds)]
    if len(rows) > 1 and all(row["equivalent"] for row in rows):
        middle = statistics.median(row["wall_seconds"] for row in rows)
        print(f"median of {len(rows)} seeds: {middle:.1f} s, at most {MOST_SECONDS:.0f}")
    append(options.output / "time_to_accuracy.jsonl", rows)
    return rows


def one_seed(seed: int, target: float, options: Namespace) -> dict[str, Any]:
    """A row; `wrong` where the target is not reached."""
    epochs = options.epochs or (2 if options.quick else EPOCHS)
    given = [*SETTINGS, f"seed={seed}", f"epochs={epochs}", f"speed.device={options.device}"]
    given += QUICK if options.quick else [f"data.root={options.data}"]
    given += ON_GPU if options.device == "cuda" else []
    seconds, accuracies = train_until(target, given)
    best = max(accuracies, default=0.0)
    row = {
        "benchmark": "time_to_accuracy",
        "variant": f"seed {seed}",
        "wall_seconds": round(seconds, 2),
        "equivalent": best >= target,
        "wrong": "" if best >= target else f"best {best:.2f} %, target {target:g} %",
        "target_percent": target,
        "accuracies_percent": accuracies,
        "most_seconds": MOST_SECONDS,
        "aim_seconds": AIM_SECONDS,
        "config": CONFIG,
        "settings": [each for each in given if not each.startswith("data.root=")],
        "protocol": "k-NN, k = 20, on the hold-out, gallery: the training images",
        **machine(options.device),
    }
    print(f"seed {seed}: {seconds:.1f} s, {best:.2f} % of {target:g} %  {row['wrong']}")
    return row


def train_until(target: float, given: list[str]) -> tuple[float, list[float]]:
    """Seconds from launch to the target, the end of the run or of patience; accuracies so far."""
    with TemporaryDirectory() as folder:
        metrics, screen = Path(folder) / "run" / "metrics.jsonl", Path(folder) / "screen"
        command = [sys.executable, "-m", "ssl_bf", "pretrain", CONFIG, *given]
        started = time.perf_counter()
        with screen.open("wb") as file:
            process = subprocess.Popen(
                [*command, f"run.directory={metrics.parent}"], stdout=file, stderr=file
            )
            try:
                while True:
                    has_ended = process.poll() is not None  # before reading: the last line counts
                    accuracies, now = monitored(metrics), time.perf_counter()
                    if (
                        has_ended
                        or now - started > PATIENCE
                        or max(accuracies, default=0.0) >= target
                    ):
                        break
                    time.sleep(0.05)
            finally:
                process.kill()
                process.wait()
        if has_ended and process.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {screen.read_text(errors='replace')[-2000:]}")
        return now - started, accuracies


def monitored(metrics: Path) -> list[float]:
    """Accuracies of the k-NN monitor in percent, in order, from the whole lines of the file."""
    text = metrics.read_text(encoding="utf-8") if metrics.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line["monitor/knn_top1"] for line in lines if "monitor/knn_top1" in line]


if __name__ == "__main__":
    main()
