"""Errors of the user's input, and the exit code of a command."""

import errno
import io
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

from linear_eval.system.interruption import ending_at_once, name_of, number_of, speaks
from linear_eval.system.printable import one_line
from linear_eval.system.screen import say, whole_lines

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_LOST = 69  # EX_UNAVAILABLE: another process of the run is gone
EXIT_STOPPED = 75  # EX_TEMPFAIL: start the same run again and it goes on


# What no code of ours can foresee: the disk of any file may fail at any call.
_OF_THE_DISK = {*(errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT), errno.ENAMETOOLONG}
_LONGEST = 400  # characters of a message: a name that is too long is the message
_REMEDY = (
    "give a name that fits, free some space or mend the disk, then give the same command again"
)


class InputError(ValueError):
    """The user's input (config, data, file, command line) is wrong.

    The message is one line: "<thing>: <what is wrong>, <expected>; <what to do>".
    """


class ConfigError(InputError):
    """A configuration is wrong; every message begins with the dotted key it is about."""


class StoppedBySignal(Exception):  # noqa: N818 - a run that stops when asked is no error
    """A signal asked the run to stop, and its state is saved."""


class ProcessLost(Exception):  # noqa: N818 - named after what happened
    """Another process of the run is gone; one line says which, and what is left."""


class RunFailed(Exception):  # noqa: N818 - named after what happened
    """The work cannot go on, and no input is wrong for sure; one line says what may help.

    All processes of a run raise it at once, wait for each other's files, and one speaks.
    """


def run_command(command: Callable[[], None], *, if_interrupted: str) -> int:
    """Run a command and return its exit code.

    Args:
        command: does the work; raises `InputError`, `RunFailed` or `StoppedBySignal` where these
            apply.
        if_interrupted: says what there is, and how to go on, whenever a signal ends the command.

    Returns:
        0 done; 2 the user's input is wrong, or a disk fails (one line on stderr, no traceback); 69
        another process of the run is lost; 75 stopped by a signal and saved; 128 + its number after
        a signal elsewhere (one line again), 130 after Ctrl-C; 1 when it failed as `RunFailed` says,
        or the reader of the output left.

    Raises:
        Exception: whatever else `command` raises is left to Python: a traceback and exit code 1.
    """
    try:
        with whole_lines():
            command()
        sys.stdout.flush()  # so that a closed pipe is met here and not while Python shuts down
    except (InputError, OSError, ModuleNotFoundError) as error:
        line = _of_wrong_input(error)
        if line is None:
            if isinstance(error, BrokenPipeError) and _reader_is_gone():
                return EXIT_FAILED
            raise  # a failure to be seen; another pipe than the reader's may have broken as well
        say(f"error: {line}")
        return EXIT_WRONG_INPUT
    except RunFailed as failure:
        _say_once(f"error: {one_line(str(failure))}")
        return EXIT_FAILED
    except ProcessLost as lost:
        say(f"error: {one_line(str(lost))}")
        return EXIT_LOST
    except StoppedBySignal as stop:
        _say_once(one_line(str(stop)) or "stopped by a signal")
        return EXIT_STOPPED
    except KeyboardInterrupt as interruption:  # outside of what saves when interrupted
        _say_once(f"{name_of(interruption)}: {if_interrupted}")
        return 128 + number_of(interruption)
    return EXIT_DONE


def _of_wrong_input(error: Exception) -> str | None:
    """The line to tell, or None where the error is not the user's, nor the disk's."""
    if isinstance(error, InputError):
        return one_line(str(error))
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return _not_installed("torch")
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        place = "" if error.filename is None else f": {error.filename}"
        return f"{one_line(f'{error.strerror}{place}')[:_LONGEST]}; {_REMEDY}"
    return None


def load_torch(*, if_interrupted: str) -> None:
    """Load torch, which takes seconds: a command calls this once it has checked what needs none.

    Args:
        if_interrupted: as for `run_command`, should a signal end the process meanwhile.

    Raises:
        InputError: it is installed, but cannot be loaded.
    """
    with ending_at_once(if_interrupted):
        try:
            import torch

            torch.__version__  # noqa: B018 - loads what `entry` has put off
        except OSError as error:
            raise InputError(
                f"torch: cannot be loaded ({one_line(str(error))[:120]}), expected a build for "
                "this machine; reinstall torch and torchvision from one index"
            ) from error


def require_backbone(path: Path) -> None:
    """Refuse a backbone file that is not there; a command asks for it before it loads torch.

    Raises:
        InputError: it is none.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        way_out = "give the path of one"
        if str(path).startswith("timm:"):
            way_out = f"make one: linear-eval convert {path} --output FILE"
        raise InputError(f"{path}: {found}, expected a backbone file; {way_out}")


def require_matching_torch() -> None:
    """Import torchvision; to be called before its first use, for it takes seconds as well.

    Raises:
        InputError: it is missing, or was compiled for another torch (its operators then do not
            register, and every use would die with a traceback).
    """
    import importlib.metadata

    versions = {}
    for package in ("torch", "torchvision"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError as error:
            raise InputError(_not_installed(package)) from error
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        raise InputError(
            f"torch {versions['torch']} and torchvision {versions['torchvision']} are different "
            f"builds; reinstall both from one index ({one_line(str(error))[:120]})"
        ) from error


def _not_installed(package: str) -> str:
    return f"{package}: not installed; install torch and torchvision from one index"


def _say_once(line: str) -> None:
    """Tell the user; of torchrun's processes, one speaks."""
    if speaks():
        say(line)


def _reader_is_gone() -> bool:
    """Tell whether stdout or stderr is a closed pipe; if so, send what is left of it nowhere."""
    gone = False
    for stream in (sys.stdout, sys.stderr):
        try:
            descriptor = stream.fileno()
        except io.UnsupportedOperation:
            continue  # captured in memory
        poll = select.poll()
        poll.register(descriptor, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            gone = True
            # Python flushes again at exit, and would print a second error there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return gone
