"""The directory of a run: checked, locked by one process, cleared of an overwritten run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from linear_eval.backbones.backbone_file import file_sha256
from linear_eval.classifiers.classifier_file import CLASSIFIER_FILE
from linear_eval.results.results_file import read_results
from linear_eval.system.atomic_file import atomic_file, check_new, delete_litter
from linear_eval.system.atomic_folder import LEFTOVERS
from linear_eval.system.distributed import is_main
from linear_eval.system.errors import InputError
from linear_eval.system.folder_lock import InUseError, sole_use
from ssl_bf.run.checkpoint import delete_leftovers
from ssl_bf.run.status import STATUS_FILE, put_right

CONFIG_FILE = "config.yaml"
BACKBONE_FILE = "backbone.safetensors"

_NUMBER = "[0-9]" * 9
# What a run writes into its directory; run.overwrite deletes nothing else. The backbone comes
# first: a file that looks finished must not outlive its run.
FILES = (
    *(BACKBONE_FILE, CLASSIFIER_FILE, "metrics.jsonl", "health.jsonl"),
    *(STATUS_FILE, "environment.json", CONFIG_FILE),
)
RUN_ENTRIES = (
    *FILES,
    f"captured/step-{_NUMBER}.safetensors",
    f"checkpoints/step-{_NUMBER}",
    *(f"checkpoints/{leftover}step-{_NUMBER}" for leftover in LEFTOVERS),
    "logs/rank-*.log",
    "tensorboard/events.out.tfevents.*",
    "metrics.csv",
    "wandb",
    *("relations.png", "relations.json"),  # of `ssl-bf relations`
)
# What `linear-eval run` writes beside a backbone: run.overwrite takes it away with that backbone.
JUDGED_ENTRIES = ("results.json", "results.per_image.safetensors")


def check_directory(
    directory: Path, *, overwrite: bool, reads: Mapping[str, str | None] | None = None
) -> None:
    """Refuse a directory that cannot be written to, or holds a run that is not to be overwritten.

    Args:
        directory: of the new run.
        overwrite: whether a run that is there may be replaced.
        reads: what the new run reads, by key; None: nothing.

    Raises:
        InputError: it cannot be written to, holds a run, or is read by the new run.
    """
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
    for key, path in (reads or {}).items():
        if found and path is not None and Path(path).resolve().is_relative_to(directory.resolve()):
            raise InputError(
                f"run.directory: {directory} holds {path}, which this run reads ({key}); choose "
                "another directory"
            )


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Make the directory if it is missing, and keep other runs out of it inside the block.

    A directory in which nothing was written is deleted again.
    """
    if not is_main():
        yield
        return
    was_there = directory.exists()
    with ExitStack() as stack:
        stack.callback(_delete_if_empty, directory, was_there)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(sole_use(directory))
            _tidy(directory)
        except InUseError as error:
            raise InputError(
                f"run.directory: another process is training in {directory}; wait for it, stop it, "
                "or choose another directory"
            ) from error
        except OSError as error:
            raise InputError(
                f"run.directory: {directory} cannot be written ({error.strerror or error}); choose "
                "another directory"
            ) from error
        yield


def _tidy(directory: Path) -> None:
    """Delete what killed processes left half written; nobody else writes there now."""
    delete_leftovers(directory / "checkpoints")
    for name in FILES:
        delete_litter(directory / name)


def say_finished(directory: Path, total_steps: int | None = None) -> None:
    """Tell that nothing is left to do, and have its status say so."""
    if is_main():
        put_right(directory, total_steps)
        print(f"{directory}: the run is finished; its backbone is {directory / BACKBONE_FILE}")


def _delete_if_empty(directory: Path, was_there: bool) -> None:
    if not was_there and directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def clear_for(config: str, directory: Path) -> None:
    """Delete the run that was there, if there was one, and write down the new one's config, YAML.

    Raises:
        InputError: the directory cannot be written to.
    """
    try:
        names = () if _judges_another(directory) else JUDGED_ENTRIES
        judged = [directory / name for name in names if (directory / name).exists()]
        for entry in [*_entries(directory), *judged]:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        with atomic_file(directory / CONFIG_FILE) as file:
            file.write(config.encode())
    except OSError as error:
        raise InputError(
            f"run.directory: {directory} cannot be written ({error.strerror or error}); choose "
            "another directory"
        ) from error


def _judges_another(directory: Path) -> bool:
    """Whether the results there are of another backbone of the folder, and no business of a run."""
    try:
        said = read_results(directory).backbone.get("sha256")
    except InputError:
        return False
    own = directory / BACKBONE_FILE
    return not own.is_file() or said != file_sha256(own)


def _entries(directory: Path) -> list[Path]:
    return [path for pattern in RUN_ENTRIES for path in sorted(directory.glob(pattern))]
