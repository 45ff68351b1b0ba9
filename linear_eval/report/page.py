"""The flow of `linear-eval report`: read what is named, find the images, draw, write one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linear_eval.report.contestants import open_contestants
from linear_eval.report.curve_files import write_curves
from linear_eval.report.run_files import run_names
from linear_eval.report.sections import SECTIONS, ImageOptions, Page, page_of
from linear_eval.report.sources import Sources, open_sources
from linear_eval.report.table_files import write_tables
from linear_eval.report.tables import tables_of
from linear_eval.report.verdict import points_text, range_text
from linear_eval.system.atomic_file import atomic_file, check_output, check_suffix
from linear_eval.system.errors import InputError
from linear_eval.system.printable import one_line, shortened

PAGE_FILE = "report.html"
MARK = '<meta name="generator" content="linear-eval report">'
_PAGE = Path(__file__).parent / "page"
_HEAD = 4096  # bytes of a page in which its mark stands


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What is written, and from where.

    Attributes:
        output: of the page; None: `report.html` beside what is named first.
        tables: files for the tables, .csv, .md or .tex.
        curves: files for the curves, .csv, .png or .pdf.
        data_root: where the images are; None: as the runs' configs say.
        images: whether images are shown at all.
        overwrite: whether files that are no page of this command may be replaced.
        verbose: whether all notes are printed.
    """

    output: Path | None = None
    tables: tuple[Path, ...] = ()
    curves: tuple[Path, ...] = ()
    data_root: Path | None = None
    images: bool = True
    overwrite: bool = False
    verbose: bool = False


def report(paths: Sequence[Path], options: ReportOptions) -> None:
    """Write one page of everything that is named, and the tables and curves that are asked for.

    Args:
        paths: at least one; see `open_sources`.
        options: what is written.

    Raises:
        InputError: a file is missing or damaged, an output cannot be written, or a package of the
            extra `report` is missing.
    """
    sources = open_sources(paths)
    output = options.output or _beside(paths[0])
    _check_outputs(output, options, sources)
    contestants = open_contestants(sources.results) if sources.results else None
    tables = tables_of(contestants.everyone) if contestants else []
    images = ImageOptions(options.images, options.data_root)
    page = page_of(paths, sources, contestants, tables, images)
    text = _rendered(page)
    for path in options.tables:
        write_tables(path, tables, sources.studies)
    for path in options.curves:
        write_curves(path, sources.runs, run_names(sources.runs))
    with atomic_file(output) as file:
        file.write(text.encode())
    notes = [f"note: {said}" + f" ({why})" * bool(why) for said, why in page.notes]
    for line in shortened([one_line(note) for note in notes], verbose=options.verbose):
        print(line)
    size = len(text.encode()) / 2**20
    others = "".join(f", {path}" for path in (*options.tables, *options.curves))
    print(f"written: {output} ({size:.1f} MiB, opens in any browser){others}")


def _beside(path: Path) -> Path:
    return (path if path.is_dir() else path.parent) / PAGE_FILE


def _check_outputs(output: Path, options: ReportOptions, sources: Sources) -> None:
    reads = {"one of the files that are read": sources.files}
    check_suffix(output, "--output", ".html")
    check_output(output, "--output", overwrite=options.overwrite, reads=reads, differs=_is_no_page)
    for key, files, suffixes in (
        ("--tables", options.tables, (".csv", ".md", ".tex")),
        ("--curves", options.curves, (".csv", ".png", ".pdf")),
    ):
        for path in files:
            if path.suffix not in suffixes:
                raise InputError(
                    f"{key}: '{path}' ends in none of {', '.join(suffixes)}; give it such an end"
                )
            check_output(path, key, overwrite=options.overwrite, reads=reads)
    if options.curves and not sources.runs:
        raise InputError("--curves: no run is named, expected its directory; name one")
    if options.tables and not (sources.results or sources.studies):
        raise InputError("--tables: neither results nor a study is named; name one")


def _is_no_page(path: Path) -> str:
    with path.open("rb") as file:
        is_page = MARK.encode() in file.read(_HEAD)
    return "" if is_page else "exists already and is no page of this command"


def _without_controls(value: object) -> object:
    """A text whose control characters are escaped, for a page may be looked at on a terminal."""
    if type(value) is not str:  # what a macro made is markup, of texts that were looked at
        return value
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in value)


def _rendered(page: Page) -> str:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise InputError(
            "jinja2: not installed, expected for a page; pip install 'ssl-bf[report]'"
        ) from error
    # every text of a file passes through autoescape: nothing is marked as safe in Python
    environment = Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_without_controls,
    )
    environment.filters |= {"points": points_text, "range": range_text}
    return environment.get_template("page.html").render(
        {name: page.sections.get(name) for name in SECTIONS}
        | {"notes": [said for said, _ in page.notes]}
    )
