"""How long a command takes to begin. Run: python -m bench.startup.

Wall and CPU seconds of fresh processes: commands until they have answered, and the quickstart
from its launch to the end of its first training step.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.options import parse
from bench.rounds import Seconds, append, machine

ANSWERS = {  # what is typed: (its exit code, most seconds)
    "linear-eval run quickstart backbone=pixels knn.kk=3": (2, 1.0),
    "linear-eval run quikstart": (2, 1.0),
    "linear-eval run quickstart --shwo": (2, 1.0),
    "linear-eval --help": (0, 0.5),
    "ssl-bf --help": (0, 0.5),
    "linear-eval --version": (0, 0.5),
    "linear-eval compare no_such_folder other": (2, 1.5),
    "linear-eval run cifar10 --show": (0, 1.0),
    "ssl-bf pretrain quickstart optimizer.lr=1": (2, 1.0),
    "ssl-bf ablate quickstart optimizer.lr=1": (2, 1.0),
    "ssl-bf resume no_such_run": (2, 1.0),
    "ssl-bf pretrain quickstart --show": (0, 5.0),
    "linear-eval run quickstart backbone=no_such.safetensors": (2, 1.0),
    "linear-eval query no_such_index a.png": (2, 1.0),
}
MOST_SECONDS = {**{line: most for line, (_, most) in ANSWERS.items()}, "first step": 10.0}
PATIENCE = 300.0


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Median over rounds; one more process before them warms the disk's cache."""
    options = parse("Seconds until the commands answer and train.", argv)
    starts: dict[str, Callable[[], Seconds]] = {
        **{line: partial(answer_seconds, line, code) for line, (code, _) in ANSWERS.items()},
        "first step": lambda: first_step_seconds(options.device, quick=options.quick),
    }
    rows = []
    for name, start in starts.items():
        taken = [start() for _ in range(options.rounds + 1)][1:]
        wall = statistics.median(each.wall for each in taken)
        row = {
            "benchmark": "startup",
            "variant": name,
            "wall_seconds": round(wall, 3),
            "cpu_seconds": round(statistics.median(each.cpu for each in taken), 3),
            "most_seconds": MOST_SECONDS[name],
            "keeps_compiled_modules": not sys.dont_write_bytecode,
            "rounds": options.rounds,
            **machine(options.device),
        }
        cpu = row["cpu_seconds"]
        print(f"{name:56} {wall:6.2f} s, CPU {cpu:6.2f} s, at most {MOST_SECONDS[name]:g}")
        rows.append(row)
    append(options.output / "startup.jsonl", rows)
    return rows


def answer_seconds(line: str, code: int) -> Seconds:
    """From launch to the end of a command that answers at once, with this exit code."""
    command, *arguments = line.split()
    before = _children_cpu()
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", command.replace("-", "_"), *arguments],
        check=False,
        capture_output=True,
    )
    assert done.returncode == code, done.stderr.decode()
    return Seconds(time.perf_counter() - started, _children_cpu() - before)


def first_step_seconds(device: str, *, quick: bool) -> Seconds:
    """From launch until the first line of metrics of the quickstart is written."""
    with TemporaryDirectory() as folder:
        metrics = Path(folder) / "metrics.jsonl"
        given = [f"run.directory={folder}", "run.log_every=1", f"speed.device={device}"]
        given += ["data.train_images=160", "data.holdout=0"] if quick else []
        command = [sys.executable, "-m", "ssl_bf", "pretrain", "quickstart", *given]
        before = _children_cpu()
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not (metrics.exists() and metrics.stat().st_size):
                assert process.poll() is None, f"{' '.join(command)}: {process.returncode}"
                assert time.perf_counter() - started < PATIENCE, "no first step"
                time.sleep(0.01)
            wall = time.perf_counter() - started
        finally:
            process.kill()
            process.wait()
        return Seconds(wall, _children_cpu() - before)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
