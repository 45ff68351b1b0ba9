"""Whether two runs that are done are the same: every tensor, every logged number, every byte."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ssl_bf.run.checkpoint import load_newest
from ssl_bf.run.directory import BACKBONE_FILE


def differences(ours: Path, theirs: Path, *, but: Sequence[str] = ()) -> list[str]:
    """Names of what differs; empty where nothing does.

    Args:
        ours: directory of a run.
        theirs: of the other.
        but: entries of `state.json` that may.
    """
    one, other = load_newest(ours), load_newest(theirs)
    found = [] if one.step == other.step else [f"step {one.step} and {other.step}"]
    for name in dict.fromkeys((*one.tensors, *other.tensors)):
        pair = (one.tensors.get(name), other.tensors.get(name))
        if pair[0] is None or pair[1] is None or not _are_same(pair[0], pair[1]):
            found.append(name)
    states = [{k: v for k, v in each.state.items() if k not in but} for each in (one, other)]
    if states[0] != states[1]:
        found.append("state.json")
    lines = (_logged(ours), _logged(theirs))
    for number, (line, expected) in enumerate(zip(*lines, strict=False), 1):
        if line != expected:
            found.append(f"metrics.jsonl line {number}")
    if len(lines[0]) != len(lines[1]):
        found.append(f"metrics.jsonl has {len(lines[0])} lines and {len(lines[1])}")
    if (ours / BACKBONE_FILE).read_bytes() != (theirs / BACKBONE_FILE).read_bytes():
        found.append(BACKBONE_FILE)
    return found


def _are_same(x: torch.Tensor, y: torch.Tensor) -> bool:
    """By their bytes: NaN is NaN, and 0 is not -0."""
    if (x.dtype, x.shape) != (y.dtype, y.shape):
        return False
    return torch.equal(*(each.reshape(-1).view(torch.uint8) for each in (x, y)))


def _logged(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "timing"} for line in lines]
