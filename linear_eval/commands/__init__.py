"""One file per command of `linear-eval`: its arguments, its help, and the call that does the work.

Imports stay light here, so that `--help` answers at once.
"""

from linear_eval.commands import compare, convert, extract, index, query, run

COMMANDS = (run, extract, compare, convert, index, query)
"""In the order of `linear-eval --help`."""
