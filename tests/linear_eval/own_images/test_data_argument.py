from pathlib import Path

import pytest
from PIL import Image

from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.datasets import ImageFolderConfig, TexturesConfig
from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.images.batches import EvalImages
from linear_eval.own_images.data_argument import load_data_argument, open_split
from linear_eval.system.errors import InputError

INFO = BackboneInfo("small_conv", 128, 24, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_a_folder_is_read_at_the_size_that_the_backbone_was_trained_on(tmp_path: Path) -> None:
    config = load_data_argument(Path("b"), str(tmp_path), [], INFO).value
    assert config.data == ImageFolderConfig(root=str(tmp_path))
    assert config.transform() == EvalImages(resize=24, crop=24)
    assert config.backbone == "b"
    other = load_data_argument(Path("b"), str(tmp_path), ["image_size=16"], INFO).value
    assert other.transform() == EvalImages(resize=16, crop=16)


def test_a_config_says_everything_itself(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: {name: textures}\n")
    config = load_data_argument(Path("b"), str(tmp_path / "c.yaml"), ["seed=3"], INFO).value
    assert config.data == TexturesConfig()
    assert config.seed == 3
    assert config.transform() == EvalImages()


def test_train_comes_at_the_size_asked_for_and_test_whole() -> None:
    data = TexturesConfig(train_images=200, test_images=20, max_images=40, long_tail=5)
    config = EvaluateConfig(data=data, backbone="b")
    assert len(open_split(config, "train")) == 40
    assert len(open_split(config, "test")) == 20


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    config = load_data_argument(Path("b"), str(tmp_path), [], INFO).value
    with pytest.raises(InputError, match="holds no images"):
        open_split(config, "train")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert len(open_split(config, "train")) == 1


def test_the_split_that_was_taken_is_said_where_there_are_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("train/cat", "val/cat"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "a.png")
    config = load_data_argument(Path("b"), str(tmp_path), [], INFO).value
    open_split(config, "train")
    assert capsys.readouterr().out == (
        f"note: took the train split, 1 images of {tmp_path / 'train'}; "
        "--split test takes the other\n"
    )
    open_split(config, "test")
    assert f"of {tmp_path / 'val'}; --split train takes" in capsys.readouterr().out
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    photos = str(tmp_path / "photos")
    open_split(load_data_argument(Path("b"), photos, [], INFO).value, "train")
    assert capsys.readouterr().out == ""
