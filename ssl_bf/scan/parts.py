"""Which images are trained on, which choose (hold-out), and which are looked at last (test)."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from ssl_bf.scan.found import HOLDOUT, TEST, TRAIN

_TEST_SHARE = 0.2
_HOLDOUT_SHARE = 0.15  # of the whole folder
_HOLDOUT_OF_TRAIN = 0.15  # where the folder has a test part of its own


def divide(
    parts: Sequence[str], classes: Sequence[str], groups: Sequence[int], names: Sequence[str]
) -> tuple[list[str], int]:
    """The part of every image: as the folder says, else drawn class by class, keyed by names.

    Copies of one photograph stay on one side. Where the folder itself has them on two sides, the
    copy on the judged side is left out, for a test image that was trained on says nothing.

    Args:
        parts: of each of M images; "" where the folder does not say.
        classes: of each.
        groups: of each; equal numbers are one photograph.
        names: of each, for the draw.

    Returns:
        M parts, "" of those left out; and how many judged images had a copy on an earlier side.
    """
    found = _drawn(parts, classes, groups, names)
    sides: dict[int, set[str]] = defaultdict(set)
    for group, part in zip(groups, found, strict=True):
        sides[group].add(part)
    leaked = 0
    for row, (group, part) in enumerate(zip(groups, found, strict=True)):
        earlier = {TRAIN: set(), HOLDOUT: {TRAIN}, TEST: {TRAIN, HOLDOUT}}[part]
        if earlier & sides[group]:
            found[row] = ""
            leaked += 1
    return found, leaked


def _drawn(
    parts: Sequence[str], classes: Sequence[str], groups: Sequence[int], names: Sequence[str]
) -> list[str]:
    shares = {TEST: _TEST_SHARE, HOLDOUT: _HOLDOUT_SHARE}
    if TEST in parts:
        shares = {} if HOLDOUT in parts else {HOLDOUT: _HOLDOUT_OF_TRAIN}
    open_parts = {"", TRAIN} if shares else {""}
    rows = [row for row, part in enumerate(parts) if part in open_parts]
    by_class: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    class_of_group: dict[int, str] = {}
    for row in rows:  # a photograph with two labels goes by its first
        name = class_of_group.setdefault(groups[row], classes[row])
        by_class[name][groups[row]].append(row)
    found = [part or TRAIN for part in parts]
    for members in by_class.values():
        total = sum(map(len, members.values()))
        order = sorted(members.values(), key=lambda rows: _key(names[rows[0]]))
        for part, share in shares.items():
            wanted = max(1, round(share * total))
            taken = 0
            while order and taken < wanted:
                group = order.pop()
                taken += len(group)
                for row in group:
                    found[row] = part
    return found


def _key(name: str) -> bytes:
    content = name.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(content, digest_size=16, key=b"worth").digest()
