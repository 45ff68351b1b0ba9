"""File names and messages of others, escaped for the screen: nothing in them moves the cursor."""


def printable(text: str) -> str:
    """The text in one line: line breaks, control characters and broken bytes are escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def one_line(text: str) -> str:
    """As `printable`, for a message that may have lines: they become one, without outer blanks."""
    return printable(" ".join(text.split("\n")).strip())
