"""The arms of a study as whole pretraining configs, equal in all that they do not vary."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from linear_eval.strict_config.from_source import defined
from linear_eval.strict_config.reader import LoadedConfig, load_config
from linear_eval.strict_config.types import nearest
from linear_eval.system.errors import ConfigError, InputError
from ssl_bf.study.study_file import KEYS, ArmConfig, StudyConfig

if TYPE_CHECKING:
    from ssl_bf.config import PretrainConfig

T = TypeVar("T")

_SET_BY_STUDY = {
    "seed": "seeds",
    "data.seed": "seeds",
    "run.directory": "directory",
    "run.overwrite": "directory",
    "speed.like": "jobs",
}
_SHARED = ("speed", "run")  # of all arms: how fast, where and how often
_SAME_STEPS = ("epochs", "batch_size", "data.")  # with budget.rule=steps


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm.

    Attributes:
        name: of the study.
        config: of its runs, but for their seed and directory, and what the study chooses.
        notes: lines that reading it gave.
    """

    name: str
    config: PretrainConfig
    notes: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result, dotted, but for the seeds."""
        from ssl_bf.config import decisive_settings

        found = decisive_settings(self.config)
        return {key: value for key, value in found.items() if key not in _SET_BY_STUDY}

    def seed_overrides(self, seed: int) -> list[str]:
        """What a seed sets: data that are drawn are drawn anew."""
        has_own = "seed" in {each.name for each in dataclasses.fields(self.config.data)}
        return [f"seed={seed}", *([f"data.seed={seed}"] if has_own else [])]


def open_arms(study: StudyConfig) -> list[Arm]:
    """The arms, checked: each a valid config, none like another, all of one budget.

    Raises:
        ConfigError: naming the arm and the key.
    """
    from ssl_bf.config import PretrainConfig

    check_arms(study)
    arms = [_open_arm(_load(PretrainConfig, arm, study), arm) for arm in study.arms]
    for number, arm in enumerate(arms):
        for other in arms[:number]:
            if arm.settings == other.settings:
                raise ConfigError(
                    f"arms: {other.name} and {arm.name} differ in nothing that decides the result, "
                    "expected different overrides; relation.name=copy makes an A/A arm"
                )
    if study.budget.rule == "steps":
        _check_same_steps(arms)
    return arms


def check_arms(study: StudyConfig) -> None:
    """Refuse wrong keys, names and types in the arms, before torch is loaded.

    Raises:
        ConfigError: naming the arm and the key.
    """
    whole = defined("ssl_bf.config", "PretrainConfig")
    _check_base_overrides(study.base_overrides, [each.name for each in dataclasses.fields(whole)])
    for arm in study.arms:
        _check_own_overrides(arm)
        _load(whole, arm, study)


def check_networks(arms: Sequence[Arm]) -> None:
    """Make the network of each arm once: what does not fit is found before the first run.

    What depends on the images is found by the first run, which all arms share it with.

    Raises:
        ConfigError: naming the arm and the key.
    """
    import torch

    from ssl_bf.build import fit_to_shards
    from ssl_bf.methods.classes import Classes
    from ssl_bf.ranks.shards_of_run import shards_of
    from ssl_bf.run.build_method import build_method, check_room, without_init

    stand_in = Classes.unnamed((1, 1))
    for arm in arms:
        try:
            check_room(arm.config, stand_in, torch.device("cpu"))
            method = build_method(without_init(arm.config), stand_in)
            fit_to_shards(method, arm.config, shards_of(arm.config))
        except InputError as error:
            raise ConfigError(f"arms: {arm.name}: {error}") from error


def _check_own_overrides(arm: ArmConfig) -> None:
    for text in arm.overrides:
        key = text.partition("=")[0].strip()
        by = _SET_BY_STUDY.get(key)
        if by is None and key.partition(".")[0] in _SHARED:
            by = f"base_overrides, as all arms must share {key.partition('.')[0]}.*"
        if by is None and key == "epochs":
            by = "budget, as all arms get the same"
        if by is not None:
            raise ConfigError(f"arms: {arm.name}: {key} is set by {by}; leave it out")


def _load(config_class: type[T], arm: ArmConfig, study: StudyConfig) -> LoadedConfig[T]:
    texts = [*study.base_overrides, *arm.overrides, f"run.directory={study.directory}"]
    try:
        return load_config(config_class, study.base, texts, packaged="pretrain")
    except ConfigError as error:
        raise ConfigError(f"arms: {arm.name}: {error}") from error


def _open_arm(loaded: LoadedConfig[PretrainConfig], arm: ArmConfig) -> Arm:
    without_own = replace(loaded.value, run=replace(loaded.value.run, overwrite=False))
    return Arm(name=arm.name, config=without_own, notes=tuple(loaded.notes))


def _check_base_overrides(texts: tuple[str, ...], sections: list[str]) -> None:
    for text in texts:
        key = text.partition("=")[0].strip()
        if key in _SET_BY_STUDY:
            raise ConfigError(f"{key}: is set by the study's {_SET_BY_STUDY[key]}; set that")
        top = key.partition(".")[0]
        if top not in sections:
            known = [*KEYS, *sections]
            hint = nearest(top, known) or f" Known: {', '.join(known)}"
            raise ConfigError(f"{key}: no such key of a study, nor of its base config.{hint}")


def _check_same_steps(arms: list[Arm]) -> None:
    first = arms[0]
    for arm in arms[1:]:
        for key in {**first.settings, **arm.settings}:
            if key.startswith(_SAME_STEPS) and first.settings.get(key) != arm.settings.get(key):
                raise ConfigError(
                    f"arms: {arm.name}: has another {key} than {first.name}, so its steps are not "
                    "the same, as budget.rule=steps says; set budget.rule=seconds, or leave it out"
                )
