"""Both command lines, as processes of their own: Ctrl-C comes from the outside."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STORED = "only files named above were written; stored features are read the next time"
PRETRAIN = (
    "run.directory is as it was, or the run is done; "
    "what is packed is kept, but for its last 64 MiB at most"
)


def run(program: str) -> tuple[int, str]:
    """Exit code and standard error of a Python program."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("package", "command", "importing", "said"),
    [
        ("linear_eval", "run", "argparse", "nothing was begun"),
        ("linear_eval", "run", "torch", STORED),
        ("ssl_bf", "pretrain", "argparse", "nothing was begun"),
        ("ssl_bf", "pretrain", "torch", PRETRAIN),
    ],
)
def test_ctrl_c_while_a_module_is_imported_is_one_line_and_exit_130(
    package: str, command: str, importing: str, said: str
) -> None:
    program = (
        "import os, runpy, signal, sys\n"
        "class CtrlC:\n"
        "    def find_spec(self, name, *others):\n"
        f"        if name != {importing!r}: return\n"
        "        try: os.kill(os.getpid(), signal.SIGINT)\n"
        "        except KeyboardInterrupt:\n"
        "            if name == 'torch': os.abort()  # as its C++ does\n"
        "            raise\n"
        "sys.meta_path.insert(0, CtrlC())\n"
        f"sys.argv = [{package!r}, {command!r}, 'quickstart']\n"
        f"runpy.run_module({package!r}, run_name='__main__')"
    )
    assert run(program) == (130, f"interrupted: {said}\n")


@pytest.mark.parametrize("package", ["linear_eval", "ssl_bf"])
def test_ctrl_c_after_a_command_is_done_shows_no_traceback(package: str) -> None:
    program = (
        "import atexit, os, runpy, signal, sys, types\n"
        f"sys.modules['{package}.cli'] = types.SimpleNamespace(main=lambda: 0)\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
        f"runpy.run_module({package!r}, run_name='__main__')"
    )
    assert run(program) == (-signal.SIGINT, "")
