"""One file per command of `ssl-bf`: its arguments, its help, and what it does.

Imports stay light here, so that `--help` answers at once.
"""

from ssl_bf.commands import (
    ablate,
    configs,
    doctor,
    export,
    pack,
    pretrain,
    relations,
    replay,
    resume,
    verify_resume,
    worth,
)

COMMANDS = (
    *(pretrain, resume, doctor, replay, ablate, worth, export, relations, pack, configs),
    verify_resume,
)
"""In the order of `ssl-bf --help`."""
