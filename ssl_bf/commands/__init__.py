"""One file per command of `ssl-bf`: its arguments, its help, and what it does.

Imports stay light here, so that `--help` answers at once.
"""

from ssl_bf.commands import configs, doctor, export, pack, pretrain, relations, replay, resume

COMMANDS = (pretrain, resume, doctor, replay, export, relations, pack, configs)
"""In the order of `ssl-bf --help`."""
