import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import file_sha256, load_backbone, save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.cli import main
from linear_eval.datasets import TexturesConfig

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
CONFIG = "data: {name: textures, train_images: 30, test_images: 20}\nbatch_size: 8\n"


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    info = BackboneInfo("small_conv", 128, 24, MEAN, STD, {"title": "random weights"})
    save_backbone(tmp_path / "b.safetensors", build_backbone("small_conv"), info)
    return tmp_path / "b.safetensors"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path / "tiny.yaml"


def _read(output: Path) -> tuple[Any, dict[str, Any]]:
    return np.load(output, allow_pickle=False), json.loads(output.with_suffix(".json").read_text())


def test_features_names_and_labels_lie_in_the_same_order(
    tmp_path: Path, backbone: Path, config: Path
) -> None:
    output = tmp_path / "f.npy"
    assert (
        main(["extract", str(backbone), str(config), "--output", str(output), "--split", "test"])
        == 0
    )
    features, side = _read(output)
    split = TexturesConfig(train_images=30, test_images=20).open_test()
    assert side["ids"] == list(split.ids)
    assert side["labels"] == split.labels.tolist()
    assert side["class_names"] == list(split.class_names)
    assert side["backbone"] == {"architecture": "small_conv", "sha256": file_sha256(backbone)}
    assert (side["data"]["name"], side["data"]["split"]) == ("textures", "test")
    assert features.dtype == np.float32
    assert split.pixels is not None
    network, _ = load_backbone(backbone)
    expected = network((split.pixels.float() / 255 - 0.5) / 0.25)
    torch.testing.assert_close(torch.from_numpy(features), expected, atol=1e-5, rtol=1e-4)


def test_overrides_may_stand_after_the_options(
    tmp_path: Path, backbone: Path, config: Path
) -> None:
    output = tmp_path / "f.npy"
    arguments = ["extract", str(backbone), str(config), "batch_size=3", "--output", str(output)]
    assert main([*arguments, "data.max_images=10"]) == 0
    assert _read(output)[0].shape == (10, 128)


def test_a_folder_of_images_is_read_at_the_backbones_size(
    tmp_path: Path, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "wide.png")
    Image.fromarray(pixels.transpose(1, 0, 2).copy()).save(photos / "tall.png")
    (photos / "broken.png").write_bytes(b"no image")
    output = tmp_path / "f.npy"
    arguments = ["extract", str(backbone), str(photos), "--output", str(output)]
    assert main(arguments) == 2
    assert "broken.png" in capsys.readouterr().err
    assert not output.exists()
    assert main([*arguments, "data.on_bad_image=skip", "data.max_bad=1"]) == 0
    features, side = _read(output)
    assert features.shape == (2, 128)
    assert side["ids"] == ["tall.png", "wide.png"]
    assert side["labels"] == [-1, -1]
    assert "1 of 3 images could not be read" in capsys.readouterr().out


def test_the_folders_size_gives_way_to_the_users(
    tmp_path: Path, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (50, 80)).save(photos / "a.png")
    Image.new("RGB", (50, 60)).save(photos / "b.png")
    arguments = ["extract", str(backbone), str(photos), "--output", str(tmp_path / "f.npy")]
    assert main([*arguments, "images.resize=30"]) == 2
    assert "'a.png' has 30 x 48 pixels but 'b.png' has 30 x 36 pixels" in capsys.readouterr().err


def test_features_are_read_where_they_were_kept(
    tmp_path: Path, backbone: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for name in ("a.npy", "b.npy"):
        assert main(["extract", str(backbone), str(config), "--output", str(tmp_path / name)]) == 0
        found.append((tmp_path / name).read_bytes())
    assert found[0] == found[1]
    said = capsys.readouterr().out
    assert said.count(f"features: read from {tmp_path / 'features'}") == 1
    room = sum(path.stat().st_size for path in (tmp_path / "features").rglob("*/*")) / 2**20
    kept = f"features: kept in {tmp_path / 'features'} ({room:.1f} MiB in all); delete it at any"
    assert said.count(kept) == 2
    halves = ["extract", str(backbone), str(config), "--output", str(tmp_path / "c.npy")]
    assert main([*halves, "features.dtype=float16", "features.folder=none"]) == 0
    assert "kept in" not in capsys.readouterr().out
    assert np.array_equal(
        _read(tmp_path / "c.npy")[0], _read(tmp_path / "a.npy")[0].astype(np.float16)
    )
    assert len(list((tmp_path / "features").iterdir())) == 1


@pytest.mark.parametrize("existing", ["f.npy", "f.json"])
def test_existing_files_are_replaced_only_when_asked(
    tmp_path: Path, backbone: Path, config: Path, existing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / existing).write_text("mine")
    arguments = ["extract", str(backbone), str(config), "--output", str(tmp_path / "f.npy")]
    assert main(arguments) == 2
    assert f"{existing} exists" in capsys.readouterr().err
    assert (tmp_path / existing).read_text() == "mine"
    assert main([*arguments, "--overwrite"]) == 0
    assert _read(tmp_path / "f.npy")[0].shape == (30, 128)


@pytest.mark.parametrize(
    ("output", "said"), [("f.txt", "does not end in .npy"), ("gone/f.npy", "gone: no such folder")]
)
def test_an_impossible_output_is_refused_before_anything_is_read(
    tmp_path: Path, output: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no backbone")
    assert (
        main(["extract", str(tmp_path / "file"), "no_config", "--output", str(tmp_path / output)])
        == 2
    )
    assert said in capsys.readouterr().err


def test_a_pickle_is_refused(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({}, tmp_path / "b.pth")
    arguments = [
        "extract",
        str(tmp_path / "b.pth"),
        str(config),
        "--output",
        str(tmp_path / "f.npy"),
    ]
    assert main(arguments) == 2
    assert "holds a pickle" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.pth", "tiny.yaml"]


def test_a_full_disk_leaves_neither_file(
    tmp_path: Path,
    backbone: Path,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    output = tmp_path / "out"
    output.mkdir()
    arguments = ["extract", str(backbone), str(config), "--output", str(output / "f.npy")]
    assert main(arguments) == 2
    assert "f.npy: cannot be written (No space left on device)" in capsys.readouterr().err
    assert not list(output.iterdir())
