"""Tests of the ceiling of skipped images, and of Pillow's warnings being counted."""

import warnings
from pathlib import Path

import pytest
from PIL import Image

from linear_eval.datasets.bad_images import check_bad_images
from linear_eval.datasets.library_warnings import CountedWarnings
from linear_eval.system.errors import InputError
from ssl_bf.cli import main


def test_the_share_is_a_ceiling() -> None:
    names = [f"{n}.png" for n in range(5)]
    check_bad_images(names, 100, 0.05)
    check_bad_images([], 1, 0.0)
    with pytest.raises(InputError) as error:
        check_bad_images([*names, "5.png: cannot be decoded; replace it"], 100, 0.05)
    assert str(error.value) == (
        "data: 6 of 100 images cannot be read (0.png, 1.png, 2.png, 3.png, 4.png and 1 more), "
        "expected at most 5 % (data.max_bad=0.05); repair or remove them, or raise data.max_bad"
    )


def folder_of(root: Path, *, good: int, bad: int) -> Path:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
    for n in range(good):
        Image.new("RGB", (20, 24), (9 * n, 0, 0)).save(root / ("cat", "dog")[n % 2] / f"{n}.png")
    for n in range(bad):
        (root / ("cat", "dog")[n % 2] / f"bad{n}.png").write_bytes(b"no image")
    return root


@pytest.mark.parametrize("images", ["memory", "files"])
def test_a_run_on_mostly_bad_images_is_refused(
    images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder_of(tmp_path / "images", good=20, bad=12)
    code = main(
        [
            *("pretrain", "small_image_folder", f"data.root={root}", "batch_size=4", "epochs=1"),
            *("data.on_bad_image=skip", "optimizer.warmup_epochs=0", "data.holdout=0"),
            *(f"run.directory={tmp_path / 'run'}", f"speed.images={images}", "speed.threads=1"),
            *("precision=float32", "run.monitor_every=0", "speed.device=cpu"),
        ]
    )
    err = capsys.readouterr().err
    assert code == 2, err
    assert "of 32 images cannot be read" in err
    assert "data.max_bad" in err


def test_pack_refuses_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder_of(tmp_path / "images", good=10, bad=5)
    given = ["pack", str(root), str(tmp_path / "store"), "data.on_bad_image=skip"]
    assert main(given) == 2
    assert "5 of 15 images cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
    assert main([*given, "data.max_bad=0.4"]) == 0


def test_warnings_of_pillow_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        counted = CountedWarnings()
        counted.install()
        for n in range(60):
            warnings.warn_explicit(f"Corrupt EXIF data {n}", UserWarning, "/x/PIL/Tiff.py", n)
        assert counted.count == 60
        counted.tell()
    err = capsys.readouterr().err
    assert err.count("\n") == 2
    assert "Corrupt EXIF data 0" in err
    assert "59 more warnings" in err


def test_of_a_file_of_many_frames_the_first_is_read(tmp_path: Path) -> None:
    from linear_eval.datasets.decode import decode_image

    frames = [Image.new("RGB", (8, 8), (5 * n, 0, 0)) for n in range(50)]
    path = tmp_path / "many.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert decode_image(path, "many.gif").shape == (3, 8, 8)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    import tracemalloc

    from linear_eval.datasets.decode import BadImageError, decode_image

    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    tracemalloc.start()
    with pytest.raises(BadImageError, match="400000000 pixels"):
        decode_image(path, "bomb.png")
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()
