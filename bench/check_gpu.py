"""Everything that wants a GPU, in one run. Run: python -m bench.check_gpu, or make check-gpu.

Correctness comes first, then the benchmarks in order of value. Every part is one function of
`PARTS` and runs in a process of its own, with a time limit of its own; a part whose limit no longer
fits into `--minutes` is not run, and one that lacks a package or data is left out: both are listed.
After each part the JSON named by `--output` is written anew, and the benchmarks put their own lines
beside it; in the end a table is printed. Exit code 1: a correctness part has failed, or there was
no time for it.

Runs from the checkout with torch, torchvision and what timm needs. `--wheels FOLDER` installs
wheels (lightly, faiss-cpu, kornia) for this run alone. `--tiny` takes small sizes, on the CPU where
there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench import parts
from bench.gpu_judge import judged_like_the_cpu
from bench.gpu_process_group import under_torchrun
from bench.gpu_training import (
    METHODS,
    resumed_as_never_stopped,
    steps_as_without,
    steps_like_the_cpus,
)
from bench.parts import Finding, Part, Result
from bench.rounds import RESULTS, machine, matmul_limit

FILE = RESULTS / "check_gpu.json"
MINUTES, TINY_MINUTES = 12.0, 60.0
PATIENCE_ON_CPU = 5  # times the limits: a small machine that has other work
KEPT = ("wall_seconds", "wall_ratio", "wall_share", "peak_anonymous_mib")  # of a benchmark's row


def the_machine(options: Namespace) -> Finding:
    """Names, versions and measured limits."""
    limits = {
        f"{dtype} GFLOP/s": round(matmul_limit(dtype, options.device))
        for dtype in (torch.float32, torch.bfloat16)
    }
    return Finding(limits | machine(options.device))


def benchmark(name: str, options: Namespace) -> Finding:
    """One round of `bench.NAME`; wrong where a variant is not equivalent, or a target is missed."""
    given = ["--rounds", "1", "--device", options.device, "--output", str(options.output.parent)]
    given += ["--quick"] if options.tiny else []
    given += ["--data", options.data] if options.data else []
    rows = importlib.import_module(f"bench.{name}").main(given)
    figures = {
        f"{row['benchmark']}, {row['variant']}": {key: row[key] for key in KEPT if key in row}
        for row in rows
    }
    wrong = [f"{row['variant']}: {row['wrong']}" for row in rows if row.get("wrong")]
    return Finding(figures, "; ".join(wrong))


def _correct(name: str, run: parts.Run, seconds: float, *, needs_gpu: bool = False) -> Part:
    return Part(name, run, seconds, needs_gpu=needs_gpu, is_correctness=True)


def _bench(
    name: str,
    seconds: float,
    *needs: str,
    needs_on_cpu: tuple[str, ...] = (),
    needs_data: bool = False,
) -> Part:
    run = partial(benchmark, name)
    return Part(f"bench.{name}", run, seconds, needs, needs_on_cpu, needs_data)


PARTS = [
    Part("machine", the_machine, 60),
    *(_correct(f"{each} steps", partial(steps_like_the_cpus, each), 60) for each in METHODS),
    _correct("resume", resumed_as_never_stopped, 60),
    _correct("judge", judged_like_the_cpu, 90),
    _correct("cuda_graph", partial(steps_as_without, "speed.cuda_graph"), 60, needs_gpu=True),
    _correct("process group", under_torchrun, 60),
    _correct("compile", partial(steps_as_without, "speed.compile"), 150),
    _bench("moco_v3_step", 120),
    _bench("kornia_views", 60, "kornia"),
    _bench("pipeline", 200, "lightly"),
    _bench("loop", 60),
    _bench("batchformer", 60),
    _bench("step", 45, "lightly"),
    _bench("info_nce", 45),
    _bench("overhead", 45),
    _bench("knn", 60, "faiss", "lightly", needs_on_cpu=("sklearn",)),
    _bench("time_to_accuracy", 300, needs_data=True),
    _bench("retrieval", 45, "pytorch_metric_learning", "faiss", "sklearn"),
    _bench("logistic", 60, "sklearn"),
    _bench("views", 60, "lightly"),
    _bench("startup", 60),
    _bench("probe", 90, needs_on_cpu=("sklearn",)),
    _bench("memory", 90),
    _bench("relation_places", 120),
    _bench("relation_memory", 60),
    _bench("context_gap", 120),
    _bench("input", 90, "lightly"),
]


def main(argv: list[str] | None = None) -> int:
    """Run the parts; the exit code."""
    options = parse(argv)
    if options.part is not None:
        run_part(options)
        return 0
    if options.device == "cpu" and not options.tiny:
        print("check_gpu: no GPU is visible, expected one; --tiny runs small sizes on the CPU")
        return 2
    names = [part.name for part in PARTS]
    unknown = [name for name in options.only or [] if name not in names]
    if unknown:
        print(f"--only: got {', '.join(unknown)}, expected one of {', '.join(names)}")
        return 2
    chosen = [part for part in PARTS if options.only is None or part.name in options.only]
    if options.device == "cpu":
        chosen = [part._replace(seconds=PATIENCE_ON_CPU * part.seconds) for part in chosen]
    if options.tiny:  # small sizes: a second thread has nothing to do but to wait
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        if options.wheels:
            install(options.wheels, Path(folder))
        results = parts.run_all(
            chosen,
            options,
            partial(in_own_process, options=options),
            report=partial(parts.write, options.output),
        )
    print(parts.table(results))
    print(f"written: {options.output}")
    return parts.exit_code(results, chosen)


def parse(argv: list[str] | None) -> Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Correctness and speed on one GPU.")
    parser.add_argument(
        "--minutes", type=float, help=f"for all parts: {MINUTES:g}, {TINY_MINUTES:g} if --tiny"
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes: does it run at all?")
    parser.add_argument("--only", action="append", metavar="PART", help="this part; repeatable")
    parser.add_argument("--data", help="a folder with CIFAR-10; without it images are made up")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels to install for this run")
    parser.add_argument("--output", type=Path, default=FILE, help="the JSON to write")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # in the process of this part
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.minutes is None:
        options.minutes = TINY_MINUTES if options.tiny else MINUTES
    options.output = options.output.absolute()
    return options


def install(wheels: Path, folder: Path) -> None:
    """Make wheels importable, here and in the processes of the parts, and nowhere else."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", folder, *sorted(wheels.glob("*.whl"))], check=True)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


def in_own_process(part: Part, seconds: float, *, options: Namespace) -> Result:
    """Run one part by this module's own command line."""
    command = [sys.executable, "-m", "bench.check_gpu", "--part", part.name]
    command += ["--output", str(options.output), *(["--tiny"] if options.tiny else [])]
    command += ["--data", options.data] if options.data else []
    return parts.in_own_process(part, seconds, command)


def run_part(options: Namespace) -> None:
    """Run one part here and write what it found to `--answer`."""
    part = next(part for part in PARTS if part.name == options.part)
    found = find(part, options)
    options.answer.write_text(json.dumps(found._asdict()), encoding="utf-8")


def find(part: Part, options: Namespace) -> Finding:
    """Run one part; correctness is asked of whole float32, benchmarks run as torch is shipped."""
    if part.is_correctness:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return part.run(options)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the part's process ends too
    sys.exit(main())
