"""What becomes of the parts of a long check, and of its file."""

import json
import os
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from bench.parts import (
    Finding,
    Part,
    Result,
    exit_code,
    in_own_process,
    lacking,
    run_all,
    table,
    write,
)

# sys.argv[-1] is the answer
FINE = "open(sys.argv[-1], 'w').write(json.dumps({'figures': {'x': 1}, 'wrong': ''}))"
WRONG = FINE.replace("'wrong': ''", "'wrong': 'loss 3 and 4'")
RAISES = "print('before'); raise ValueError('what went wrong')"
SLEEPS = (
    "import subprocess; child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); "
    "child.wait()"
)


def run_here(options: Namespace) -> Finding:
    raise AssertionError("a part runs in a process of its own")


def part(name: str, *, seconds: float = 20, **more: Any) -> Part:
    return Part(name, run_here, seconds, is_correctness=True, **more)


def run(parts: dict[str, str], file: Path, *, minutes: float = 9, seconds: float = 20) -> Any:
    """Parts by name with their Python code; results, what was in the file each time, exit code."""
    seen = []

    def report(results: list[Result]) -> None:
        write(file, results)
        seen.append(json.loads(file.read_text())["parts"])

    chosen = [part(name, seconds=seconds) for name in parts]
    results = run_all(
        chosen,
        Namespace(minutes=minutes, data=None, device="cpu", tiny=True),
        lambda each, most: in_own_process(
            each, most, [sys.executable, "-c", f"import json, sys; {parts[each.name]}"]
        ),
        report,
    )
    return results, seen, exit_code(results, chosen)


def test_all_well_is_written_after_each_part(tmp_path: Path) -> None:
    results, seen, code = run({"a": FINE, "b": FINE}, tmp_path / "check.json")
    assert code == 0
    assert [len(rows) for rows in seen] == [1, 2]
    assert seen[-1][0].items() >= {"name": "a", "status": "ok", "figures": {"x": 1}}.items()
    assert set(seen[-1][0]) == {"name", "status", "seconds", "figures", "message", "output"}
    assert [row["name"] for row in seen[-1]] == [each.name for each in results]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (WRONG, "loss 3 and 4"),
        (RAISES, "exit code 1: ValueError: what went wrong"),
        ("print('said')", "exit code 0: said"),
        ("import os; os._exit(7)", "exit code 7: no output"),
    ],
)
def test_a_part_that_fails_says_why_and_the_next_goes_on(
    code: str, message: str, tmp_path: Path
) -> None:
    _, seen, exits = run({"bad": code, "good": FINE}, tmp_path / "check.json")
    assert exits == 1
    assert [row["status"] for row in seen[-1]] == ["failed", "ok"]
    assert seen[-1][0]["message"] == message


def test_a_part_out_of_time_is_killed_with_its_children_and_the_next_goes_on(
    tmp_path: Path,
) -> None:
    _, seen, exits = run({"slow": SLEEPS, "good": FINE}, tmp_path / "check.json", seconds=1.5)
    assert exits == 1
    assert [row["status"] for row in seen[-1]] == ["timed out", "ok"]
    assert seen[-1][0]["message"] == "took more than 1.5 s"
    child = int(seen[-1][0]["output"])
    end = time.monotonic() + 5
    while is_running(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    """Ended children of others may wait to be collected: they do not run."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(") ")[2][0] != "Z"


def test_what_no_longer_fits_into_the_budget_is_not_run(tmp_path: Path) -> None:
    _, seen, exits = run({"a": FINE, "b": FINE}, tmp_path / "x.json", minutes=0.1, seconds=60)
    assert exits == 1  # nothing is known about what was to be correct
    assert [row["status"] for row in seen[-1]] == ["not run", "not run"]
    assert seen[-1][1]["message"] == "may take 60 s, 6 are left"


def test_what_is_lacking_is_named() -> None:
    cpu = Namespace(device="cpu", data=None, tiny=False)
    assert "needs no_such_module" in lacking(part("a", needs=("json", "no_such_module")), cpu)
    assert lacking(part("a", needs=("json",)), cpu) == ""
    assert lacking(part("a", needs_gpu=True), cpu) == "needs a GPU"
    assert lacking(part("a", needs_gpu=True), Namespace(device="cuda", data=None, tiny=False)) == ""
    assert "--data" in lacking(part("a", needs_data=True), cpu)
    assert lacking(part("a", needs_data=True), Namespace(device="cpu", data="x", tiny=False)) == ""


def test_only_correctness_decides_the_exit_code() -> None:
    parts = [part("correct"), Part("bench", run_here, 1)]
    assert exit_code([Result("correct", "ok"), Result("bench", "failed")], parts) == 0
    assert exit_code([Result("correct", "left out"), Result("bench", "ok")], parts) == 0
    for status in ("failed", "timed out", "not run"):
        assert exit_code([Result("correct", status), Result("bench", "ok")], parts) == 1


def test_the_table_has_every_part_its_figures_and_the_output_of_failures() -> None:
    rows = [
        Result("long name", "ok", 1.25, {"a row": {"ratio": 2}, "b": 3}),
        Result("bad", "failed", 2.0, message="wrong loss", output="the last words"),
    ]
    lines = table(rows).splitlines()
    assert lines[1].split() == ["long", "name", "ok", "1.2"]
    assert [line.strip() for line in lines[2:4]] == ["a row: ratio 2", "b: 3"]
    assert "wrong loss" in lines[4]
    assert lines[-1] == "the last words"
