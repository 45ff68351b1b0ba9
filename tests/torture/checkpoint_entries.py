"""One entry of a checkpoint is dropped, shifted or exchanged for another: seen when resuming.

Seen means: refused, or the step after it leaves another state than the sound checkpoint's does,
which the tests of resuming compare tensor by tensor. An entry that no mutant of shows is one that
need not be saved, or one whose loss would go unseen.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from linear_eval.strict_config.reader import load_config
from linear_eval.system.errors import InputError
from ssl_bf.build import Run, build_run
from ssl_bf.config import PretrainConfig
from ssl_bf.run.checkpoint import copied
from ssl_bf.run.training_state import restore, training_tensors
from ssl_bf.train import make_step
from tests.torture.every_run import combined, overrides
from tests.torture.row import Row, Trials, Tried

State = dict[str, Tensor]
_SAVED_AFTER = 2  # steps
_STEP = 29  # through the trials, so that a part of them meets all methods


def _dropped(state: State, name: str) -> State:
    return {each: value for each, value in state.items() if each != name}


def _shifted(state: State, name: str) -> State:
    value = state[name]
    if value.dtype == torch.bool:
        return {**state, name: ~value}
    by = 0.01 * value.abs().mean() + 1e-4 if value.is_floating_point() else 1
    return {**state, name: value + by}


def _exchanged(state: State, name: str) -> State | None:
    """With the next other one that could pass for it; None where there is none."""
    value, names = state[name], list(state)
    at = names.index(name)
    for other in names[at + 1 :] + names[:at]:
        theirs = state[other]
        fits = (theirs.shape, theirs.dtype) == (value.shape, value.dtype)
        if fits and not torch.equal(theirs, value):
            return {**state, name: theirs, other: value}
    return None


_KINDS: dict[str, Callable[[State, str], State | None]] = {
    "dropped": _dropped,
    "shifted": _shifted,
    "exchanged": _exchanged,
}


def _prepare(folder: Path) -> Trials:
    os.chdir(folder)
    pairs = combined()
    total = len(pairs) * len(_KINDS)

    def trial(number: int) -> Tried:
        at = number * _STEP % total
        method, relation = pairs[at // len(_KINDS)]
        kind = list(_KINDS)[at % len(_KINDS)]
        words = overrides(method, relation)
        config = load_config(PretrainConfig, "quickstart", words, packaged="pretrain").value
        run = build_run(config)
        with run.loader:
            run.model.train()
            count, unseen = _mutants(run, _KINDS[kind])
        bad = tuple(f"{method}, {relation}: {name} {kind}, and nothing shows" for name in unseen)
        return Tried(bad, count, {kind: count})

    return Trials(trial, total)


def _mutants(run: Run, change: Callable[[State, str], State | None]) -> tuple[int, list[str]]:
    """How many there were, and the entries whose mutant went unseen."""
    for step in range(_SAVED_AFTER):
        make_step(run, step, run.loader.batch(step))
    saved = copied(training_tensors(run.method, run.optimizer))
    batch = run.loader.batch(_SAVED_AFTER)

    def after(state: State) -> State:
        restore(run.method, run.optimizer, state)
        make_step(run, _SAVED_AFTER, batch)
        return training_tensors(run.method, run.optimizer)

    expected = copied(after(saved))
    assert _are_same(after(saved), expected)
    count, unseen = 0, []
    for name in saved:
        mutant = change(saved, name)
        if mutant is None:
            continue
        count += 1
        try:
            found = after(mutant)
        except InputError:
            continue
        if _are_same(found, expected):
            unseen.append(name)
    return count, unseen


def _are_same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


ROW = Row(
    name="entries",
    says="one mutant per entry of a checkpoint (dropped, shifted, exchanged), every method x "
    "relation: unseen",
    prepare=_prepare,
    must=None,
    seconds=600,
)
