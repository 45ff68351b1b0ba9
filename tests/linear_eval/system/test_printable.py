from linear_eval.system.printable import one_line, printable


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
