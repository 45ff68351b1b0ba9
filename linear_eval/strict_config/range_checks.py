"""All errors of a section's range checks, although each check stops at its first."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import MISSING
from typing import Any


class _Unread:
    """Stands for a value that is itself wrong: every comparison with it has the same answer."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer

    def _compare(self, other: object) -> bool:
        del other
        return self.answer

    __lt__ = __le__ = __gt__ = __ge__ = _compare

    def __repr__(self) -> str:
        return "(unread)"


def range_problems(
    member: type, values: Mapping[str, Any], stated: Container[str]
) -> Iterator[str]:
    """Yield what `member.__post_init__` objects to.

    The checks run again and again, with `_Unread` in place of what they objected to, so that one
    message can name all of a section's values that are out of range.

    Args:
        member: the section's class; its checks raise `ValueError("<field>: ...")`.
        values: of all fields; MISSING where a value could not be read and was reported already.
        stated: names that the user gave; what follows from a first finding counts only for these.
    """
    standing = {
        name: _Unread(False) if value is MISSING else value for name, value in values.items()
    }
    is_first = MISSING not in values.values()
    while hasattr(member, "__post_init__"):
        stand_in: Any = object.__new__(member)
        for name, value in standing.items():
            object.__setattr__(stand_in, name, value)
        try:
            stand_in.__post_init__()
        except (AttributeError, TypeError):
            return  # this check does more than compare a value that is itself wrong
        except ValueError as error:
            name = str(error).partition(":")[0]
            suspect = standing.get(name)
            if isinstance(suspect, _Unread):
                if suspect.answer:
                    return
                standing[name] = _Unread(True)
                continue
            is_stated = name in standing and name in stated
            if is_first or (is_stated and "(unread)" not in str(error)):
                yield str(error)
            if not is_stated:
                return
            standing[name] = _Unread(False)
            is_first = False
        else:
            return
