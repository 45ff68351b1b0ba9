"""Two processes over gloo, which run what a test sends them."""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

Result = dict[str, Tensor]
Work = Callable[..., Result]


def serve(number: int, store: str, connection: Connection) -> None:
    """Body of a process: run what is asked for until nothing more is."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    while (request := connection.recv()) is not None:
        work, arguments = request
        try:
            data = io.BytesIO()
            torch.save(work(*arguments), data)
            connection.send((data.getvalue(), ""))
        except Exception:  # whatever it is, the test shows it
            connection.send((b"", traceback.format_exc()))
    dist.destroy_process_group()


@dataclass
class TwoProcesses:
    """Runs a function in both processes at once and returns both results."""

    processes: Sequence[BaseProcess]
    connections: Sequence[Connection]

    def __call__(self, work: Work, *arguments: Any) -> list[Result]:
        for connection in self.connections:
            connection.send((work, arguments))
        answers = []
        for number, connection in enumerate(self.connections):
            assert connection.poll(120), f"process {number} does not answer"
            answers.append(connection.recv())
        for number, (_, error) in enumerate(answers):
            assert not error, f"process {number}: {error}"
        return [torch.load(io.BytesIO(data), weights_only=True) for data, _ in answers]


@contextmanager
def started(store: Path) -> Iterator[TwoProcesses]:
    """They meet at a file that is not there yet."""
    spawn = mp.get_context("spawn")
    processes, connections = [], []
    for number in range(2):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=serve, args=(number, str(store), theirs), daemon=True)
        process.start()
        processes.append(process)
        connections.append(ours)
    yield TwoProcesses(processes, connections)
    for connection in connections:
        connection.send(None)
    for process in processes:
        process.join(30)
        if process.is_alive():
            process.kill()
