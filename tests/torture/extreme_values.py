"""Extreme values through the whole command: it trains, or says in one line what is wrong.

What would train for ever is told to stop after some seconds, and has to. No more memory than a
small machine has is lent; to run out of it is no fault here, for the sizes are checked against the
memory of the machine.
"""

from __future__ import annotations

import copy
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import yaml

from linear_eval.strict_config.flattened import flattened
from linear_eval.strict_config.reader import parse_config, to_yaml
from ssl_bf.config import PretrainConfig
from tests.forked import command
from tests.signal_drills import inside
from tests.tiny_run import TINY
from tests.torture.row import Row, Trials, Tried, chance_of

_NUMBERS = (
    *(0, -1, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**62, 2**63, 10**30, -(2**63), 0.5, -0.5, 1e-30),
    *("1e-320", "1e308", "-1e308", "1e400", "nan", "inf", "-0.0", "1e10", "1e-10", "0x10"),
)
_TEXTS = (
    *("", ".", "/", "..", "/proc/self/mem", "/dev/full", "/dev/null", "a" * 5000, "a/" * 2000),
    *("\x1b[2J", "\n", "a\nb", "\u202e", "é" * 200, "~", "null", "[]", "{}", "-1", "*", "$(id)"),
    *("1epoch", "0steps", "-1min", "1e9steps", "999999999999epochs", "0.000001s", "auto", "none"),
)
_LISTS = ("[]", "[0, 0, 0]", "[1e308, 1e308, 1e308]", "[nan, 0, 0]", "[0.5]", "[[0]]", "[-1, 2]")
_SECONDS = 6.0  # until it is told to stop
_MEMORY = 6 * 2**30
_NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "MemoryError", "bad_alloc")
# What decides whether a trial may be stopped at all, or writes outside of its folder.
_FIXED = ("run.directory", "run.wandb", "speed.device", "speed.compile", "data.download")


def _prepare(folder: Path) -> Trials:
    tree = copy.deepcopy(TINY)
    tree["speed"] = {"device": "cpu", "threads": 1}
    whole = yaml.safe_load(to_yaml(parse_config(PretrainConfig, tree).value))
    keys = [key for key in flattened(whole) if key not in _FIXED]
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tree))

    def trial(number: int) -> Tried:
        chance, place = chance_of("extremes", number), folder / str(number)
        place.mkdir()
        shutil.copy(folder / "tiny.yaml", place)
        given = [
            f"{chance.choice(keys)}={chance.choice((*_NUMBERS, *_NUMBERS, *_TEXTS, *_LISTS))}"
            for _ in range(chance.choice((1, 1, 1, 2)))
        ]
        with inside(place):
            words = ["ssl-bf", "pretrain", "tiny.yaml", *given]
            code = command(words, Path("errors"), _limited)
            said = Path("errors").read_text(errors="replace")
        shutil.rmtree(place)
        return _judged(given, code, said)

    return Trials(trial)


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)


def _judged(given: list[str], code: int, said: str) -> Tried:
    shown = [text[:80] for text in given]
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if any(text in said for text in _NO_MEMORY):
        return Tried(facts={"out of memory": 1})
    outcome: dict[int, str] = {0: "trained", 1: "failed in a line", 2: "refused"}
    outcome |= {75: "stopped", 128 + signal.SIGTERM: "stopped"}
    bad: list[Any] = []
    if code not in outcome:
        bad.append(f"{shown}: exit code {code}: {said[-200:]}")
    elif "Traceback" in said:
        bad.append(f"{shown}: traceback: {said[-200:]}")
    elif code in (1, 2) and len(errors) != 1:
        bad.append(f"{shown}: {len(errors)} lines of error")
    elif any(not char.isprintable() and char not in "\n\r\t" for char in said):
        bad.append(f"{shown}: control characters on the screen")
    return Tried(tuple(bad), facts={outcome.get(code, "bad"): 1})


ROW = Row(
    name="extremes",
    says="extreme values through the whole command: traceback, silence, no end",
    prepare=_prepare,
    must=300,
    chunk=10,
    seconds=90,
)
