"""Stage 7: worth.json and the page, rewritten after every stage."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from linear_eval.report.page import PAGE_FILE, ReportOptions, report
from linear_eval.results.intervals import Interval
from linear_eval.results.worth_file import WORTH_FILE
from linear_eval.system.atomic_file import atomic_file
from ssl_bf.scan.scan import IMAGES, Scan, scan_lines
from ssl_bf.worth.plan import Plan

_FORMAT = 1
_MORE = 4  # times the minutes of a longer try


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A contestant as worth.json has it; `label_budget`: labels per class -> percent."""

    name: str
    metrics: dict[str, float]
    label_budget: dict[int, float] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is known by now.

    Attributes:
        sentences: the verdict, or what is known so far.
        interval: of the first difference in points; None before the test images were seen.
        clear: whether it has one sign.
        contestants: all of them.
        differences: with so many labels, as JSON has them.
        shown: folders of what was judged on test, the finalist's last, and of its run: the page
            shows them too.
        is_final: whether nothing is left to do.
    """

    sentences: Sequence[str]
    interval: Interval | None = None
    clear: bool = False
    contestants: Sequence[Shown] = ()
    differences: Sequence[dict[str, Any]] = ()
    shown: Sequence[Path] = ()
    is_final: bool = False


def write_outcome(
    output: Path, outcome: Outcome, *, command: str, scan: Scan, plan: Plan | None
) -> None:
    """Both files, whole.

    Args:
        output: folder of the contest.
        outcome: what is known.
        command: that goes on.
        scan: of the images.
        plan: None before there is one.
    """
    found = {
        "format": _FORMAT,
        "verdict": " ".join(outcome.sentences[:2]),
        "notes": list(outcome.sentences[2:]),
        "interval": outcome.interval,
        "clear": outcome.clear,
        "final": outcome.is_final,
        "contestants": [asdict(each) for each in outcome.contestants],
        "differences": list(outcome.differences),
        "command": command,
        "said": {
            "The images": scan_lines(scan),
            "What was tried": [] if plan is None else plan.lines(),
        },
        "scan": asdict(scan),
        "plan": None if plan is None else asdict(plan),
    }
    with atomic_file(output / WORTH_FILE) as file:
        file.write(json.dumps(found, indent=2, allow_nan=False).encode() + b"\n")
    with contextlib.redirect_stdout(io.StringIO()):
        options = ReportOptions(output=output / PAGE_FILE, data_root=output / IMAGES)
        report([output, *outcome.shown], options)


def longer_command(folder: Path, output: Path, minutes: float, frozen: Sequence[str]) -> str:
    """The same contest with more time, in a folder of its own: the test images are seen again."""
    more = _MORE * minutes
    words = ["ssl-bf", "worth", str(folder), "--minutes", f"{more:g}"]
    for each in frozen:
        words += ["--frozen", each]
    words += ["--output", f"{output}-{more:g}min"]
    return shlex.join(words)
