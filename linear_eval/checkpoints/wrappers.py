"""Parts of tensor names that come from wrappers (DDP, torch.compile, trainers), not the network."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TRANSPARENT = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Left wherever they stand by DistributedDataParallel, torch.compile, FSDP and checkpointing."""
_OUTER = ("model.", "net.", "network.")
"""At the start: what trainers call the network."""
_BARE = re.compile(rf"(?:^|(?<=\.))(?:(?:{'|'.join(_TRANSPARENT)})\.)+")


def unwrapped(container: str, names: Iterable[str]) -> dict[str, str]:
    """Name in the file -> name in the container without wrappers, where two do not become one."""
    inner = {name: name[len(container) :] for name in names if name.startswith(container)}
    bare = {name: _BARE.sub("", rest) for name, rest in inner.items()}
    return bare if len(set(bare.values())) == len(bare) else inner


def outer_wrappers(names: Iterable[str]) -> list[str]:
    """Every sequence of outer wrappers that a name begins with; none at all first."""
    found, new, known = [""], [""], list(names)
    while new:
        longer = [outer + word for outer in new for word in _OUTER]
        new = [each for each in longer if any(name.startswith(each) for name in known)]
        found += new
    return found


def common_start(names: Iterable[str]) -> str:
    """What stands before every name: whole words."""
    ordered = sorted(names)
    if not ordered:
        return ""
    first, last = ordered[0], ordered[-1]
    pairs = zip(first, last, strict=False)
    same = next((i for i, (one, other) in enumerate(pairs) if one != other), len(first))
    start = first[:same]
    return start[: max(start.rfind("."), start.rfind("/")) + 1]
