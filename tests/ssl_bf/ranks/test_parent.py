"""Tests of ssl_bf.ranks.parent, with a parent that is killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHILD = """
import os, signal, sys, time
from ssl_bf.ranks.parent import end_with_parent
end_with_parent()
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("is_torchruns", [True, False])
def test_a_process_of_torchruns_ends_with_it_and_no_other_does(is_torchruns: bool) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= {"TORCHELASTIC_RUN_ID": "1"} if is_torchruns else {}
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        for _ in range(200 if is_torchruns else 5):
            if not Path(f"/proc/{child}").exists():
                break
            time.sleep(0.05)
        lives = Path(f"/proc/{child}").exists()
        if lives:
            os.kill(child, 9)
        assert lives != is_torchruns
