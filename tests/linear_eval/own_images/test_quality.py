import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.cli import main
from linear_eval.datasets import TexturesConfig
from linear_eval.features.table import collect_features, frozen
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.images.train_views import TrainView
from linear_eval.own_images.feature_quality import alignment, rank_me, uniformity

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    info = BackboneInfo("small_conv", 128, 16, MEAN, STD)
    save_backbone(tmp_path / "b.safetensors", build_backbone("small_conv"), info)
    return tmp_path / "b.safetensors"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of several sizes, in no class folder, and one that cannot be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = TexturesConfig(train_images=10, test_images=10).open_train().pixels
    assert pixels is not None
    for i, image in enumerate(pixels):
        cut = image[:, : 20 + i].permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(cut).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_a_folder_without_labels_is_judged_by_the_three_numbers(
    backbone: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = photos.parent / "q.json"
    arguments = ["quality", str(backbone), str(photos), "--json", str(output)]
    assert main([*arguments, "data.on_bad_image=skip", "data.max_bad=1", "batch_size=4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    metrics = json.loads(output.read_text())["metrics"]
    assert [line.split()[0] for line in lines[:3]] == ["rankme", "alignment", "uniformity"]
    assert [float(line.split()[1]) for line in lines[:3]] == [
        pytest.approx(value, abs=5e-4) for value in metrics.values()
    ]
    assert "1 (collapsed) to 10" in lines[0]
    assert lines[3] == "note: 1 of 11 images could not be read and were skipped"
    assert lines[4] == f"written: {output}"
    before = output.read_bytes()
    assert main([*arguments, "data.on_bad_image=skip", "data.max_bad=1", "batch_size=3"]) == 0
    again = json.loads(output.read_text())["metrics"]
    assert again == {name: pytest.approx(value, rel=1e-4) for name, value in metrics.items()}
    assert main([*arguments, "data.on_bad_image=skip", "data.max_bad=1", "seed=1"]) == 0
    other = json.loads(output.read_text())["metrics"]
    assert other["alignment"] != pytest.approx(metrics["alignment"], rel=1e-4)
    assert output.read_bytes() != before


def test_views_are_compared_and_whole_images_ranked(backbone: Path, tmp_path: Path) -> None:
    config, output = tmp_path / "c.yaml", tmp_path / "q.json"
    config.write_text("data: {name: textures, train_images: 12, test_images: 10}\n")
    command = ["quality", str(backbone), str(config), "--split", "test", "seed=5"]
    assert main([*command, "--json", str(output)]) == 0
    found = json.loads(output.read_text())
    split = TexturesConfig(train_images=12, test_images=10).open_test()
    from linear_eval.backbones.backbone_file import load_backbone

    network, _ = load_backbone(backbone)
    with frozen(network, mean=MEAN, std=STD, device=torch.device("cpu")) as embed:
        whole, first, second = (
            collect_features(
                embed, ImageBatches(split=each, images=EvalImages(), batch_size=10)
            ).features
            for each in (
                split,
                TrainView(size=32, seed=5, epoch=0).of(split),
                TrainView(size=32, seed=5, epoch=1).of(split),
            )
        )
    assert found["metrics"]["rankme"] == pytest.approx(rank_me(whole), rel=1e-4)
    assert found["metrics"]["uniformity"] == pytest.approx(uniformity(whole), rel=1e-4)
    assert found["metrics"]["alignment"] == pytest.approx(alignment(first, second), rel=1e-4)
    assert found["data"]["images"] == 10


def test_a_single_image_and_a_folder_that_is_not_there_are_refused(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "one" / "a.png")
    assert main(["quality", str(backbone), str(tmp_path / "one")]) == 2
    assert "1 images, expected two or more" in capsys.readouterr().err
    gone = str(tmp_path / "gone" / "q.json")
    assert main(["quality", str(backbone), str(tmp_path / "one"), "--json", gone]) == 2
    assert "--json: " in capsys.readouterr().err
