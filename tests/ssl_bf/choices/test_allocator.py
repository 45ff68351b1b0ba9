"""Tests of ssl_bf.choices.allocator; in processes of their own, for nothing undoes the setting."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MIB = 64
SCRIPT = f"""
import pathlib, resource, sys
from ssl_bf.choices.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
block = b"1" * ({MIB} << 20)
del block
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
print(pages * resource.getpagesize() >> 20)
"""


def resident_mib(setting: str) -> int:
    """MiB held by a fresh process that filled a large block and freed it."""
    command = [sys.executable, "-c", SCRIPT, setting]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_a_freed_block_stays_with_the_process() -> None:
    assert resident_mib("keep") > MIB > resident_mib("default")
