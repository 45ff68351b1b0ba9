"""Letters and fonts. Needs no font but Pillow's own, which has the letters of English only."""

import shutil
from pathlib import Path

import pytest
from PIL import ImageFont

from linear_eval.own_images import fonts
from linear_eval.own_images.fonts import Font, Lettering, installed_fonts

CAT = "\u732b"
OTHERS = [CAT, "\u043a\u043e\u0442", "\u0642\u0637\u0629", "\U0001f431", "\u0e41\u0e21\u0e27"]


@pytest.fixture(autouse=True)
def only_pillows_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_USUAL", ())


@pytest.fixture
def alone() -> Lettering:
    """On a machine without a font of its own."""
    return Lettering(12, search=lambda letter: [])


@pytest.fixture
def font_file(tmp_path: Path) -> Path:
    path = tmp_path / "Latin-Regular.ttf"
    font = ImageFont.load_default(12)
    assert isinstance(font, ImageFont.FreeTypeFont)
    path.write_bytes(font.font_bytes)
    return path


def test_a_font_knows_which_letters_it_has() -> None:
    font = Font(ImageFont.load_default(12))
    assert font.has("A cat_01 (black), or 2.png")
    assert [each for each in OTHERS if font.has(each)] == []
    assert not font.has(f"cat {CAT}")


def test_what_reads_from_the_right_needs_a_font_engine_that_can_do_so() -> None:
    pillows = ImageFont.load_default(12)
    assert isinstance(pillows, ImageFont.FreeTypeFont)
    font = Font(pillows.font_variant(layout_engine=ImageFont.Layout.BASIC))
    font._known |= {"\u05d7": True, "\u092c": True, CAT: True}
    assert font.has(CAT)
    assert not font.has("\u05d7")
    assert not font.has("\u092c")


@pytest.mark.parametrize("name", OTHERS)
def test_a_name_that_no_font_can_draw_is_a_number_that_is_explained(
    name: str, alone: Lettering
) -> None:
    assert alone.readable("cat.png") == "cat.png"
    assert alone.readable(f"{name}.png") == "(name 1)"
    assert alone.readable(f"{name}/x") == "(name 2)"
    assert alone.readable(f"{name}.png") == "(name 1)"
    assert alone.numbered == {f"{name}.png": "(name 1)", f"{name}/x": "(name 2)"}


def test_one_name_in_two_spellings_is_one_name(alone: Lettering) -> None:
    assert alone.readable("cafe\u0301") == alone.readable("caf\u00e9")
    assert alone.readable("\u30ab\u3099") == alone.readable("\u30ac")


def test_what_cannot_be_printed_is_escaped(alone: Lettering) -> None:
    assert alone.readable("a\udcff\n\u202e.png") == "a\\udcff\\n\\u202e.png"


def test_a_font_that_has_the_letters_is_found_behind_those_that_have_not(
    tmp_path: Path, font_file: Path
) -> None:
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    asked = []

    def search(letter: str) -> list[tuple[str, int]]:
        asked.append(letter)
        return [(str(tmp_path / name), 0) for name in ("gone", "damaged.ttf", font_file.name)]

    lettering = Lettering(12, search)
    lettering._usual._known["a"] = False
    assert lettering.readable("cat") == "cat"
    assert asked == ["a"]
    runs = lettering._runs("cat")
    assert runs is not None
    assert [part for part, _ in runs] == ["c", "at"], "the font stays where it can"
    assert lettering.length("cat") > lettering.length("ca")
    assert lettering.readable(CAT) == "(name 1)"


def test_a_text_is_shortened_to_its_room(alone: Lettering) -> None:
    short = alone.shortened("x" * 90 + "end.png", 100)
    assert alone.length(short) <= 100
    assert short.startswith("x")
    assert short.endswith("end.png")
    assert alone.shortened("cat", 100) == "cat"


def test_fonts_are_found_without_fontconfig_but_not_those_that_pretend(
    font_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(font_file, font_file.with_name("LastResort.otf"))
    shutil.copy(font_file, font_file.with_name("A-Bold.ttf"))
    (font_file.parent / "notes.txt").touch()
    monkeypatch.setattr(fonts, "_FOLDERS", (str(font_file.parent), "/no/such/folder"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for each in (installed_fonts, fonts._fonts_in_folders):
        each.cache_clear()
    found = installed_fonts(CAT)
    for each in (installed_fonts, fonts._fonts_in_folders):
        each.cache_clear()
    assert [Path(path).name for path, _ in found] == ["Latin-Regular.ttf", "A-Bold.ttf"]


@pytest.mark.skipif(shutil.which("fc-list") is None, reason="fontconfig is not installed")
def test_fonts_that_fontconfig_names_have_the_letter() -> None:
    found = [Font(ImageFont.truetype(path, 12, index=n)) for path, n in installed_fonts("A")[:3]]
    assert all(font.has("A") for font in found)
