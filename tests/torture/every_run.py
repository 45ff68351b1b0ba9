"""A run of seconds for every method with every relation, those that refuse each other left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import ssl_bf.train
from linear_eval.strict_config.reader import load_config
from linear_eval.system.errors import InputError
from ssl_bf.commands.pretrain import start
from ssl_bf.config import PretrainConfig
from ssl_bf.methods import MethodConfig
from ssl_bf.methods.classes import Classes
from ssl_bf.relations import RelationConfig
from ssl_bf.run.build_method import method_without_memory
from ssl_bf.run.environment import git_commit
from tests import combinations
from tests.unions import LABELLED, members_of

_METHODS = {"classifier": ["method.name=classifier"], **combinations.METHODS}
_RELATIONS = {
    **{name: [f"relation.name={name}"] for name in members_of(RelationConfig)},
    "uniform": ["relation.name=uniform", "relation.context=8"],
    "bgformer": ["relation.name=bgformer", "relation.context=8"],
    **combinations.RELATIONS,
}
_AT_BACKBONE = ("relation.insert_at=backbone", "relation.pairs=[[0.5, 0], [0.5, 0]]")
_SMALL = (
    *("data.train_images=64", "data.test_images=20", "batch_size=16", "views.size=16"),
    *("run.monitor_every=0", "run.capture_failures=false", "speed.threads=1", "speed.device=cpu"),
)
_CLASSES = Classes(tuple("0123456789"), (6,) * 10)


def overrides(method: str, relation: str) -> list[str]:
    """Of the quickstart: 54 images, three steps in each of two epochs."""
    keys = [key for key in combinations.TINY if _has(method, key)]
    words = [*keys, *_METHODS[method], *_RELATIONS[relation], *_SMALL]
    takes = {"copy", "dropout_only", "self_only", "uniform", "batchformer", "bgformer", "foreign"}
    return [*words, *_AT_BACKBONE] if method in LABELLED and relation in takes else words


def command_of(words: Sequence[str]) -> Callable[[Path], None]:
    """What trains the quickstart with these overrides into a folder."""

    def command(directory: Path) -> None:
        texts = [*words, f"run.directory={directory}"]
        loaded = load_config(PretrainConfig, "quickstart", texts, packaged="pretrain")
        start(loaded.value, loaded.notes)

    return command


def keep_commit() -> None:
    """Else whoever commits to this checkout meanwhile changes what a backbone's header says."""
    train: Any = ssl_bf.train
    commit = git_commit()
    train.git_commit = lambda: commit


def _has(method: str, key: str) -> bool:
    return method != "classifier" or not key.startswith("method.")


@cache
def combined() -> tuple[tuple[str, str], ...]:
    """(method, relation) of all that go together."""
    assert _METHODS.keys() == members_of(MethodConfig).keys()
    found = []
    for method in _METHODS:
        for relation in _RELATIONS:
            try:
                config = load_config(
                    PretrainConfig, "quickstart", overrides(method, relation), packaged="pretrain"
                ).value
                built = method_without_memory(config, _CLASSES)
                built.check_batch(16, 1)
            except InputError:
                continue
            if built.needs_labels or not built.relation.needs_labels:
                found.append((method, relation))
    return tuple(found)
