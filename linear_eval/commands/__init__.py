"""One file per command of `linear-eval`: its arguments, its help, and the call that does the work.

Imports stay light here, so that `--help` answers at once.
"""

from linear_eval.commands import (
    architectures,
    compare,
    convert,
    export,
    extract,
    index,
    quality,
    query,
    report,
    run,
)

COMMANDS = (run, compare, report, quality, extract, convert, export, index, query, architectures)
"""In the order of `linear-eval --help`."""
