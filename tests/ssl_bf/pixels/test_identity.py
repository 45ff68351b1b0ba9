"""Which images a run goes on with. Run: pytest tests/ssl_bf/pixels/test_identity.py."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from linear_eval.datasets import ImageFolderConfig, contents
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.system.errors import InputError
from ssl_bf.pixels.identity import check_identity, image_identity

LONG_AGO = 1_600_000_000 * 10**9


def write(path: Path, colour: int, time_ns: int = LONG_AGO) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", (4, 4), (colour, 0, 0)).save(path)
    os.utime(path, ns=(time_ns, time_ns))


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., ImageSplit]:
    """Six bitmaps, listed anew at every call, and read if that is asked for."""
    for number in range(6):
        write(tmp_path / "images" / "a" / f"{number}.bmp", number)

    def open_them(*, read: bool) -> ImageSplit:
        split = ImageFolderConfig(root=str(tmp_path / "images")).open_train()
        for row in range(len(split) if read else 0):
            split.read(row)
        return split

    return open_them


@pytest.fixture
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as older than they are: nobody can set the time of their last change back."""
    monkeypatch.setattr(contents, "_YOUNG_NS", 0)


@pytest.mark.usefixtures("_settled")
@pytest.mark.parametrize("then", [True, False])
@pytest.mark.parametrize("now", [True, False])
def test_the_same_files_are_the_same(
    opened: Callable[..., ImageSplit], then: bool, now: bool
) -> None:
    assert check_identity(image_identity(opened(read=then)), opened(read=now)) is None


@pytest.mark.parametrize("now", [True, False])
def test_other_contents_are_refused_where_those_of_then_are_known(
    opened: Callable[..., ImageSplit], tmp_path: Path, now: bool
) -> None:
    saved = image_identity(opened(read=True))
    path = tmp_path / "images" / "a" / "3.bmp"
    write(path, 3, LONG_AGO + 1)
    assert check_identity(saved, opened(read=now)) is None
    write(path, 77, LONG_AGO + 2)
    with pytest.raises(InputError, match="the same names, labels and sizes, but other contents"):
        check_identity(saved, opened(read=now))


def test_what_was_not_read_then_is_taken_as_the_same_and_said_so(
    opened: Callable[..., ImageSplit], tmp_path: Path
) -> None:
    saved = image_identity(opened(read=False))
    write(tmp_path / "images" / "a" / "3.bmp", 3, LONG_AGO + 1)
    said = check_identity(saved, opened(read=True))
    assert said is not None
    assert said.startswith("images: it is not known whether they still hold what they held")


@pytest.mark.parametrize("saved", [{}, {"images": None}])
def test_earlier_versions_kept_less(
    opened: Callable[..., ImageSplit], saved: dict[str, Any]
) -> None:
    split = opened(read=True)
    assert check_identity(dict.fromkeys(saved, split.fingerprint), split) is not None


def test_an_image_more_is_another_set(opened: Callable[..., ImageSplit], tmp_path: Path) -> None:
    saved = image_identity(opened(read=True))
    write(tmp_path / "images" / "a" / "9.bmp", 9)
    with pytest.raises(InputError, match="others in number, name, label or file size"):
        check_identity(saved, opened(read=True))
