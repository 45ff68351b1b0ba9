"""Find a backbone among the tensors of a foreign checkpoint, and account for every other tensor.

A layout fits when every expected tensor is there with its shape, and every other tensor of the file
belongs to a group that the layout names. So a wrong prefix cannot leave a backbone at its random
initial values, and nothing is dropped unseen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from linear_eval.backbones.architectures import COUNTER
from linear_eval.checkpoints.dialects import DIALECTS, Dialect
from linear_eval.checkpoints.layouts import AVERAGED, ELSEWHERE, LAYOUTS, Groups, Layout
from linear_eval.checkpoints.not_read import not_read
from linear_eval.checkpoints.wrappers import common_start, outer_wrappers, unwrapped
from linear_eval.system.errors import InputError

_NUM_NAMED = 3
_FEW_MISSING = 0.1  # of those found; of another architecture's tensors, more are missing
_NUM_UNKNOWN = 10


@dataclass(frozen=True, eq=False)
class Match:
    """How one layout reads a checkpoint.

    Attributes:
        layout: the layout.
        dialect: how the tensors are named in it.
        root: container, wrapper and prefix: what stands before every name of the backbone.
        used: our name -> name in the file.
        dropped: group -> how many tensors.
        unknown: names in the file that belong nowhere.
        missing: our names.
        misshapen: our name, its shape in the file and the expected one.
    """

    layout: Layout
    dialect: Dialect
    root: str
    used: dict[str, str]
    dropped: dict[str, int]
    unknown: list[str]
    missing: list[str]
    misshapen: list[str]

    @property
    def is_complete(self) -> bool:
        """Whether the checkpoint is this architecture in this layout, with nothing left over."""
        return not (self.unknown or self.missing or self.misshapen)

    @property
    def found(self) -> int:
        """Number of expected tensors that are there, whatever their shape."""
        return len(self.used)


def match_backbone(
    tensors: dict[str, Tensor], expected: dict[str, tuple[int, ...]], architecture: str
) -> Match:
    """The one way to read the backbone of an architecture out of a checkpoint.

    Args:
        tensors: name in the file -> tensor; see `tensor_file.read_tensors`.
        expected: our name -> shape.
        architecture: the name of what is expected.

    Raises:
        InputError: no layout fits (says what the nearest one lacks, or cannot account for), two fit
            with different tensors, or the layout's weights do not fit the architecture.
    """
    attempts = list(_attempts(tensors, expected, averaged=False))
    complete = [attempt for attempt in attempts if attempt.is_complete]
    if not complete:  # averaged weights count where they are alone
        attempts += _attempts(tensors, expected, averaged=True)
        complete = [attempt for attempt in attempts if attempt.is_complete]
    if not complete:
        raise _no_match(attempts, tensors, architecture)
    allowed = [match for match in complete if _refusal(match, architecture) is None]
    if not allowed:
        raise InputError(f"architecture: {_refusal(complete[0], architecture)}")
    first = allowed[0]
    for other in allowed[1:]:
        if other.used != first.used:
            raise InputError(
                f"checkpoint: two encoders fit {architecture}, {first.root or 'no prefix'} "
                f"({first.layout.name}) and {other.root or 'no prefix'} ({other.layout.name}); "
                "save the tensors of one of them alone"
            )
    return first


def _refusal(match: Match, architecture: str) -> str | None:
    of_layout, of_dialect = match.layout.refuses.items(), match.dialect.refuses.items()
    reasons = [why for suffix, why in of_layout if architecture.endswith(suffix)]
    reasons += [why for start, why in of_dialect if architecture.startswith(start)]
    return reasons[0].format(architecture=architecture) if reasons else None


def _attempts(
    tensors: dict[str, Tensor], expected: dict[str, tuple[int, ...]], *, averaged: bool
) -> Iterator[Match]:
    folders = sorted({name[: name.rfind("/") + 1] for name in tensors})
    inside = {folder: unwrapped(folder, tensors) for folder in folders}
    for layout in LAYOUTS:
        containers = AVERAGED if averaged else layout.containers
        read_as = replace(layout, name=f"{layout.name}, averaged weights (EMA)")
        for container in folders:
            if not re.fullmatch(containers, container):
                continue
            for wrapper in outer_wrappers(inside[container].values()):
                root = wrapper + layout.prefix
                if any(name.startswith(root) for name in inside[container].values()):
                    for dialect in DIALECTS:
                        yield _read(
                            read_as if averaged else layout,
                            dialect,
                            wrapper,
                            inside[container],
                            tensors,
                            expected,
                            is_top=not container,
                        )


def _read(
    layout: Layout,
    dialect: Dialect,
    start: str,
    inside: dict[str, str],
    tensors: dict[str, Tensor],
    expected: dict[str, tuple[int, ...]],
    *,
    is_top: bool,
) -> Match:
    root = start + layout.prefix
    used: dict[str, str] = {}
    unknown: list[str] = []
    dropped: Counter[str] = Counter()
    for name in tensors:
        inner = inside.get(name)
        within = inner is not None and inner.startswith(root)
        ours = _rename(inner[len(root) :], dialect) if inner is not None and within else None
        if ours in expected and ours not in used:
            used[ours] = name
            continue
        group = None if inner is None else _group(inner, start, layout)
        if group is None and (inner is None or is_top):
            group = _first(ELSEWHERE, name)
        if group is None:
            unknown.append(name)
        else:
            dropped[group] += 1
    return Match(
        layout=layout,
        dialect=dialect,
        root=common_start(used.values()),
        used=used,
        dropped=dict(dropped),
        unknown=unknown,
        # files from before PyTorch 0.4.1 have no counters
        missing=[name for name in expected if name not in used and not name.endswith(COUNTER)],
        misshapen=[
            f"{ours} {tuple(tensors[name].shape)} instead of {expected[ours]}"
            for ours, name in used.items()
            if tuple(tensors[name].shape) != expected[ours]
        ],
    )


def _rename(name: str, dialect: Dialect) -> str:
    for pattern, ours in dialect.renames.items():
        if fit := re.match(pattern, name):
            return fit.expand(ours) + name[fit.end() :]
    return name


def _group(inner: str, start: str, layout: Layout) -> str | None:
    """The group of tensors to drop that a name in the container belongs to, if any."""
    root = start + layout.prefix
    if inner.startswith(root):  # what lies inside the encoder is never taken for another encoder
        return _first(layout.inside, inner[len(root) :])
    return _first(layout.beside, inner[len(start) :]) if inner.startswith(start) else None


def _first(groups: Groups, name: str) -> str | None:
    return next((group for group, pattern in groups.items() if re.match(pattern, name)), None)


def _no_match(attempts: list[Match], tensors: dict[str, Tensor], architecture: str) -> InputError:
    best = max(
        attempts,
        key=lambda each: (each.found, -len(each.misshapen), -len(each.unknown)),
        default=None,
    )
    if (best is None or not best.is_complete) and (known := not_read(tensors)):
        return InputError(f"checkpoint: holds {known}")
    if best is None or not best.found:
        beginnings = Counter(re.split(r"[./](?=[^./]*$)", name)[0] for name in tensors)
        return InputError(
            f"checkpoint: no known layout finds a tensor of {architecture} in it, its names begin "
            f"with {_some(list(beginnings), _NUM_UNKNOWN)}; give the --architecture that it holds, "
            "or save the backbone's own state_dict"
        )
    where = f"{best.layout.name}, '{best.root}'" if best.root else best.layout.name
    is_other = best.misshapen or best.unknown or len(best.missing) > best.found * _FEW_MISSING
    if best.missing and not is_other:
        return InputError(
            f"checkpoint: has {best.found} tensors of {architecture} and lacks {len(best.missing)} "
            f"(layout: {where}): {_some(best.missing, _NUM_NAMED)}; it was saved in part or "
            "damaged, and no value can stand in for a trained one: get the whole file"
        )
    if best.missing or best.misshapen:
        problems = {"missing": best.missing, "of another shape": best.misshapen}
        listed = "; ".join(
            f"{len(names)} {kind}: {_some(names, _NUM_NAMED)}"
            for kind, names in problems.items()
            if names
        )
        return InputError(
            f"checkpoint: is no whole {architecture} (nearest layout: {where}; {listed}); "
            "give the --architecture that it holds"
        )
    return InputError(
        f"checkpoint: {len(best.unknown)} tensors beside the {architecture} belong to no known "
        f"group (nearest layout: {where}): {_some(best.unknown, _NUM_UNKNOWN)}; "
        "save the backbone's own state_dict and convert that"
    )


def _some(names: list[str], most: int) -> str:
    return ", ".join(names[:most]) + ", ..." * (len(names) > most)
