"""10 and 12 bits of data in 16-bit files. Run: pytest THIS_FILE."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linear_eval.datasets import ImageFolderConfig


def write(folder: Path, brightest: int, *, count: int = 40, suffix: str = "png") -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        values = np.linspace(0, brightest * (number + 1) / count, 64).reshape(8, 8)
        Image.fromarray(values.round().astype(np.uint16)).save(folder / f"{number:02d}.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("brightest", "key"), [(1000, 1023), (4000, 4095), (255, 255)])
def test_nearly_black_images_are_told_of_with_the_key_that_rescales_them(
    tmp_path: Path, brightest: int, key: int, suffix: str
) -> None:
    write(tmp_path / "a", brightest, suffix=suffix)
    (note,) = ImageFolderConfig(root=str(tmp_path)).open_train().notes
    assert "nearly black" in note
    assert f"set data.white_level={key}" in note
    rescaled = ImageFolderConfig(root=str(tmp_path), white_level=key).open_train()
    assert rescaled.notes == ()
    assert len(rescaled.read(39).unique()) > 32 * (brightest > 255)


def test_whoever_uses_the_range_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "a", 5000)
    assert ImageFolderConfig(root=str(tmp_path)).open_train().notes == ()


def test_eight_bit_images_and_broken_ones_are_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.png").write_bytes(b"no image")
    assert ImageFolderConfig(root=str(tmp_path)).open_train().notes == ()
