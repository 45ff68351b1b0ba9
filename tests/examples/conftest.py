"""Small folders of images and a backbone file, for programs that are tried."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.datasets import ImageSplit, TexturesConfig


def write_folder(split: ImageSplit, folder: Path) -> None:
    """One PNG per image, in class folders."""
    for row, label in enumerate(split.labels.tolist()):
        place = folder / split.class_names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(split.read(row).permute(1, 2, 0).numpy()).save(place / f"{row}.png")


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with backbone.safetensors, photos/train, photos/test and beach.png."""
    folder = tmp_path_factory.mktemp("material")
    data = TexturesConfig(train_images=80, test_images=40)
    write_folder(data.open_train(), folder / "photos" / "train")
    write_folder(data.open_test(), folder / "photos" / "test")
    pixels = data.open_test().read(3).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(folder / "beach.png")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_backbone("small_conv")
    half = (0.5, 0.5, 0.5)
    info = BackboneInfo("small_conv", 128, 32, half, half)
    save_backbone(folder / "backbone.safetensors", network, info)
    return folder
