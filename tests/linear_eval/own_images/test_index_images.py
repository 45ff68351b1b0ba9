"""What `linear-eval index` writes; how it is asked is in test_query.py."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import file_sha256, save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.cli import main

CONFIG = "data: {name: textures, train_images: 30, test_images: 12}\nbatch_size: 8\n"


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A command that would index the test split of a few textures."""
    info = BackboneInfo("small_conv", 128, 24, (0.5,) * 3, (0.25,) * 3, {"title": "t"})
    save_backbone(tmp_path / "b.safetensors", build_backbone("small_conv"), info)
    (tmp_path / "t.yaml").write_text(CONFIG)
    backbone, config = str(tmp_path / "b.safetensors"), str(tmp_path / "t.yaml")
    return ["index", backbone, config, "--output", str(tmp_path / "index"), "--split", "test"]


def test_the_manifest_says_what_the_index_is_made_of(tmp_path: Path, command: list[str]) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    assert main([*command, "image_size=16"]) == 0
    manifest = json.loads((tmp_path / "index" / "manifest.json").read_text())
    assert (manifest["rows"], manifest["width"], manifest["recall_at_10"]) == (12, 128, None)
    decoding = manifest["images"].pop("decoding")
    assert decoding == {"orientation": "exif", "white_level": 65535, "max_pixels": 50_000_000}
    assert manifest["images"] == {"resize": 16, "crop": 16, "pixels": [16, 16]}
    assert manifest["backbone"]["sha256"] == file_sha256(tmp_path / "b.safetensors")
    assert (manifest["data"]["name"], manifest["data"]["split"]) == ("textures", "test")
    files = {path.name for path in (tmp_path / "index").iterdir()}
    assert files == {"index.faiss", "ids.json", "manifest.json"}
    assert main(command) == 2  # it exists now


def test_a_missing_faiss_is_found_out_before_anything_is_computed(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr("linear_eval.own_images.index_images.extract_split", None)
    assert main(command) == 2
    assert capsys.readouterr().err.startswith("error: faiss: cannot be imported")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--output", "{root}/index"], "--output: {root}/index lies among the images in {root}"),
        (
            ["--output", "{place}/index", "features.folder={root}/f"],
            "features.folder: {root}/f lies",
        ),
    ],
)
def test_nothing_is_written_among_the_images(
    given: list[str],
    says: str,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    root = tmp_path / "photos"
    root.mkdir()
    Image.new("RGB", (20, 24)).save(root / "0.png")
    monkeypatch.setattr("linear_eval.features.store.FeatureStore.table", None)
    given = [each.format(root=root, place=tmp_path) for each in given]
    assert main([*command[:2], str(root), *given]) == 2
    assert capsys.readouterr().err.startswith(f"error: {says.format(root=root)}")
    assert [path.name for path in root.iterdir()] == ["0.png"]
