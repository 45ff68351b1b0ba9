"""Both command lines, as processes of their own: Ctrl-C comes from the outside."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STORED = "only files named above were written; stored features are read the next time"
PRETRAIN = (
    "run.directory is as it was, or the run is done; "
    "the same command begins again, and goes on with a store that it was packing"
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
        ("linear_eval", "run quickstart", "argparse", "nothing was begun"),
        ("linear_eval", "quality README.md d", "torch._C", STORED),  # any file: it is not read yet
        ("ssl_bf", "pretrain quickstart", "argparse", "nothing was begun"),
        ("ssl_bf", "pretrain quickstart", "torch._C", PRETRAIN),
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
        "            if name == 'torch._C': os.abort()  # as its C++ does\n"
        "            raise\n"
        "sys.meta_path.insert(0, CtrlC())\n"
        f"sys.argv = {[package, *command.split()]}\n"
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


@pytest.mark.parametrize(
    ("package", "line", "code"),
    [
        ("linear_eval", "run quickstart backbone=pixels knn.kk=3", 2),
        ("linear_eval", "run quikstart", 2),
        ("linear_eval", "rnu", 2),
        ("linear_eval", "run quickstart --shwo", 2),
        ("linear_eval", "run cifar10 --show", 0),
        ("linear_eval", "compare no_such_folder other", 2),
        ("linear_eval", "run quickstart backbone=no_such_file", 2),
        ("linear_eval", "run quickstart backbone=pixels baselines=[no_such_file]", 2),
        ("linear_eval", "index no_such_file photos --output index", 2),
        ("linear_eval", "--version", 0),
        ("ssl_bf", "pretrain quikstart", 2),
        ("ssl_bf", "pretrain --help", 0),
    ],
)
def test_what_needs_no_torch_does_not_wait_for_it(package: str, line: str, code: int) -> None:
    program = (
        "import atexit, runpy, sys\n"
        "def loaded():\n"
        "    heavy = {'torch._C', 'torchvision', 'tqdm', 'faiss', 'numpy.testing'}\n"
        "    print('loaded', sorted(heavy & sys.modules.keys()), file=sys.stderr)\n"
        "atexit.register(loaded)\n"
        f"sys.argv = {[package, *line.split()]}\n"
        f"runpy.run_module({package!r}, run_name='__main__')"
    )
    ended, said = run(program)
    assert (ended, said.splitlines()[-1]) == (code, "loaded []")


def test_torch_is_loaded_once_and_whole_when_it_is_first_used() -> None:
    program = (
        "import sys; from linear_eval.system.entry import load_torch_late; load_torch_late()\n"
        "import torch; import torch as again; assert again is torch\n"
        "assert 'torch._C' not in sys.modules\n"
        "assert torch.ones(2).sum() == 2\n"
        "import torch.nn.functional, types; assert type(torch) is types.ModuleType"
    )
    assert run(program) == (0, "")


def test_judging_what_decodes_nothing_does_not_import_torchvision(tmp_path: Path) -> None:
    program = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print('torchvision' in sys.modules, file=sys.stderr))\n"
        "sys.argv = ['linear_eval', 'run', 'quickstart', 'backbone=pixels', 'evaluators=[knn]',"
        f" 'data.train_images=100', 'data.test_images=20', 'output={tmp_path}/r.json']\n"
        "runpy.run_module('linear_eval', run_name='__main__')"
    )
    code, said = run(program)
    assert (code, said.splitlines()[-1]) == (0, "False")
