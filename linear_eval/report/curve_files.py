"""The curves of runs as files: CSV with every logged number, PNG and PDF for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from linear_eval.report.curves import SUBJECTS, lines_of, series_of
from linear_eval.report.run_files import Run
from linear_eval.system.atomic_file import atomic_file
from linear_eval.system.errors import InputError

_COLUMNS = 3
_SIZE = (3.6, 2.6)  # inches of one drawing
_DPI = 200


def write_curves(path: Path, runs: Sequence[Run], names: Sequence[str]) -> None:
    """Write the curves of all runs to one file; the end of its name decides the form.

    Args:
        path: ends in .csv, .png or .pdf.
        runs: at least one.
        names: of them, as many.

    Raises:
        InputError: it cannot be written, nothing was logged, or matplotlib is missing.
    """
    if path.suffix == ".csv":
        content = _as_csv(runs, names).encode()
    else:
        content = _drawn(runs, names, path.suffix.removeprefix("."))
    with atomic_file(path) as file:
        file.write(content)


def _as_csv(runs: Sequence[Run], names: Sequence[str]) -> str:
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["run", "metric", "step", "epoch", "value"])
    for run, name in zip(runs, names, strict=True):
        for metric, points in series_of(run).items():
            rows.writerows([name, metric, *point] for point in points)
    return file.getvalue()


def _drawn(runs: Sequence[Run], names: Sequence[str], form: str) -> bytes:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise InputError(
            "matplotlib: not installed, expected for .png and .pdf; pip install 'ssl-bf[report]'"
        ) from error
    drawn = [
        (each, lines)
        for each in SUBJECTS
        if (lines := lines_of(runs, names, range(len(runs)), each.metric))
    ]
    if not drawn:
        raise InputError("--curves: nothing was logged yet, expected metrics; wait for the run")
    rows = -(-len(drawn) // _COLUMNS)
    columns = min(_COLUMNS, len(drawn))
    figure = Figure(figsize=(columns * _SIZE[0], rows * _SIZE[1]), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (subject, lines) in enumerate(drawn, start=1):
        axes: Any = figure.add_subplot(rows, columns, number)
        for line in lines:
            x, y = zip(*line.points, strict=True)
            style = "--" if line.is_dashed else "-"
            # a leading underscore would keep a name out of the legend, and a dollar begin a formula
            label = line.name.replace("$", r"\$").lstrip("_")
            axes.plot(x, y, style, color=f"C{line.colour % 10}", label=label, linewidth=1.2)
        axes.set_title(subject.title, fontsize=9)
        axes.set_xlabel("epoch", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        if number == 1:
            axes.legend(fontsize=6, frameon=False)
    file = io.BytesIO()
    metadata = {"CreationDate": None} if form == "pdf" else {}
    figure.savefig(file, format=form, dpi=_DPI, metadata=metadata)
    return file.getvalue()
