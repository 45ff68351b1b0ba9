"""Whether training on a GPU is what it is on the CPU: parts of `bench.check_gpu`.

Every run is the command `ssl-bf pretrain` on drawn textures, in float32. Losses are compared step
by step. How far apart two sound runs may be was read off the CPU: the same runs with images laid
out in the other memory format, which add in another order, differed by at most 6e-7 in the first
step, 1.5e-3 in the first five and 3e-2 in fifty (three methods, two relations, two seeds), since
every step multiplies what was rounded before. `TOLERANCES` allow 17, 7 and 3 times that. Dropout is
off where devices are compared: each draws its own masks.
"""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import ssl_bf.cli
from bench.parts import Finding
from ssl_bf.run.checkpoint import load_newest
from ssl_bf.run.directory import BACKBONE_FILE

# (steps, largest difference within them), as a share of the loss, or absolute where it is below 1
TOLERANCES = ((1, 1e-5), (5, 1e-2), (50, 0.1))
METHODS = {
    "moco_v2": ["method.name=moco_v2", "method.queue_size=512"],
    "moco_v3": ["method.name=moco_v3", "method.hidden_dim=128", "method.temperature=0.2"],
    "simsiam": ["method.name=simsiam", "method.projection_dim=128", "method.hidden_dim=128"],
}
WITHOUT, WITH = ["relation.name=none"], ["relation.lr_scale=1"]
FIXED = ["precision=float32", "data.holdout=0", "run.log_every=1", "run.monitor_every=0"]
FIXED += ["run.tensorboard=false", "run.save_every=1epochs", "speed.threads=null"]
# AdamW divides by the size of the gradient, and so blows rounding up
FIXED += ["optimizer.name=sgd", "optimizer.base_learning_rate=0.12", "optimizer.warmup_epochs=0"]
FIFTY_STEPS = ["data.train_images=640", "batch_size=64", "epochs=5"]
EIGHT_STEPS = ["data.train_images=128", "batch_size=32", "epochs=2"]


def steps_like_the_cpus(method: str, options: Namespace) -> Finding:
    """A method without and with BatchFormer, on the device and on the CPU."""
    pairs = {}
    for name, relation in (("none", WITHOUT), ("batchformer", [*WITH, "relation.dropout=0"])):
        given = [*METHODS[method], *relation]
        here = losses(options, *given, "speed.device=cpu")
        pairs[name] = losses(options, *given), here
    return compared(pairs)


def steps_as_without(setting: str, options: Namespace) -> Finding:
    """Every method with BatchFormer, with one of the settings `speed.*` and without it."""
    pairs = {}
    for method, given in METHODS.items():
        plain = losses(options, *given, *WITH)
        pairs[method] = losses(options, *given, *WITH, f"{setting}=true"), plain
    return compared(pairs)


def resumed_as_never_stopped(options: Namespace) -> Finding:
    """With `speed.deterministic`, every tensor of the last checkpoint is the same to the bit."""
    unequal: list[str] = []
    tensors = 0
    for method, given in METHODS.items():
        with TemporaryDirectory() as folder:
            directory = Path(folder) / "run"
            losses(options, *given, *WITH, "speed.deterministic=true", directory=directory)
            whole = load_newest(directory)
            shutil.rmtree(directory / "checkpoints" / f"step-{whole.step:09d}")
            (directory / BACKBONE_FILE).unlink()  # as if killed in the last epoch
            if ssl_bf.cli.main(["resume", str(directory)]):
                return Finding({}, f"{method}: the run could not be resumed")
            again = load_newest(directory).tensors
        tensors += len(whole.tensors)
        for name, value in whole.tensors.items():
            if not torch.equal(value, again[name]):
                unequal.append(f"{method} {name}")
    wrong = f"{len(unequal)} tensors differ, the first: {unequal[0]}" if unequal else ""
    return Finding({"tensors": tensors, "unequal": len(unequal)}, wrong)


def losses(options: Namespace, *given: str, directory: Path | None = None) -> list[float]:
    """Of every step of a run of `ssl-bf pretrain` on the device, or as `given` says."""
    if directory is None:
        with TemporaryDirectory() as folder:
            return losses(options, *given, directory=Path(folder) / "run")
    if ssl_bf.cli.main(["pretrain", "quickstart", *settings(options, *given, directory=directory)]):
        raise RuntimeError(f"the run with {' '.join(given)} failed, see above")
    lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def settings(options: Namespace, *given: str, directory: Path) -> list[str]:
    """Of a run of fifty steps, eight in the tiny form; a later one of the same name counts."""
    own = [*FIXED, *(EIGHT_STEPS if options.tiny else FIFTY_STEPS)]
    own += [f"speed.device={options.device}", f"run.directory={directory}"]
    chosen = dict(each.split("=", 1) for each in [*own, *given])
    return [f"{key}={value}" for key, value in chosen.items()]


def compared(pairs: dict[str, tuple[list[float], list[float]]]) -> Finding:
    """Losses by name, each beside those that are right."""
    figures, wrong = {}, []
    for name, (found, right) in pairs.items():
        worst = largest_differences(found, right)
        figures[name] = " ".join(f"{each:.1e}" for each in worst)
        for (steps, most), each in zip(TOLERANCES, worst, strict=True):
            if not each <= most:  # nor NaN
                wrong.append(f"{name}: {each:.1e} in {steps} steps, at most {most:g}")
    return Finding(figures, "; ".join(wrong))


def largest_differences(found: list[float], right: list[float]) -> list[float]:
    """Within as many first steps as `TOLERANCES` say; infinite where steps are missing."""
    if len(found) != len(right):
        return [float("inf")] * len(TOLERANCES)
    a, b = torch.tensor(found, dtype=torch.float64), torch.tensor(right, dtype=torch.float64)
    share = (a - b).abs() / b.abs().clamp(min=1)
    return [float(share[:steps].max()) for steps, _ in TOLERANCES]
