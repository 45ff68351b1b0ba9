import pytest

from linear_eval.system import printable as module
from linear_eval.system.printable import aligned, one_line, printable, shortened


def test_names_are_printed_in_one_line() -> None:
    assert printable("K\u00e4se 1.jpg") == "K\u00e4se 1.jpg"
    assert printable("a\nb\udcff\x1b") == "a\\nb\\udcff\\x1b"


def test_a_file_name_that_is_not_text_is_escaped() -> None:
    assert one_line("a\udce4b\u202e é.jpg ") == "a\\udce4b\\u202e é.jpg"


def test_every_character_is_itself_or_an_escape_that_prints() -> None:
    for code in range(0x110000):
        shown = printable(chr(code))
        assert shown.isprintable()
        assert shown == chr(code) or shown.encode().decode("unicode_escape") == chr(code)


HEADINGS = ("percent", "k-NN", "recall@1", "mAP")
ROWS = (("raw pixels", "12.1", "9.0", "5.5"), ("random", "31.3", "-", "10.0"))


def test_a_table_has_its_first_column_at_the_left_and_the_others_at_the_right() -> None:
    assert aligned(HEADINGS, ROWS) == [
        "percent     k-NN  recall@1   mAP",
        "raw pixels  12.1       9.0   5.5",
        "random      31.3         -  10.0",
    ]
    assert aligned(HEADINGS, []) == []
    assert aligned(["only"], [["x"]]) == ["only", "x   "]


@pytest.mark.parametrize("width", [1, 17, 27, 31, 32])
def test_a_table_wider_than_the_terminal_is_parted_between_columns(width: int) -> None:
    lines = aligned(HEADINGS, ROWS, width=width)
    cells = [line.split() for line in "\n".join(lines).replace("raw ", "raw_").splitlines()]
    parts = [cells[start : start + 3] for start in range(0, len(cells), 3)]
    assert all(part[0][0] == "percent" for part in parts)
    joined = [[cell for part in parts for cell in part[row][1:]] for row in range(3)]
    assert joined == [list(HEADINGS[1:]), *(list(row[1:]) for row in ROWS)]
    assert len(parts) == {1: 3, 17: 3, 27: 2, 31: 2, 32: 1}[width]
    assert width < 22 or max(map(len, lines)) <= width


def test_notes_are_broken_between_words_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes = [f"note: number {number} of some" for number in range(7)]
    assert shortened(notes, verbose=True) == notes
    assert shortened(notes, verbose=False) == [
        *notes[:4],
        "note: 3 more lines like these: add --verbose",
    ]
    monkeypatch.setattr(module, "_terminal_width", lambda: 18)
    assert shortened(["note: a/long-file/name.safetensors is here"], verbose=False) == [
        "note:",
        "  a/long-file/name.safetensors",
        "  is here",
    ]
