"""Situations that users reported: each is a script that makes its input and runs the commands.

Run: pytest -m slow tests/end_to_end/test_cases.py (CASES_DIR names their folder)
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(os.environ.get("CASES_DIR", Path(__file__).parents[2] / "../shared/cases"))
SCRIPTS = sorted(CASES.glob("*/run.sh"))


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPTS, reason=f"no cases in {CASES}; set CASES_DIR")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.parent.name)
def test_what_users_reported_comes_out_right(script: Path, tmp_path: Path) -> None:
    settings = {"VENV": sys.prefix, "W": str(tmp_path / "work"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["bash", script],
        env=os.environ | settings,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
