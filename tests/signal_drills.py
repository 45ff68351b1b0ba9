"""A signal in a phase of a command: one line, the promised exit code, and the same line goes on.

Each drill is a command in a fork that sends itself a signal where the phase is. After it, the same
command ends well, and what it leaves equals what nothing interrupted, bit for bit. What is not so
is an AssertionError.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from ssl_bf.run.checkpoint import load_newest, published_steps
from tests.forked import command
from tests.tiny_run import TINY, save_images

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
AUTO = ["ssl-bf", "pretrain", "tiny.yaml", "run.resume=auto"]
STORE = ["speed.store=store"]
JUDGE = ["linear-eval", "run", "quickstart", "backbone=pixels", "data.train_images=100"]
JUDGE += ["data.test_images=20", "output=r.json"]
SEARCH = [*JUDGE, "evaluators=[retrieval]"]
# Phase -> the command, and the function whose call is the phase.
RAISED = {
    "reading the images": (AUTO, "ssl_bf.build.open_source"),
    "building": (AUTO, "ssl_bf.build.build_optimizer"),
    "packing": ([*AUTO, *STORE], "ssl_bf.pixels.block_log.BlockWriter.append"),
    "resuming": (AUTO, "ssl_bf.run.training_state.restore"),
    "resume": (["ssl-bf", "resume", "run"], "ssl_bf.run.training_state.restore"),
    "judging": ([*JUDGE, "evaluators=[knn]"], "linear_eval.evaluators.knn._neighbours"),
    "searching": (SEARCH, "linear_eval.search.exact._rankings"),
}
REMEMBERED = {
    "training": (AUTO, "ssl_bf.train._update"),
    "saving": (AUTO, "ssl_bf.run.checkpoint._commit"),
    "saving, told": (AUTO, "ssl_bf.train._save"),
    "monitoring": ([*AUTO, "run.monitor_every=1"], "ssl_bf.train._judge"),
    "logging": (AUTO, "ssl_bf.run.log.RunLog.write"),
}


def interrupting(place: str, name: str, twice: bool) -> Callable[[], None]:
    """Patches a function so that its first call sends the signal to its process, or two."""

    def patch() -> None:
        owner, _, attribute = place.rpartition(".")
        try:
            module: Any = importlib.import_module(owner)
        except ModuleNotFoundError:
            outer, _, inner = owner.rpartition(".")
            module = getattr(importlib.import_module(outer), inner)
        original = getattr(module, attribute)
        sent: list[str] = []

        def call(*given: Any, **keys: Any) -> Any:
            if not sent:
                sent.append(name)
                try:
                    os.kill(os.getpid(), signal.Signals[name])
                finally:
                    if twice:
                        # From another thread both would be one to Python's main thread.
                        time.sleep(
                            0.5 * (threading.current_thread() is not threading.main_thread())
                        )
                        os.kill(os.getpid(), signal.Signals[name])
            return original(*given, **keys)

        setattr(module, attribute, call)

    return patch


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def prepared(folder: Path) -> None:
    """Real images, for there to be something to pack."""
    save_images(folder / "images/train")
    data = {"name": "image_folder", "root": "images", "holdout": 0.2}
    tiny = {**TINY, "data": data, "batch_size": 4}
    tiny["relation"] = {"name": "batchformer", "context": 4}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny))


def whole_run(folder: Path) -> Path:
    """The run that nothing interrupts."""
    prepared(folder)
    with inside(folder):
        assert command(AUTO, Path("errors")) == 0, Path("errors").read_text()
    return folder / "run"


def assert_same_run(ours: Path, theirs: Path) -> None:
    one, other = load_newest(ours), load_newest(theirs)
    assert one.step == other.step > 4
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    assert json.loads((ours / "status.json").read_bytes())["state"] == "finished"


def last_line(file: Path) -> str:
    text = file.read_text()
    assert "Traceback" not in text, text
    return text.splitlines()[-1]


def drill_outside_of_training(
    phase: str, name: str, twice: bool, folder: Path, whole: Path
) -> None:
    """A signal in a phase of `RAISED`; `whole` is from `whole_run`."""
    prepared(folder)
    words, place = RAISED[phase]
    with inside(folder):
        if phase in ("resuming", "resume"):
            stop = interrupting("ssl_bf.train._update", "SIGTERM", twice=False)
            assert command(AUTO, Path("errors"), stop) == 75, Path("errors").read_text()
        code = command(words, Path("errors"), interrupting(place, name, twice))
        line = last_line(Path("errors"))
        assert code == 128 + signal.Signals[name], Path("errors").read_text()
        by = "" if name == "SIGINT" else f" by {name}"
        said = f"{name}: a second signal, ended at once" if twice else f"interrupted{by}: "
        assert line.startswith(said), line
        assert "ssl-bf resume" not in line, line  # the same command goes on
        assert command(words, Path("errors")) == 0, Path("errors").read_text()
        if words[0] == "ssl-bf":
            assert_same_run(Path("run"), whole)


def drill_while_it_trains(phase: str, name: str, twice: bool, folder: Path, whole: Path) -> None:
    """A signal in a phase of `REMEMBERED`: it saves, and the second one ends it at once."""
    prepared(folder)
    words, place = REMEMBERED[phase]
    with inside(folder):
        code = command(words, Path("errors"), interrupting(place, name, twice))
        line = last_line(Path("errors"))
        saved = published_steps(Path("run"))
        if twice:
            assert code == 128 + signal.Signals[name], code
            assert line.startswith(f"{name}: a second signal, ended at once; "), line
            assert ("resume" in line) == bool(saved), (line, saved)
        else:
            assert code == 75, code
            assert line.startswith(f"stopped at step {saved[0]} of "), line
            assert line.endswith("; go on with: ssl-bf resume run"), line
            assert json.loads(Path("run/status.json").read_bytes())["state"] == "stopped"
        assert command(words, Path("errors")) == 0, Path("errors").read_text()
        assert_same_run(Path("run"), whole)


def drill_at_any_instant(chance: random.Random, seconds: float, folder: Path, whole: Path) -> None:
    """A signal at an instant of the `seconds` that a run takes, or after it."""
    prepared(folder)
    name, instant = chance.choice(SIGNALS), chance.uniform(0.001, seconds)

    def send_later() -> None:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.Signals[name]))
        signal.setitimer(signal.ITIMER_REAL, instant)

    with inside(folder):
        code = command(AUTO, Path("errors"), send_later)
        line, where = last_line(Path("errors")), (name, instant)
        assert code in (0, 75, 128 + signal.Signals[name]), (where, code, line)
        if code:
            starts = ("stopped at step ", "interrupted", f"{name}: ")
            assert line.startswith(starts), (where, line)
            says_resume = "ssl-bf resume" in line
            assert says_resume == bool(published_steps(Path("run"))), (where, line)
        assert command(AUTO, Path("errors")) == 0, (where, Path("errors").read_text())
        assert_same_run(Path("run"), whole)
