"""Our batched views train as well as lightly's: a quarter of an hour on an idle core.

Run: pytest -m slow -s tests/end_to_end/test_view_engines.py
"""

import json
import tarfile
from pathlib import Path
from statistics import mean, stdev

import pytest

from linear_eval.cli import main as linear_eval
from ssl_bf.cli import main as ssl_bf

ARCHIVE = Path(__file__).parents[2] / "../shared/data/cifar10.tar.xz"
SEEDS = (400, 401, 402)
DATA = ["data.max_images=10000", "data.holdout=0.1"]
RUN = [
    "data.name=cifar10",
    "views.recipe=moco_v2",
    "views.min_scale=0.2",
    "relation.name=none",
    "epochs=9",
    "run.monitor_every=0",
    "run.tensorboard=false",
]
# Of one run's k-NN accuracy, in points: 10,000 test images give 0.5, another seed as much again.
NOISE = 0.7


def knn_percent(root: Path, folder: Path, engine: str, seed: int) -> float:
    """Pretrain the quickstart's network on CIFAR-10 with one engine; return its k-NN accuracy."""
    data = [*DATA, f"data.root={root}"]
    given = [*RUN, *data, f"seed={seed}", f"views.engine={engine}", f"run.directory={folder}"]
    assert ssl_bf(["pretrain", "quickstart", *given]) == 0
    backbone = f"backbone={folder / 'backbone.safetensors'}"
    assert linear_eval(["run", "cifar10", backbone, "evaluators=[knn]", *data]) == 0
    return float(json.loads((folder / "results.json").read_text())["metrics"]["knn/k=20/top1"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_batched_views_train_as_well_as_lightlys(tmp_path: Path) -> None:
    pytest.importorskip("lightly")
    if not ARCHIVE.is_file():
        pytest.skip(f"{ARCHIVE.name} is not in ../shared/data beside the project")
    with tarfile.open(ARCHIVE, "r|xz") as archive:
        archive.extractall(tmp_path, filter="data")
    root = tmp_path / "cifar10"
    batched, lightly = (
        [knn_percent(root, tmp_path / f"{engine}_{seed}", engine, seed) for seed in SEEDS]
        for engine in ("batched", "lightly")
    )
    print(f"batched {batched}, lightly {lightly}")
    gaps = [ours - theirs for ours, theirs in zip(batched, lightly, strict=True)]
    error = max(stdev(gaps), 2**0.5 * NOISE) / len(gaps) ** 0.5
    print(f"difference {mean(gaps):.2f}, standard error {error:.2f}")
    assert abs(mean(gaps)) <= 3 * error
    assert min(batched + lightly) >= 38  # a random backbone 33.7, pixels 31.4
