"""A few steps of the shipped configs on a few real images, judged afterwards.

The archives lie beside the project, not in it; where they are absent, these tests are skipped.
"""

import json
import math
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from linear_eval.cli import main as linear_eval
from ssl_bf.cli import main as ssl_bf

DATA = Path(__file__).parents[2] / "../shared/data"
CLASSES = {"cifar10": 10, "tiny-imagenet-40": 6}
PER_CLASS = {"train": 16, "test": 4, "val": 4}

CUT = [
    "backbone.name=small_conv",
    "data.max_images=80",
    "epochs=2",
    "batch_size=32",
    "optimizer.warmup_epochs=0",
    "run.log_every=1",
    "run.monitor_every=2",
    "run.tensorboard=false",
]
NARROW = {
    "moco_v2": ["method.queue_size=128"],
    "moco_v3": ["method.hidden_dim=64"],
    "simsiam": ["method.hidden_dim=64", "method.projection_dim=64"],
}

Roots = Callable[[str], Path]


def extract_some(archive: Path, folder: Path, num_classes: int) -> None:
    """Unpack the first images of the first classes of every split."""
    classes: dict[str, None] = {}
    taken: Counter[tuple[str, str]] = Counter()
    with tarfile.open(archive, "r|xz") as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            if not member.isfile() or len(parts) != 4:
                continue
            split, name = parts[1:3]
            if split == "train" and len(classes) < num_classes:
                classes[name] = None
            if name not in classes or taken[split, name] == PER_CLASS[split]:
                continue
            taken[split, name] += 1
            content = tar.extractfile(member)
            assert content is not None
            target = folder / split / name / parts[3]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Roots:
    """Name of an archive -> folder with a part of it, unpacked when it is first asked for."""
    top = tmp_path_factory.mktemp("real")

    def root(name: str) -> Path:
        archive = DATA / f"{name}.tar.xz"
        if not archive.is_file():
            pytest.skip(f"{archive.name} is not in ../shared/data beside the project")
        if not (top / name).exists():
            extract_some(archive, top / name, CLASSES[name])
        return top / name

    return root


@pytest.mark.parametrize(
    ("archive", "data", "config"),
    [
        ("tiny-imagenet-40", "tiny_imagenet_40", f"{method}_batchformer_tiny_imagenet_40")
        for method in NARROW
    ]
    + [("cifar10", "cifar10", f"{method}_cifar10") for method in NARROW],
)
def test_a_shipped_config_trains_on_real_images_and_is_judged(
    archive: str, data: str, config: str, roots: Roots, tmp_path: Path
) -> None:
    root = roots(archive)
    method = next(name for name in NARROW if config.startswith(name))
    directory = tmp_path / "run"
    given = [*CUT, *NARROW[method], f"data.root={root}", f"run.directory={directory}"]
    assert ssl_bf(["pretrain", config, *given]) == 0
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert "monitor/knn_top1" in lines[-1]
    for line in lines:
        assert all(math.isfinite(value) for key, value in line.items() if key != "timing"), line

    given = [f"backbone={directory / 'backbone.safetensors'}", f"data.root={root}"]
    cut = ["linear_probe.epochs=2", "knn.k=[1, 20]"]
    assert linear_eval(["run", data, *given, *cut]) == 0
    results = json.loads((directory / "results.json").read_text())
    num_classes = CLASSES[archive]
    assert results["data"]["classes"] == num_classes
    assert results["data"]["train_images"] == num_classes * PER_CLASS["train"]
    assert results["data"]["test_images"] == num_classes * PER_CLASS["test"]
    assert all(0 <= value <= 100 for value in results["metrics"].values())
    assert {"knn/k=20/top1", "linear_probe/top1", "retrieval/map"} <= results["metrics"].keys()
