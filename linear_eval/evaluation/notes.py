"""Notes below what a command prints: the few that matter most, all if asked for."""

from collections.abc import Sequence

SHOWN = 5  # lines


def shortened(lines: Sequence[str], *, verbose: bool) -> list[str]:
    """At most five lines; the last one says how many are held back, if some are.

    Args:
        lines: the most important first.
        verbose: whether all are wanted.
    """
    if verbose or len(lines) <= SHOWN:
        return list(lines)
    shown = list(lines[: SHOWN - 1])
    return [*shown, f"note: {len(lines) - len(shown)} more lines like these: add --verbose"]
