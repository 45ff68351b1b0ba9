"""Tests of ssl_bf.commands.pack: `ssl-bf pack` from the command line."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssl_bf.cli import main
from ssl_bf.pixels.block_log import BLOCK_BYTES, BlockWriter


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
    assert main([*command, "data.on_bad_image=skip", "data.max_bad=1"]) == 0
    assert main([*command, "data.on_bad_image=skip", "data.max_bad=1"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("6 images, 0.00 GiB, every byte as it was packed, 1 bad ones") == 2
    assert printed.err.count("packing 6 of 6 images") == 1


def test_a_store_that_lacks_bad_images_is_refused_where_a_fresh_pack_would_be(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["pack", str(folder), str(tmp_path / "store")]
    assert main([*command, "data.on_bad_image=skip", "data.max_bad=1"]) == 0
    capsys.readouterr()
    assert main(command) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(
        f"error: {tmp_path / 'store'}: was packed without 1 image(s) that cannot be decoded, as "
        f"data.on_bad_image=skip told ({folder / 'a' / '9.jpg'}: "
    )
    assert printed.err.count("\n") == 1
    assert main([*command, "data.on_bad_image=skip", "data.max_bad=1"]) == 0


def test_wrong_input_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, says in [
        ([str(folder), str(tmp_path / "store")], "9.jpg: cannot be decoded"),
        ([str(tmp_path / "gone"), str(tmp_path / "store")], "gone: no such folder"),
        ([str(folder), "."], "expected a folder of its own"),
        ([str(folder), str(folder)], "is no packed store, or no whole one"),
        ([str(folder), str(tmp_path / "x"), "views.short_sied=3"], "Did you mean 'short_side'"),
        ([str(folder), str(tmp_path / "x"), "views.short_side=0"], "views.short_side: must be"),
    ]:
        assert main(["pack", *given]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ")
        assert says in error
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("sealed", [0, 2])
def test_ctrl_c_tells_where_the_whole_blocks_lie(
    sealed: int,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    append = BlockWriter.append

    def interrupt(writer: BlockWriter, *image: Any) -> None:
        if len(writer.blocks) == sealed:
            raise KeyboardInterrupt
        append(writer, *image)

    monkeypatch.setattr("linear_eval.system.sealed_blocks.BLOCK_SECONDS", 0.0)  # every image is one
    monkeypatch.setattr(BlockWriter, "append", interrupt)
    command = [
        "pack",
        str(folder),
        str(tmp_path / "{store}"),
        "data.on_bad_image=skip",
        "data.max_bad=1",
    ]
    assert main(command) == 130
    partial = tmp_path / ".{store}.partial"
    assert partial.is_dir() == (sealed > 0)
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"interrupted: what is packed, but for its last {BLOCK_BYTES >> 20} MiB at most, is kept "
        f"in {partial} until it is complete; the same command goes on"
    )


def test_every_setting_that_the_help_names_is_taken_for_a_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["pack", "--help"])
    shown = capsys.readouterr().out.partition("example:")[0].replace("key=value", "")
    settings = re.findall(r"[\w.]+=\w+", shown)
    assert {setting.partition(".")[0] for setting in settings} == {"data", "views"}
    settings.append("data.max_bad=1")
    assert main(["pack", str(folder), str(tmp_path / "store"), *settings]) == 0
