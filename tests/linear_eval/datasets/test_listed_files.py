"""Files that a list names."""

import unicodedata
from pathlib import Path

import pytest

from linear_eval.datasets.listed_files import listed_images
from linear_eval.system.errors import InputError


def test_listed_images_keep_the_order_of_the_list(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"12")
    (tmp_path / "a.png").write_bytes(b"1")
    found = listed_images(tmp_path, ["b.png", "a.png"])
    assert [(image.path, image.stamp[0]) for image in found] == [("b.png", 2), ("a.png", 1)]
    with pytest.raises(InputError, match="lacks 1 of 2 listed images .c.png."):
        listed_images(tmp_path, ["a.png", "c.png"])


@pytest.mark.parametrize(("on_disk", "in_list"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_name_in_another_unicode_form_is_found_under_its_path(
    on_disk: str, in_list: str, tmp_path: Path
) -> None:
    names = {form: unicodedata.normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD")}
    (tmp_path / names[on_disk]).write_bytes(b"1")
    found = listed_images(tmp_path, [names[in_list]])
    assert (tmp_path / found[0].path).is_file()


@pytest.mark.parametrize(
    "name", ["../outside.png", "a/../../outside.png", "/etc/hosts", "a\0b.png"]
)
def test_a_list_opens_nothing_outside_of_its_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_bytes(b"secret")
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    with pytest.raises(InputError, match="1 of 1 listed images lie outside of it") as error:
        listed_images(folder, [name])
    assert str(error.value).isprintable()
