"""Tests of ssl_bf.pack_command: `ssl-bf pack` from the command line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_bf.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images of unequal size, and a file that is none."""
    generator = np.random.default_rng(0)
    for number in range(5):
        pixels = generator.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        path = tmp_path / "data" / "a" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (path.parent / "9.jpg").write_bytes(b"no image")
    return tmp_path / "data"


def test_a_folder_is_packed_and_checked_when_asked_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["pack", str(folder), str(tmp_path / "store"), "views.short_side=16"]
    assert main([*command, "data.on_bad_image=skip"]) == 0
    assert main([*command, "data.on_bad_image=skip"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("6 images, 0.00 GiB, every byte checked, 1 bad ones skipped") == 2
    assert printed.err.count("packing 6 of 6 images") == 1


def test_a_store_that_lacks_bad_images_is_refused_where_a_fresh_pack_would_be(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["pack", str(folder), str(tmp_path / "store")]
    assert main([*command, "data.on_bad_image=skip"]) == 0
    capsys.readouterr()
    assert main(command) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(
        f"error: {tmp_path / 'store'}: was packed without 1 image(s) that cannot be decoded, as "
        f"data.on_bad_image=skip told ({folder / 'a' / '9.jpg'}: "
    )
    assert printed.err.count("\n") == 1
    assert main([*command, "data.on_bad_image=skip"]) == 0


def test_wrong_input_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, says in [
        ([str(folder), str(tmp_path / "store")], "9.jpg: cannot be decoded"),
        ([str(tmp_path / "gone"), str(tmp_path / "store")], "gone: no such folder"),
        ([str(folder), str(folder)], "is no packed store, or no whole one"),
        ([str(folder), str(tmp_path / "x"), "views.short_sied=3"], "Did you mean 'short_side'"),
        ([str(folder), str(tmp_path / "x"), "views.short_side=0"], "views.short_side: must be"),
    ]:
        assert main(["pack", *given]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ")
        assert says in error
    assert not (tmp_path / "store").exists()
