"""Whatever is said, each line is whole. The terminal is a pseudo-terminal."""

import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from linear_eval.system.errors import InputError, run_command
from linear_eval.system.screen import progress_bar, say, whole_lines
from tests.terminal import terminal

ROOT = Path(__file__).parents[3]


def warn_in_a_thread() -> None:
    thread = Thread(target=logging.getLogger("some.module").warning, args=("a record of %d", 7))
    thread.start()
    thread.join()


WAYS: dict[str, tuple[Callable[[], None], str]] = {
    "say": (lambda: say("said"), "said"),
    "a long line": (lambda: say("x" * 90), "x" * 90),
    "log": (lambda: logging.getLogger("some.module").warning("a record of %d", 7), "a record of 7"),
    "thread": (warn_in_a_thread, "a record of 7"),
    "warning": (lambda: warnings.warn("beware", stacklevel=1), r".*: UserWarning: beware"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_message_stands_on_a_line_of_its_own_above_the_bar(way: str) -> None:
    tell, line = WAYS[way]
    with terminal() as shown, warnings.catch_warnings():
        warnings.simplefilter("default")
        with whole_lines(), progress_bar(range(3), "working", 3, unit="thing") as bar:
            for number in bar:
                say(f"before {number}")
                tell()
                say(f"after {number}")
    assert b"working" in shown.written
    lines = [each for each in shown.lines if each]
    for number in range(3):
        start = lines.index(f"before {number}")
        assert lines.index(f"after {number}") > start
        if way != "warning":  # Python shows the line of the source as well, and once only
            assert lines[start + 2] == f"after {number}"
            assert lines[start + 1] == line
    assert any(re.fullmatch(line, each) for each in lines)
    assert not any("working" in each for each in lines), "a bar is left"


def test_what_another_process_says_is_not_appended_to_the_bar() -> None:
    with terminal() as shown, progress_bar(range(2), "working", 2, unit="thing"):
        other = "import os; os.environ['RANK'] = '1'\n"
        other += "from linear_eval.system.screen import say; say('from the other')"
        subprocess.run([sys.executable, "-c", other], cwd=ROOT, stderr=sys.stderr, check=True)
    assert "from the other" in shown.lines


@pytest.mark.parametrize("is_closed", [True, False])
def test_an_error_stands_on_a_line_of_its_own(is_closed: bool) -> None:
    def command() -> None:
        bar = progress_bar(range(3), "working", 3, unit="thing")
        next(iter(bar))
        if is_closed:
            with bar:
                raise InputError("x: is wrong")
        raise InputError("x: is wrong")

    with terminal() as shown:
        assert run_command(command, if_interrupted="") == 2
    assert "error: x: is wrong" in shown.lines


def test_nothing_is_changed_where_no_terminal_shows_bars(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    handlers, shower = list(logging.getLogger().handlers), warnings.showwarning
    with whole_lines():
        assert (logging.getLogger().handlers, warnings.showwarning) == (handlers, shower)
        with progress_bar(range(2), "working", 2, unit="thing") as bar:
            for _ in bar:
                say("said")
    assert capsys.readouterr().err == "said\n" * 2


def test_no_other_module_prints_to_stderr() -> None:
    """Who prints there by itself breaks a bar."""
    modules = [*(ROOT / "linear_eval").rglob("*.py"), *(ROOT / "ssl_bf").rglob("*.py")]
    printing = re.compile(r"file=sys\.stderr|stderr\.write|tqdm\.write|logging\.StreamHandler")
    found = [path.name for path in modules if printing.search(path.read_text(encoding="utf-8"))]
    assert sorted(found) == ["entry.py", "screen.py"]  # entry: where no bar can be yet
