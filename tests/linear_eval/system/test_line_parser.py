"""A shell asks both commands how a line goes on."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "line", "offered"),
    [
        ("linear_eval", "linear-eval arch", "architectures"),
        ("linear_eval", "linear-eval run tiny_", "tiny_imagenet_40"),
        ("ssl_bf", "ssl-bf conf", "configs"),
        ("ssl_bf", "ssl-bf pretrain quick", "quickstart"),
    ],
)
def test_a_shell_completes_commands_and_configs(module: str, line: str, offered: str) -> None:
    pytest.importorskip("argcomplete", reason="completion needs the extra completion")
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    program = f"import os; os.dup2(1, 8); from {module}.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | asked, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert offered in done.stdout.replace("\v", " ").split(), done
