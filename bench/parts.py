"""Parts of one long check: each in a process of its own, within a time limit and a budget."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from linear_eval.system.atomic_file import atomic_file

ROOT = Path(__file__).parents[1]
LAST_OUTPUT = 3000  # characters of what a part printed, kept where it failed


class Finding(NamedTuple):
    """What a part has found: numbers for the reader, and what is wrong, or nothing."""

    figures: dict[str, Any]
    wrong: str = ""


Run = Callable[[Namespace], Finding]


class Part(NamedTuple):
    """One function, and what it may need."""

    name: str
    run: Run
    seconds: float  # its limit; it starts only where so much is left
    needs: tuple[str, ...] = ()  # modules that may be absent
    needs_on_cpu: tuple[str, ...] = ()  # and for the peers that run nowhere else
    needs_data: bool = False
    needs_gpu: bool = False  # even in small sizes
    is_correctness: bool = False


class Result(NamedTuple):
    """What became of a part: `ok`, `failed`, `timed out`, `left out` or `not run`."""

    name: str
    status: str
    seconds: float = 0.0
    figures: Mapping[str, Any] = {}
    message: str = ""
    output: str = ""  # the end of what it printed, where it did not go well


def run_all(
    parts: Sequence[Part],
    options: Namespace,
    run: Callable[[Part, float], Result],
    report: Callable[[list[Result]], None],
) -> list[Result]:
    """One result per part, in order.

    Args:
        parts: in order of value.
        options: `minutes` for all of them, `data` and `device`.
        run: runs one within so many seconds.
        report: called with the results so far, after each part.
    """
    end = time.monotonic() + 60 * options.minutes
    results: list[Result] = []
    for part in parts:
        lacks, left = lacking(part, options), end - time.monotonic()
        if lacks:
            result = Result(part.name, "left out", message=lacks)
        elif left < part.seconds:
            said = f"may take {part.seconds:g} s, {max(left, 0):.0f} are left"
            result = Result(part.name, "not run", message=said)
        else:
            print(f"{part.name} ...", flush=True)
            result = run(part, part.seconds)
        results.append(result)
        report(results)
    return results


def lacking(part: Part, options: Namespace) -> str:
    """What a part needs and does not have, in words, or nothing."""
    needs = part.needs + (part.needs_on_cpu if options.device == "cpu" else ())
    absent = [module for module in needs if find_spec(module) is None]
    if absent:
        return f"needs {', '.join(absent)}: give wheels of it by --wheels FOLDER"
    if part.needs_data and not (options.data or options.tiny):
        return "needs CIFAR-10: give its folder by --data FOLDER"
    return "needs a GPU" if part.needs_gpu and options.device == "cpu" else ""


def in_own_process(part: Part, seconds: float, command: Sequence[str]) -> Result:
    """Run a command that writes a `Finding` to the file named after `--answer`.

    Args:
        part: what it runs.
        seconds: then it is killed, with every process that it has started.
        command: without `--answer`.
    """
    with TemporaryDirectory() as folder:
        answer, screen = Path(folder) / "answer.json", Path(folder) / "screen"
        started = time.monotonic()
        with screen.open("wb") as file:
            process = subprocess.Popen(
                [*command, "--answer", str(answer)],
                stdout=file,
                stderr=file,
                cwd=ROOT,
                start_new_session=True,
            )
            with _killed_with_its_children(process):
                try:
                    code = process.wait(seconds)
                except subprocess.TimeoutExpired:
                    code = None
        taken = round(time.monotonic() - started, 1)
        output = screen.read_text(encoding="utf-8", errors="replace").strip()[-LAST_OUTPUT:]
        if code is None:
            said = f"took more than {seconds:g} s"
            return Result(part.name, "timed out", taken, message=said, output=output)
        if code != 0 or not answer.exists():
            said = f"exit code {code}: {output.splitlines()[-1] if output else 'no output'}"
            return Result(part.name, "failed", taken, message=said, output=output)
        found = Finding(**json.loads(answer.read_text(encoding="utf-8")))
    status = "failed" if found.wrong else "ok"
    shown = output if found.wrong else ""
    return Result(part.name, status, taken, found.figures, found.wrong, shown)


@contextmanager
def _killed_with_its_children(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def write(path: Path, results: Sequence[Result]) -> None:
    """As JSON, whole or not at all."""
    rows = [result._asdict() for result in results]
    with atomic_file(path) as file:
        file.write((json.dumps({"parts": rows}, indent=1) + "\n").encode())


def table(results: Sequence[Result]) -> str:
    """For the reader: a line per part and one per figure, failures with the end of their output."""
    width = max(len(result.name) for result in results)
    lines = [f"{'part':{width}}  {'status':9}  {'seconds':>7}  what was found"]
    for result in results:
        lines.append(f"{result.name:{width}}  {result.status:9}  {result.seconds:7.1f}  ")
        lines[-1] += result.message
        lines += [f"{'':{width}}  {key}: {_shown(each)}" for key, each in result.figures.items()]
    for result in results:
        if result.output:
            lines += ["", f"--- the end of what {result.name} printed:", result.output]
    return "\n".join(lines)


def _shown(figure: Any) -> str:
    if isinstance(figure, Mapping):
        return ", ".join(f"{key} {each}" for key, each in figure.items())
    return str(figure)


def exit_code(results: Sequence[Result], parts: Sequence[Part]) -> int:
    """1 where correctness was not found, be it for want of time; what is left out is no fault."""
    checked = {part.name for part in parts if part.is_correctness}
    is_well = all(each.status in ("ok", "left out") for each in results if each.name in checked)
    return 0 if is_well else 1
