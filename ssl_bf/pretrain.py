"""What the commands `pretrain`, `resume` and `export` do, from the command line to the loop."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from linear_eval.atomic_file import atomic_file, check_new
from linear_eval.backbone_file import assemble_backbone
from linear_eval.backbones import expected_tensors
from linear_eval.checkpoints.export import Format, export
from linear_eval.distributed import barrier, is_main, shut_down, start_from_environment, world_size
from linear_eval.errors import InputError
from linear_eval.strict_config import load_config, to_yaml
from ssl_bf import checkpoint
from ssl_bf.build import Run, backbone_info, build_run
from ssl_bf.config import PretrainConfig
from ssl_bf.deterministic import deterministic_algorithms
from ssl_bf.environment import git_commit
from ssl_bf.train import BACKBONE_FILE, train
from ssl_bf.training_state import restore

CONFIG_FILE = "config.yaml"
_NUMBER = "[0-9]" * 9
# What a run writes into its directory; run.overwrite deletes nothing else. The backbone comes
# first: a file that looks finished must not outlive its run.
RUN_ENTRIES = (
    BACKBONE_FILE,
    "metrics.jsonl",
    "status.json",
    "environment.json",
    CONFIG_FILE,
    f"checkpoints/step-{_NUMBER}",
    f"checkpoints/.tmp-step-{_NUMBER}",
    f"checkpoints/.trash-step-{_NUMBER}",
    "tensorboard/events.out.tfevents.*",
)
# What `linear-eval run` writes beside a backbone: run.overwrite takes it away with that backbone.
JUDGED_ENTRIES = ("results.json", "results.per_image.safetensors")

# Keys that `resume` takes: all but the last leave the result alone, and that one good images.
RESUMABLE = ("speed.", "run.", "data.on_bad_image")

DEFAULT_EXPORTS: dict[Format, str] = {
    "safetensors": BACKBONE_FILE,
    "torchvision": "backbone.torchvision.pth",
    "timm": "backbone.timm.safetensors",
    "onnx": "backbone.onnx",
}


def pretrain(source: str, overrides: Sequence[str]) -> None:
    """Train as a config file and overrides say; nothing is written before all is checked."""
    loaded = load_config(PretrainConfig, source, overrides, packaged="pretrain")
    config = loaded.value
    directory = Path(config.run.directory)
    with _processes(config):
        _check_directory(directory, overwrite=config.run.overwrite)
        run = build_run(config)
        run.notes[:0] = loaded.notes
        with _run_directory(directory):
            if is_main():
                _start_directory(directory, config)
            barrier()
            train(run, directory)


def whole_config(source: str, overrides: Sequence[str]) -> str:
    """Every key of a run as YAML, with its value; `???` stands for what must be given."""
    loaded = load_config(PretrainConfig, source, overrides, packaged="pretrain", for_missing="???")
    return to_yaml(loaded.value)


def resume(directory: Path, overrides: Sequence[str] = ()) -> None:
    """Go on with a run where its newest sound checkpoint left it.

    Args:
        directory: of the run.
        overrides: of the keys `RESUMABLE`, for this time only.
    """
    for key in (text.partition("=")[0] for text in overrides):
        if not key.startswith(RESUMABLE) or key in ("run.directory", "run.overwrite"):
            raise InputError(
                f"{key}: cannot change while a run goes on, expected one of speed.*, run.* (not "
                "directory, overwrite) and data.on_bad_image; start a new run"
            )
    config = _config_of(directory, overrides)
    with _processes(config), _run_directory(directory):
        run, first_step = _restored(config, directory)
        if first_step >= run.plan.total_steps and (directory / BACKBONE_FILE).exists():
            print(f"{directory}: the run is finished; its backbone is {directory / BACKBONE_FILE}")
            return
        train(run, directory, first_step=first_step)


def export_backbone(
    directory: Path, output: Path | None, file_format: Format = "safetensors"
) -> None:
    """Write the stripped backbone of a run's newest checkpoint; needs no data.

    Args:
        directory: of the run.
        output: None: in the run's directory, under the name of `DEFAULT_EXPORTS`.
        file_format: for whom.
    """
    config = _config_of(directory)
    output = directory / DEFAULT_EXPORTS[file_format] if output is None else output
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
    info = backbone_info(config, commit=git_commit(), step=saved.step)
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
    return load_config(PretrainConfig, str(file), overrides, packaged="pretrain").value


def _restored(config: PretrainConfig, directory: Path) -> tuple[Run, int]:
    saved = checkpoint.load_newest(directory)
    then = saved.state["world_size"]
    if then != world_size():
        raise InputError(
            f"{directory}: was trained by {then} process(es) and resumes on {world_size()}, which "
            f"would change its batches; start it with torchrun --nproc-per-node {then}"
        )
    # The weights come from the checkpoint; the file that the run began with may be gone.
    without_init = replace(config, backbone=replace(config.backbone, init=None))
    run = replace(build_run(without_init), config=config)
    if saved.state.get("images", run.images) != run.images:  # earlier versions saved none
        raise InputError(
            f"{directory}: the training images are not those that it began with (others in number, "
            "name, label or file size); put these back, or start a new run"
        )
    run.notes.extend(saved.notes)
    try:
        restore(run.method, run.optimizer, saved.tensors)
    except InputError as error:
        raise InputError(f"{directory}: {error}") from error
    return run, saved.step


def _check_directory(directory: Path, *, overwrite: bool) -> None:
    if directory.exists() and not directory.is_dir():
        raise InputError(
            f"run.directory: {directory} is a file, expected a directory; choose another name"
        )
    new = directory.absolute() / CONFIG_FILE
    while not new.parent.exists():
        new = new.parent
    check_new(new, "run.directory")
    found = _entries(directory)
    if found and not overwrite:
        saved = any(directory.glob(f"checkpoints/step-{_NUMBER}"))
        goes_on = f"go on with `ssl-bf resume {directory}`, " if saved else "it has no checkpoint: "
        names = ", ".join(path.relative_to(directory).as_posix() for path in found[:3])
        raise InputError(
            f"run.directory: {directory} already holds a run ({names}); {goes_on}choose another "
            "directory, or set run.overwrite=true"
        )


def _entries(directory: Path) -> list[Path]:
    return [path for pattern in RUN_ENTRIES for path in sorted(directory.glob(pattern))]


def _start_directory(directory: Path, config: PretrainConfig) -> None:
    try:
        judged = [directory / name for name in JUDGED_ENTRIES if (directory / name).exists()]
        for entry in [*_entries(directory), *judged]:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        with atomic_file(directory / CONFIG_FILE) as file:
            file.write(to_yaml(config).encode())
    except OSError as error:
        raise InputError(
            f"run.directory: {directory} cannot be written ({error.strerror or error}); choose "
            "another directory"
        ) from error


@contextmanager
def _run_directory(directory: Path) -> Iterator[None]:
    """Make the directory where it is missing, and let no other run write to it meanwhile."""
    if not is_main():
        yield
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise InputError(
            f"run.directory: {directory} cannot be written ({error.strerror or error}); choose "
            "another directory"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InputError(
            f"run.directory: another process is training in {directory}; wait for it, stop it, or "
            "choose another directory"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)  # gives the lock back; so does the end of the process, however it ends


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
