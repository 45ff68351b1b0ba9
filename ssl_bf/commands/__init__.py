"""One file per command of `ssl-bf`: its arguments, its help, and the call that does the work.

Imports stay light here, so that `--help` answers at once.
"""
