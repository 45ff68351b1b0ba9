"""Small trees of image files for the tests of the data sets."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

MakeTree = Callable[..., Path]


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """Write `count` images of 4 x 3 pixels into each folder below root, and return the root."""

    def make(folders: Mapping[str, int], suffix: str = "png", root: str = "root") -> Path:
        top = tmp_path / root
        top.mkdir(exist_ok=True)
        for folder, count in folders.items():
            (top / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                name = f"{(top / folder).name}_{number}.{suffix}"
                Image.new("RGB", (4, 3), (number % 256, 0, 0)).save(top / folder / name)
        return top

    return make


@pytest.fixture
def one_line() -> Callable[[BaseException], str]:
    """The message of an error for the user; fails unless it is one line with an advice."""

    def check(error: BaseException) -> str:
        message = str(error)
        assert "\n" not in message, message
        assert message.index(":") < message.index(",") < message.rindex(";"), message
        return message

    return check
