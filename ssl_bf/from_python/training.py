"""`pretrain` and `resume` for Python programs: a data set and a backbone may be their own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from linear_eval.backbones.configs import GivenBackboneConfig
from linear_eval.backbones.own_module import architecture_of
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.given import GivenConfig, GivenImages
from linear_eval.datasets.given_images import require
from linear_eval.datasets.given_split import Images, given_split
from linear_eval.from_python import Backbone, load
from linear_eval.strict_config.overrides import override_texts
from linear_eval.strict_config.reader import load_config
from linear_eval.system.cores import torch_threads
from linear_eval.system.errors import InputError
from ssl_bf.commands.pretrain import start
from ssl_bf.commands.resume import go_on
from ssl_bf.config import PretrainConfig
from ssl_bf.from_python.given_module import GivenModule
from ssl_bf.run.directory import BACKBONE_FILE
from ssl_bf.run.saved_config import saved_config


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run that reached its last step.

    Attributes:
        directory: where everything lies that the command writes as well.
        module: that was handed in as its backbone, if one was; it was not trained itself.
    """

    directory: Path
    module: nn.Module | None = None

    @property
    def backbone(self) -> Backbone:
        """What was trained, without relation and head; read from its file."""
        return load(self.directory / BACKBONE_FILE, module=self.module)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: step, epoch, loss, learning_rate and so on."""
        lines = (self.directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def pretrain(
    config: str | Path,
    *,
    dataset: Images | None = None,
    backbone: nn.Module | None = None,
    overrides: Mapping[str, Any] | None = None,
    fingerprint: str | None = None,
) -> FinishedRun:
    """Train a backbone as `ssl-bf pretrain` does; its lines go to the screen.

    The run can be stopped by a signal and goes on with `resume`. Python's and torch's random
    numbers, and the number of threads, are as before when it ends.

    Args:
        config: a YAML file, or the name of a packaged config.
        dataset: to train on instead of `data` of the config: a map-style torch Dataset (or a
            sequence) of images or (image, label) pairs, or a tensor of images; see
            `linear_eval.datasets.given_split`. None: the config says.
        backbone: any module (N, 3, H, W) -> (N, D) in place of the config's. A copy of it is
            trained, from the weights that it has.
        overrides: dotted keys and their values, such as {"epochs": 5, "views.size": 64}.
        fingerprint: of `dataset`, text that is another one for other images; None: its attribute
            `fingerprint`, or its images are hashed once.

    Raises:
        InputError: any of these is wrong; one line.
        StoppedBySignal: a signal asked for it; the run was saved.
        NonFiniteLoss: the loss became NaN or infinite.
    """
    _check_arguments(config, backbone, overrides)
    split = None
    given: dict[str, Any] = {}
    if dataset is not None:
        split = given_split(dataset, "dataset", fingerprint)
        given |= {"data.name": "given", "data.fingerprint": split.fingerprint}
    elif fingerprint is not None:
        raise InputError("fingerprint: goes with dataset; leave it out")
    if backbone is not None:
        given |= {"backbone.name": "given", "backbone.architecture": architecture_of(backbone)}
    texts = override_texts(given) + override_texts(overrides or {})
    loaded = load_config(PretrainConfig, str(config), texts, packaged="pretrain")
    whole = _with_given(loaded.value, split, backbone)
    with _as_before():
        start(whole, loaded.notes)
    return FinishedRun(Path(whole.run.directory), backbone)


def _check_arguments(
    config: str | Path, backbone: nn.Module | None, overrides: Mapping[str, Any] | None
) -> None:
    """Refuse what could not be trained, before anything is made.

    Raises:
        InputError: an argument is of another type, nothing of the module can be trained, or this is
            not the main thread, which alone hears signals.
    """
    require("config", config, (str, Path), "a YAML file, or the name of a packaged config")
    if threading.current_thread() is not threading.main_thread():
        raise InputError("pretrain: is called in a thread, expected the main one; call it there")
    if backbone is None:
        return
    require("backbone", backbone, nn.Module, "a torch module; a name goes to backbone.name")
    if not any(each.requires_grad for each in backbone.parameters()):
        name = type(backbone).__name__
        raise InputError(f"backbone: nothing of this {name} can be trained; set requires_grad")
    if named := [key for key in overrides or {} if str(key).startswith("backbone")]:
        raise InputError(f"{named[0]}: cannot be set beside backbone=; leave one of them out")


def resume(
    directory: str | Path,
    *,
    dataset: Images | None = None,
    backbone: nn.Module | None = None,
    fingerprint: str | None = None,
) -> FinishedRun:
    """Go on exactly where a run stopped.

    Args:
        directory: of the run.
        dataset: the one that it began with, if it was handed in; likewise `fingerprint`.
        backbone: a module like the one that was handed in, if one was; its weights do not matter.

    Raises:
        InputError: there is no run, or these are not those that it began with.
    """
    config = saved_config(Path(directory))
    split = None
    if dataset is not None:
        split = given_split(dataset, "dataset", fingerprint)
        _check_same(config, split, directory)
    if backbone is not None:
        _check_backbone(config, backbone, directory)
    whole = _with_given(config, split, backbone)
    with _as_before():
        go_on(whole, Path(directory))
    return FinishedRun(Path(directory), backbone)


def _with_given(
    config: PretrainConfig, split: ImageSplit | None, module: nn.Module | None
) -> PretrainConfig:
    """The same with what only the program has in its sections."""
    if split is not None and isinstance(config.data, GivenConfig):
        config = replace(config, data=GivenImages(config.data, split))
    if module is not None and isinstance(config.backbone, GivenBackboneConfig):
        given = GivenModule(config.backbone, module, config.views.size)
        config = replace(config, backbone=given)
    return config


def _check_same(config: PretrainConfig, split: ImageSplit, directory: str | Path) -> None:
    if not isinstance(config.data, GivenConfig):
        raise InputError(
            f"dataset: {directory} trains on data.name={config.data.name}; leave dataset out"
        )
    began_with = config.data.fingerprint
    if split.fingerprint != began_with:
        raise InputError(
            f"dataset: is not the one that {directory} began with (fingerprint "
            f"{split.fingerprint[:12]}..., expected {began_with[:12]}...); give that one, whose "
            "images and labels are the same each time, or start a new run"
        )


def _check_backbone(config: PretrainConfig, module: nn.Module, directory: str | Path) -> None:
    architecture = config.backbone.architecture
    if architecture != architecture_of(module):
        raise InputError(
            f"backbone: {directory} trains '{architecture}', and the module is "
            f"'{architecture_of(module)}'; give one like it, or leave backbone out"
        )


@contextmanager
def _as_before() -> Iterator[None]:
    """Leave random numbers and threads to the program as they were."""
    with torch_threads(torch.get_num_threads()), torch.random.fork_rng():
        yield
