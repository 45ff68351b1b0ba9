"""Our batched views train as well as lightly's own transforms: some five minutes on one core.

Run: pytest -m slow -s tests/end_to_end/test_view_engines.py
"""

import json
from pathlib import Path
from statistics import mean, stdev

import pytest

from linear_eval.cli import main as linear_eval
from ssl_bf.cli import main as ssl_bf

SEEDS = (400, 401, 402)
RUN = [
    "views.recipe=moco_v2",
    "relation.name=none",
    "epochs=8",
    "run.monitor_every=0",
    "run.tensorboard=false",
]


def knn_percent(folder: Path, engine: str, seed: int) -> float:
    """Pretrain the quickstart's network with one engine and return its k-NN accuracy."""
    seeds = [f"seed={seed}", f"data.seed={seed}"]
    given = [*RUN, *seeds, f"views.engine={engine}", f"run.directory={folder}"]
    assert ssl_bf(["pretrain", "quickstart", *given]) == 0
    backbone = f"backbone={folder / 'backbone.safetensors'}"
    assert linear_eval(["run", "quickstart", backbone, "evaluators=[knn]", *seeds]) == 0
    return float(json.loads((folder / "results.json").read_text())["metrics"]["knn/k=20/top1"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_batched_views_train_as_well_as_lightlys(tmp_path: Path) -> None:
    pytest.importorskip("lightly")
    batched, lightly = (
        [knn_percent(tmp_path / f"{engine}_{seed}", engine, seed) for seed in SEEDS]
        for engine in ("batched", "lightly")
    )
    print(f"batched {batched}, lightly {lightly}")
    gaps = [ours - theirs for ours, theirs in zip(batched, lightly, strict=True)]
    # 1,000 test images mean +-1.5 points each, and the runs differ by their views
    error = max(stdev(gaps), 2.0) / len(gaps) ** 0.5
    assert abs(mean(gaps)) <= 3 * error
    assert min(batched + lightly) >= 28  # pixels 21 to 24, a random backbone 26
