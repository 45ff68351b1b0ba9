"""Two runs and their results, made once: names that are HTML, images in folders, random weights."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.cli import main

CLASSES = ("<script>", '"><img src=x onerror=alert(1)>', "plain & 'quoted'")
RUNS = ("<b>without", "with")


def save_images(root: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 12), ("test", 8)):
        for number, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for image in range(count):
                noise = torch.randint(0, 160, (24, 20, 3), generator=generator, dtype=torch.uint8)
                noise[..., number] += 4
                path = root / split / name / f"{image}.png"
                Image.fromarray(noise.numpy()).save(path)


def save_run(folder: Path, data_root: Path, title: str, seed: int) -> None:
    """The files of a run, as `ssl-bf pretrain` leaves them."""
    folder.mkdir(parents=True)
    config = {
        "data": {"name": "image_folder", "root": str(data_root), "holdout": 0.1},
        "method": {"name": "moco_v2", "queue_size": 64, "symmetric": True},
        "relation": {"name": title, **({"heads": 4} if seed else {})},
        "batch_size": 16,
        "seed": seed,
        "run": {"directory": str(folder)},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = []
    for step in range(1, 11):
        line: dict[str, float | None] = {
            "step": step,
            "epoch": step / 2,
            "loss": 5 - step / 10,
            "learning_rate": 1e-3,
        }
        line |= {"feature_std/stream_0": 0.5, "context_gap/stream_0": None}
        line |= {"feature_std/stream_1": 0.4} if seed else {}
        lines.append(json.dumps({**line, "timing": {"seconds": float(step)}}))
    lines.append(json.dumps({"step": 10, "epoch": 5.0, "monitor/knn_top1": 50.0 + seed}))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    status = {"state": "finished", "step": 10, "total_steps": 10}
    (folder / "status.json").write_text(json.dumps(status))
    environment = {"versions": {"torch": "<i>2"}, "cpu": {"model": "a CPU"}, "gpus": []}
    (folder / "environment.json").write_text(json.dumps(environment))
    torch.manual_seed(seed)
    backbone = build_backbone("small_conv")
    backbone(torch.randn(64, 3, 24, 24))
    info = BackboneInfo("small_conv", 128, 24, (0.5,) * 3, (0.25,) * 3, {"title": title})
    save_backbone(folder / "backbone.safetensors", backbone, info)


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, two runs, and the results of the second with the first as baseline."""
    place = tmp_path_factory.mktemp("judged")
    save_images(place / "data")
    for seed, name in enumerate(RUNS):
        save_run(place / name, place / "data", f"title of {name}", seed)
    (place / "judge.yaml").write_text(
        "knn: {k: [1, 20]}\nlinear_probe: {epochs: 3, learning_rates: [0.1]}\nimage_size: 16\n"
        f"data: {{name: image_folder, root: {json.dumps(str(place / 'data'))}}}\n"
    )
    baseline = json.dumps(str(place / RUNS[0] / "backbone.safetensors"))
    code = main(
        [
            "run",
            str(place / "judge.yaml"),
            f"backbone={place / RUNS[1] / 'backbone.safetensors'}",
            f"baselines=[pixels, random, {baseline}]",
        ]
    )
    assert code == 0
    return place


STUDY = {
    "runs": [
        {"arm": arm, "seed": seed, "metrics": {"knn/k=20/top1": 60 + seed + gain}, "seconds": 9.5}
        for arm, gain in (("none", 0.0), ("<u>copy", 0.5))
        for seed in range(3)
    ],
    "contrasts": [
        {
            "name": "<u>copy - none",
            "metric": "knn/k=20/top1",
            "difference": 0.5,
            "interval": [-0.3, 1.3],
            "p_holm": 0.2,
            "margin": 1.0,
            "equivalent": False,
            "stated_before": False,
            "sentence": "+0.5 points: inside the noise",
        }
    ],
}
WORTH = {
    "verdict": "<em>Pretraining pays</em> below 40 labels a class.",
    "interval": [1.0, 3.0],
    "contestants": [
        {"name": "<s>scratch", "metrics": {"knn/k=20/top1": 40}, "label_budget": {"1": 10, "5": 30}}
    ],
    "command": "ssl-bf worth FOLDER --minutes 60",
    "differences": [
        {"labels": 5, "rival": "<s>pixels", "points": 2.0, "interval": [-1, 5], "clear": False}
    ],
    "notes": ["<u>The noise is that of two seeds."],
    "said": {"The images": ["12 images of <u>cats"], "What was tried": []},
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.json"
    path.write_text(json.dumps(STUDY))
    return path


@pytest.fixture
def worth(tmp_path: Path) -> Path:
    path = tmp_path / "worth.json"
    path.write_text(json.dumps(WORTH))
    return path
