"""What the commands `pretrain`, `resume` and `export` do, from the command line to the loop."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from linear_eval.backbones.architectures import expected_tensors
from linear_eval.backbones.backbone_file import assemble_backbone
from linear_eval.checkpoints.export import Format, export
from linear_eval.strict_config.explained import explain
from linear_eval.strict_config.reader import load_config, to_yaml
from linear_eval.system.atomic_file import check_output
from linear_eval.system.distributed import shut_down, start_from_environment, world_size
from linear_eval.system.errors import InputError
from ssl_bf.build import Run, build_run
from ssl_bf.config import (
    LEFT_OUT,
    ONLY_AT_START,
    RESUMABLE,
    PretrainConfig,
    decisive_settings,
)
from ssl_bf.earlier_versions import earlier_reading
from ssl_bf.hand_over import backbone_info
from ssl_bf.pixels.identity import check_identity
from ssl_bf.run import checkpoint
from ssl_bf.run.deterministic import deterministic_algorithms
from ssl_bf.run.directory import BACKBONE_FILE, CONFIG_FILE, check_directory, claimed, clear_for
from ssl_bf.run.environment import git_commit
from ssl_bf.run.training_state import restore
from ssl_bf.train import train

DEFAULT_EXPORTS: dict[Format, str] = {
    "safetensors": BACKBONE_FILE,
    "torchvision": "backbone.torchvision.pth",
    "timm": "backbone.timm.safetensors",
    "onnx": "backbone.onnx",
}


def pretrain(source: str, overrides: Sequence[str]) -> None:
    """Train as a config file and overrides say; nothing is written before the first step is made.

    So a run that `run.overwrite` gives up is there until another one is known to work.
    """
    loaded = load_config(PretrainConfig, source, overrides, packaged="pretrain")
    config = loaded.value
    directory = Path(config.run.directory)
    reads = {"backbone.init": config.backbone.init, "speed.like": config.speed.like}
    with _processes(config):
        check_directory(directory, overwrite=config.run.overwrite, reads=reads)
        run = build_run(config, directory=directory)
        run.notes[:0] = loaded.notes
        with claimed(directory):
            # once more: another run may have begun and ended here since
            check_directory(directory, overwrite=config.run.overwrite, reads=reads)
            train(run, directory, begin=partial(clear_for, to_yaml(config), directory))


def whole_config(source: str, overrides: Sequence[str]) -> str:
    """Every key of a run as YAML, with its value; `???` stands for what must be given."""
    loaded = load_config(
        PretrainConfig, source, overrides, packaged="pretrain", for_missing=LEFT_OUT
    )
    return to_yaml(loaded.value)


def explain_key(source: str, overrides: Sequence[str], key: str) -> str:
    """What a key means, and its value in this run."""
    loaded = load_config(
        PretrainConfig, source, overrides, packaged="pretrain", for_missing=LEFT_OUT
    )
    return explain(PretrainConfig, key, loaded.value)


def resume(directory: Path, overrides: Sequence[str] = ()) -> None:
    """Go on with a run where its newest sound checkpoint left it.

    Args:
        directory: of the run.
        overrides: of the keys `RESUMABLE`, for this time only.
    """
    for key in (text.partition("=")[0] for text in overrides):
        if not key.startswith(RESUMABLE) or key in ONLY_AT_START:
            raise InputError(
                f"{key}: cannot change while a run goes on, expected one of speed.* (not like), "
                "run.* (not directory, overwrite), data.root and data.on_bad_image; start a new run"
            )
    config = _config_of(directory, overrides)
    with _processes(config), claimed(directory):
        run, first_step = _restored(config, directory)
        if first_step >= run.plan.total_steps and (directory / BACKBONE_FILE).exists():
            print(f"{directory}: the run is finished; its backbone is {directory / BACKBONE_FILE}")
            return
        train(run, directory, first_step=first_step)


def export_backbone(
    directory: Path,
    output: Path | None,
    file_format: Format = "safetensors",
    *,
    overwrite: bool = False,
) -> None:
    """Write the stripped backbone of a run's newest checkpoint; needs no data.

    Args:
        directory: of the run.
        output: None: in the run's directory, under the name of `DEFAULT_EXPORTS`.
        file_format: for whom.
        overwrite: whether an `output` that exists is replaced; the default is in any case.
    """
    config = _config_of(directory)
    if output is None:
        output, overwrite = directory / DEFAULT_EXPORTS[file_format], True
    reads = {"part of the run": [directory / CONFIG_FILE, *directory.glob("checkpoints/*/*")]}
    check_output(output, "--output", overwrite=overwrite, reads=reads)
    saved = checkpoint.load_newest(directory)
    prefix = "method/backbone."
    tensors = {k.removeprefix(prefix): v for k, v in saved.tensors.items() if k.startswith(prefix)}
    architecture = config.backbone.architecture
    if {name: tuple(value.shape) for name, value in tensors.items()} != expected_tensors(
        architecture
    ):
        raise InputError(
            f"{directory}: its newest checkpoint holds no {architecture}, as {CONFIG_FILE} names "
            f"it; put back the {CONFIG_FILE} that the run was started with"
        )
    backbone = assemble_backbone(architecture, tensors)
    precision = saved.state.get("precision", config.precision)  # earlier versions saved none
    info = backbone_info(config, commit=git_commit(), step=saved.step, precision=precision)
    export(backbone, info, file_format=file_format, output=output)
    print(f"backbone after step {saved.step}: {output}")


def _config_of(directory: Path, overrides: Sequence[str] = ()) -> PretrainConfig:
    file = directory / CONFIG_FILE
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; give the directory of a run")
    if not file.is_file():
        raise InputError(
            f"{directory}: holds no run ({CONFIG_FILE} is missing), expected a directory written "
            "by `ssl-bf pretrain`; give the directory of a run"
        )
    as_then = earlier_reading(file)
    return load_config(PretrainConfig, str(file), [*as_then, *overrides], packaged="pretrain").value


def _restored(config: PretrainConfig, directory: Path) -> tuple[Run, int]:
    saved = checkpoint.load_newest(directory)
    then = saved.state["world_size"]
    if then != world_size():
        raise InputError(
            f"{directory}: was trained by {then} process(es) and resumes on {world_size()}, which "
            f"would change its batches; start it with torchrun --nproc-per-node {then}"
        )
    now = decisive_settings(config)
    began_with = saved.state.get("settings", now)  # earlier versions saved none
    for key, value in began_with.items():
        if key in now and now[key] != value:
            raise InputError(
                f"{directory}: its {CONFIG_FILE} says {key}={now[key]}, but it began with {value}, "
                "and a run cannot change while it goes on; put that back, or start a new run"
            )
    # The weights come from the checkpoint; the file that the run began with may be gone.
    without_init = replace(config, backbone=replace(config.backbone, init=None))
    run = replace(build_run(without_init, begun=saved.state), config=config)
    run.notes.extend(saved.notes)
    for key in earlier_reading(directory / CONFIG_FILE):
        run.notes.append(f"{key}, as in the version that began this run")
    try:
        unknown = check_identity(saved.state, run.images)
        run.notes.extend([unknown] if unknown else [])
        restore(run.method, run.optimizer, saved.tensors)
    except InputError as error:
        raise InputError(f"{directory}: {error}") from error
    return run, saved.step


@contextmanager
def _processes(config: PretrainConfig) -> Iterator[None]:
    """Join torchrun's process group, if there is one, and leave it in the end."""
    on_cuda = config.speed.device != "cpu" and torch.cuda.is_available()
    start_from_environment("cuda" if on_cuda else "cpu")
    if on_cuda and world_size() == 1:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        with deterministic_algorithms() if config.speed.deterministic else nullcontext():
            yield
    finally:
        shut_down()
