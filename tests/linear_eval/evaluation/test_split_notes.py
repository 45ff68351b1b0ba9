"""Notes of splits reach the screen once."""

from pathlib import Path

import pytest
from PIL import Image

from linear_eval.datasets.image_folder import ImageFolderConfig
from linear_eval.evaluation.split_notes import tell_notes


def test_a_note_is_told_once_however_often_its_split_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.xmp").write_text("x")
    split = ImageFolderConfig(root=str(tmp_path)).open_train()
    tell_notes([split, split.select(split.labels + 1), split])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"note: {tmp_path}: 1 file is not read as an image: 1 .xmp\n"
