"""Tests of ssl_bf.ranks.heartbeats: the store is a dictionary, the processes are real."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from linear_eval.system.errors import ProcessLost
from ssl_bf.ranks import heartbeats
from ssl_bf.ranks.heartbeats import Heartbeats, naming_the_lost

TIMEOUT = 0.4


class Store:
    """As of torch, for one of two processes."""

    def __init__(self) -> None:
        self.words = {"heartbeat_1": "0 elsewhere:1"}
        self.answers = True

    def set(self, key: str, word: str) -> None:
        if not self.answers:
            raise RuntimeError("connection closed")
        self.words[key] = word

    def multi_get(self, keys: list[str]) -> list[bytes]:
        if not self.answers:
            raise RuntimeError("connection closed")
        return [self.words[key].encode() for key in keys]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(heartbeats, "connection", lambda _: made)
    monkeypatch.setattr(heartbeats, "barrier", lambda: None)
    monkeypatch.setattr(heartbeats, "rank", lambda: 0)
    monkeypatch.setattr(heartbeats, "world_size", lambda: 2)
    return made


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The line with which the process would have ended."""
    lines: list[str] = []

    def end(self: Heartbeats, line: str, *, speaks: bool) -> None:
        assert speaks  # 0 is the first of those that are left
        lines.append(line)
        self._ended.set()

    monkeypatch.setattr(Heartbeats, "_end", end)
    return lines


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def wait_for(lines: list[str]) -> str:
    for _ in range(600):
        if lines:
            return lines[0]
        time.sleep(0.05)
    raise AssertionError("nothing was said")


def test_a_silent_process_is_named_and_what_is_left(store: Store, ended: list[str]) -> None:
    with Heartbeats(TIMEOUT) as beats:
        beats.left = lambda: "; saved up to step 7"
        line = wait_for(ended)
    assert line.startswith("process 1 of this run (elsewhere:1) has not answered for ")
    assert line.endswith(" s, ended; saved up to step 7")


def test_one_that_speaks_or_has_left_is_not_lost(store: Store, ended: list[str]) -> None:
    with Heartbeats(TIMEOUT):
        for count in range(20):
            store.words["heartbeat_1"] = f"{count} elsewhere:1"
            time.sleep(TIMEOUT / 8)
        store.words["heartbeat_1"] = "left"
        time.sleep(3 * TIMEOUT)
    assert ended == []
    assert store.words["heartbeat_0"] == "left"


@pytest.mark.parametrize(("number", "said"), [(signal.SIGSTOP, "is stopped"), (None, "has not")])
def test_a_stopped_process_of_this_machine_is_told_from_a_silent_one(
    store: Store,
    ended: list[str],
    other: subprocess.Popen[bytes],
    number: int | None,
    said: str,
) -> None:
    if number is not None:
        other.send_signal(number)
    store.words["heartbeat_1"] = f"5 {socket.gethostname()}:{other.pid}"
    with Heartbeats(TIMEOUT):
        assert said in wait_for(ended)


def test_where_an_operation_fails_the_process_that_is_gone_is_named(
    store: Store, ended: list[str], other: subprocess.Popen[bytes]
) -> None:
    store.words["heartbeat_1"] = f"5 {socket.gethostname()}:{other.pid}"
    lost = pytest.raises(ProcessLost, match=r"process 1 of this run .* is gone, ended; saved")
    with lost, Heartbeats(60) as beats, naming_the_lost(beats, lambda: "; saved up to step 3"):
        beats._hear()
        other.kill()
        raise RuntimeError("Connection closed by peer")
    assert store.words["heartbeat_0"] != "left"
    with pytest.raises(RuntimeError, match="of our own"), naming_the_lost(None, str):
        raise RuntimeError("of our own")


def test_without_an_answer_of_the_store_it_asks_to_save_and_then_ends(
    store: Store, ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    kills: list[Any] = []

    def kill(*given: Any) -> None:
        kills.append(given)
        asked.set()

    with Heartbeats(TIMEOUT):
        monkeypatch.setattr(os, "kill", kill)
        store.answers = False
        line = wait_for(ended)
    assert kills == [(os.getpid(), signal.SIGTERM)]
    assert line.startswith("torchrun has not answered for ")
