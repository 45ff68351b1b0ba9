"""What `make torture` counts, and that it counts it. Run: pytest THIS_FILE."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.torture import figures
from tests.torture.__main__ import main
from tests.torture.chunk import tried
from tests.torture.every_run import combined
from tests.torture.mutants import json_mutant, mutant
from tests.torture.row import Row, Trials, Tried
from tests.torture.rows import ROWS
from tests.torture.table import table

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def trial(number: int) -> Tried:
    """Trial 2 is killed, 4 hangs, 5 fails, 6 is bad; each tries two things."""
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 4:
        time.sleep(60)
    if number == 5:
        raise KeyError("x")
    print("not to be seen")
    return Tried(("wrong",) if number == 6 else (), 2, {"twos": 2})


def row_of(total: int | None = None, chunk: int = 8) -> Row:
    return Row(
        "some", "something: wrong", lambda _: Trials(trial, total), 10, chunk=chunk, seconds=1
    )


def test_what_kills_hangs_or_fails_is_a_figure_and_the_others_are_tried(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = tried(row_of(), Trials(trial), 0, tmp_path)
    assert (line["first"], line["trials"], line["count"]) == (0, 8, 5 * 2 + 3)
    assert line["facts"] == {"twos": 10}
    assert [each["trial"] for each in line["bad"]] == [2, 4, 5, 6]
    said = [each["bad"] for each in line["bad"]]
    assert said[:2] == ["the process ended by SIGKILL", "the process ended by SIGALRM"]
    assert said[2].startswith("KeyError at test_torture.py:")
    assert said[3] == "wrong"
    assert capfd.readouterr().out == ""


def test_a_row_ends_with_its_last_trial(tmp_path: Path) -> None:
    assert tried(row_of(), Trials(trial, 2), 0, tmp_path)["trials"] == 2


def test_figures_add_up_and_the_table_says_how_far_they_got(tmp_path: Path) -> None:
    file = tmp_path / "figures.jsonl"
    for first, bad in ((0, []), (8, [{"trial": 9, "bad": "wrong"}])):
        line = {"row": "some", "first": first, "trials": 8, "count": 16, "of": None, "bad": bad}
        figures.append(file, {**line, "commit": "abc"})
    found = figures.read(file)["some"]
    assert (found.next_trial, found.count, found.bad) == (16, 32, ["trial 9: wrong"])
    lines = table([row_of()], {"some": found})
    assert lines[2:] == ["| something: wrong | 32 | 1 | - | 10 | - |", "some: trial 9: wrong"]
    sound = figures.Figures(next_trial=4, count=300, total=4)
    assert (
        table([row_of()], {"some": sound})[2] == "| something: wrong | 300 (all) | 0 | - | 10 | - |"
    )
    begun = figures.Figures(next_trial=3, count=300, total=4)
    assert "| 300 (3 of 4 trials) | 0 | 0.01 |" in table([row_of()], {"some": begun})[2]


def test_each_row_has_a_name_of_its_own_and_nothing_is_tried_in_no_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    monkeypatch.setattr("sys.argv", ["torture", "--minutes", "0", "--into", str(tmp_path / "f")])
    main()
    assert len(capsys.readouterr().out.splitlines()) == len(ROWS) + 2
    assert not (tmp_path / "f").exists()


def test_mutants_follow_from_their_number_and_are_never_the_original() -> None:
    for number in range(300):
        found = mutant(b"some bytes", random.Random(number))
        assert found == mutant(b"some bytes", random.Random(number)) != b"some bytes"
        value = {"a": [1, {"b": "c"}], "d": None}
        json_mutant(value, random.Random(number))
        assert value == {"a": [1, {"b": "c"}], "d": None}


def test_every_method_meets_every_relation_that_it_takes() -> None:
    methods = {method for method, _ in combined()}
    assert {"moco_v2", "moco_v3", "simsiam", "classifier", "metric", "moco_v2_paco"} <= methods
    assert len(combined()) > 60
