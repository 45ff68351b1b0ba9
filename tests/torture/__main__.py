"""`python -m tests.torture [ROW ...] [--minutes M] [--into FILE]`: try, and print the table.

Trials go on where the file of figures ends. `--again ROW` forgets its figures and begins at trial
0: for a row whose faults were mended, since what they had spoilt proves nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import tempfile
import time
from pathlib import Path

from tests.torture import figures
from tests.torture.chunk import tried
from tests.torture.row import Row
from tests.torture.rows import ROWS
from tests.torture.table import table

INTO = Path(__file__).parent / "figures.jsonl"


def main() -> None:
    """Try the rows for so many minutes each, and print the table."""
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("rows", metavar="ROW", nargs="*", help=f"of {', '.join(names)}")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each row; 0: only print")
    parser.add_argument("--into", type=Path, default=INTO, help="file of figures")
    parser.add_argument("--again", action="store_true", help="forget the figures of these rows")
    parser.add_argument("--trial", type=int, help="only this one, and keep nothing")
    given = parser.parse_args()
    if unknown := set(given.rows) - set(names):
        parser.error(f"{', '.join(unknown)}: no such row, expected of {', '.join(names)}")
    named = {row.name: row for row in ROWS}
    chosen = [named[name] for name in given.rows] or list(ROWS)
    if given.trial is not None:
        for row in chosen:
            print(row.name, *_one(row, given.trial), sep="\n")
        return
    into = given.into.absolute()
    if given.again:
        _forget(into, {row.name for row in chosen})
    for row in chosen if given.minutes > 0 else ():
        _try(row, into, given.minutes * 60)
    print("\n".join(table(ROWS, figures.read(into))))


def _try(row: Row, into: Path, seconds: float) -> None:
    end, commit = time.monotonic() + seconds, _commit()
    done = figures.read(into).get(row.name, figures.Figures())
    if done.total is not None and done.next_trial >= done.total:
        return
    with tempfile.TemporaryDirectory(prefix="torture-") as scratch, contextlib.chdir(scratch):
        folder = Path(scratch)
        trials = row.prepare(folder)
        number = done.next_trial
        while time.monotonic() < end and (trials.total is None or number < trials.total):
            line = tried(row, trials, number, folder)
            figures.append(into, {**line, "commit": commit})
            for bad in line["bad"]:
                print(f"{row.name}: trial {bad['trial']}: {bad['bad']}", flush=True)
            number += line["trials"]


def _one(row: Row, number: int) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="torture-") as scratch, contextlib.chdir(scratch):
        tries = row.prepare(Path(scratch)).trial(number)
    return [*tries.bad, f"{tries.count} tried, {len(tries.bad)} went wrong"]


def _forget(into: Path, names: set[str]) -> None:
    lines = into.read_text().splitlines() if into.exists() else []
    kept = [line for line in lines if json.loads(line)["row"] not in names]
    into.write_text("".join(f"{line}\n" for line in kept))


def _commit() -> str:
    """Of the code that is tried, with a mark where it was changed since."""
    commit = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", "linear_eval", "ssl_bf", "tests/*.py")
    return f"{commit or 'unknown'}{'-changed' * bool(changed)}"


def _git(*words: str) -> str:
    where = Path(__file__).parents[2]
    said = subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, check=False)
    return said.stdout.strip()


if __name__ == "__main__":
    main()
