"""A folder of a few images, and a plan of a few steps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import IMAGENET_MEAN, IMAGENET_STD, BackboneInfo
from ssl_bf.worth.plan import Plan, Rung
from ssl_bf.worth.recipes import CANDIDATES, Setting

CLASSES = ("stripes", "plain")


def save_folder(folder: Path, images: int = 60, side: int = 16) -> Path:
    """Two classes that a pixel tells apart, now and then."""
    random = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(images):
            pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
            if number:
                pixels[::2] = pixels[1::2]
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save_folder(tmp_path / "photos")


@pytest.fixture
def tiny_plan() -> Plan:
    setting = Setting(
        root="",
        backbone={"name": "small_conv"},
        size=16,
        precision="float32",
        threads=1,
        batch_size=16,
    )
    return Plan(
        setting=setting,
        jobs=1,
        candidates=CANDIDATES[:2],
        rungs=(Rung(kept=2, epochs=1),),
        epochs=1,
        seeds=2,
        budgets=(1, 5),
        supervised_budgets=(5,),
        draws=1,
        seconds=60.0,
    )


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    path = tmp_path / "frozen.safetensors"
    info = BackboneInfo("small_conv", 128, 16, IMAGENET_MEAN, IMAGENET_STD, {})
    save_backbone(path, build_backbone("small_conv"), info)
    return path
