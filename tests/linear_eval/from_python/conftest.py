"""A small backbone in a file, and folders of images in classes."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.datasets import TexturesConfig

HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="session")
def backbone_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backbone") / "backbone.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_backbone("small_conv")
    save_backbone(path, network, BackboneInfo("small_conv", 128, 32, HALF, HALF))
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 PNGs of 48 x 40 pixels in 10 class folders."""
    folder = tmp_path_factory.mktemp("photos")
    split = TexturesConfig(train_images=40).open_train()
    for row, label in enumerate(split.labels.tolist()):
        place = folder / split.class_names[label]
        place.mkdir(exist_ok=True)
        pixels = split.read(row).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).resize((48, 40)).save(place / f"{row}.png")
    return folder
