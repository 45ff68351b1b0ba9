"""How many images may be left out, where `data.on_bad_image` is skip."""

from __future__ import annotations

from collections.abc import Sequence

from linear_eval.system.errors import InputError

SHOWN = 5


def check_bad_images(bad: Sequence[str], total: int, max_bad: float) -> None:
    """Refuse a data set of which too much cannot be read.

    Args:
        bad: a line or name of each image that could not be read.
        total: images in all, >= 1.
        max_bad: the share of them that may be bad.

    Raises:
        InputError: how many there are, and the first five.
    """
    if len(bad) <= max_bad * total:
        return
    first = ", ".join(line.partition("; ")[0] for line in bad[:SHOWN])
    more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    raise InputError(
        f"data: {len(bad)} of {total} images cannot be read ({first}{more}), expected at most "
        f"{100 * max_bad:g} % (data.max_bad={max_bad:g}); repair or remove them, or raise "
        "data.max_bad"
    )
