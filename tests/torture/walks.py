"""A run that goes on with 1, 2 and 4 processes in turn: the end is that of the run on one."""

from __future__ import annotations

from pathlib import Path

from linear_eval.system.errors import RunFailed
from ssl_bf.commands.verify_resume import FIXED
from ssl_bf.verify.walk import try_walk
from tests.torture.every_run import combined, command_of, keep_commit, overrides
from tests.torture.row import Row, Trials, Tried, chance_of

_SIZES = (1, 2, 4)
_STEP = 31  # through the combinations, so that a few trials meet every method and relation
_LONG = (  # 4 shards of 8 rows, and steps enough for all legs
    *("batch_size=32", "data.train_images=200", "epochs=24", "run.save_every=1steps"),
    *("shards=4", "speed.reduction=ordered"),
)


def _prepare(folder: Path) -> Trials:
    del folder
    pairs = combined()
    keep_commit()

    def trial(number: int) -> Tried:
        method, relation = pairs[number * _STEP % len(pairs)]
        words = [*overrides(method, relation), *FIXED, *_LONG]
        chance = chance_of("walks", number)
        sizes = chance.sample(_SIZES, 3)
        sizes.append(chance.choice([size for size in _SIZES if size != sizes[-1]]))
        try:
            try_walk(command_of(words), sizes)
        except RunFailed as failure:
            return Tried((f"{method}, {relation}, {sizes}: {failure}",))
        return Tried(facts={"changes of their number": len(sizes) - 1, f"runs of {method}": 1})

    return Trials(trial)


ROW = Row(
    name="walks",
    says="another number of processes (1, 2, 4) again and again, added in order: not the same bits",
    prepare=_prepare,
    must=20,
    aim=200,
    seconds=600,
)
