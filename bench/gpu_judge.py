"""Whether a GPU judges as the CPU does: a part of `bench.check_gpu`.

Features may differ by rounding (float32, TF32 off): the largest difference is at most 1e-4 of the
largest feature; on the CPU, the other memory format gave 1e-6. On the same features, neighbours and
answers must be the same but where similarities tie to 1e-6. The metrics of `linear-eval run`, whose
probes are trained on either device, may differ by a point.
"""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

import linear_eval.cli
from bench.gpu_training import METHODS, WITHOUT, losses
from bench.parts import Finding
from linear_eval.evaluators.knn import knn_predictions
from linear_eval.evaluators.neighbour_votes import KnnConfig
from linear_eval.search.exact import nearest_neighbours

FEATURES, TIE, POINTS = 1e-4, 1e-6, 1.0
TINY = ["data.train_images=300", "data.test_images=60"]
TINY_RUN = ["linear_probe.epochs=2"]
K = 20


def judged_like_the_cpu(options: Namespace) -> Finding:
    """Features, neighbours, votes and the whole judge, of one backbone."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        directory = folder / "run"
        losses(options, *METHODS["moco_v2"], *WITHOUT, "speed.device=cpu", directory=directory)
        backbone = str(directory / "backbone.safetensors")
        found, right = (
            {
                part: extracted(folder / f"{side}_{part}.npy", backbone, part, device, options)
                for part in ("train", "test")
            }
            for side, device in (("found", options.device), ("right", "cpu"))
        )
        features = max(
            float((found[part] - x).abs().max() / x.abs().max()) for part, x in right.items()
        )
        labels = torch.tensor(json.loads((folder / "right_train.json").read_text())["labels"])
        wrong = [f"features differ by {features:.1e}"] if not features <= FEATURES else []
        wrong += other_neighbours(right["train"], labels, right["test"], options.device)
        metrics = judged(folder / "found.json", backbone, options.device, options)
        theirs = judged(folder / "right.json", backbone, "cpu", options)
    points = max(abs(metrics[key] - x) for key, x in theirs.items())
    wrong += [f"metrics differ by {points:.2f} points"] if not points <= POINTS else []
    figures = {"features": f"{features:.1e}", "metrics": f"{points:.2f} points"}
    return Finding(figures, "; ".join(wrong))


def extracted(file: Path, backbone: str, part: str, device: str, options: Namespace) -> Tensor:
    """(M, D) by the command."""
    given = [f"speed.device={device}", "features.folder=none", *(TINY if options.tiny else [])]
    ask = ["extract", backbone, "quickstart", "--split", part, "--output", str(file), *given]
    command(ask)
    return torch.from_numpy(np.load(file))


def judged(file: Path, backbone: str, device: str, options: Namespace) -> dict[str, Any]:
    """The metrics of `linear-eval run`, in percent."""
    given = [f"backbone={backbone}", f"output={file}", f"speed.device={device}"]
    given += ["features.folder=none", *([*TINY, *TINY_RUN] if options.tiny else [])]
    command(["run", "quickstart", *given])
    metrics: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["metrics"]
    return metrics


def command(arguments: list[str]) -> None:
    """`linear-eval`, in this process."""
    if linear_eval.cli.main(arguments):
        raise RuntimeError(f"linear-eval {' '.join(arguments)} failed, see above")


def other_neighbours(gallery: Tensor, labels: Tensor, queries: Tensor, device: str) -> list[str]:
    """What a search on the device finds otherwise than on the CPU, ties aside."""
    similar, rows = nearest_neighbours(queries, gallery, K, metric="cosine")
    asking, bank = queries.to(device), gallery.to(device)
    found, found_rows = (x.cpu() for x in nearest_neighbours(asking, bank, K, metric="cosine"))
    config = KnnConfig(k=(K,))
    answers = knn_predictions(gallery, labels, queries, config=config)[f"k={K}"]
    theirs = knn_predictions(bank, labels.to(device), asking, config=config)[f"k={K}"].cpu()
    # rows may change places only where both places are equally near
    far = float((found - similar).abs().max())
    tied = (found_rows != rows).any(dim=1)
    wrong = [f"similarities differ by {far:.1e}"] if not far <= TIE else []
    others = int(((answers != theirs) & ~tied).sum())
    return [*wrong, *([f"{others} answers differ without a tie"] if others else [])]
