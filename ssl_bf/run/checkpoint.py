"""Checkpoints: folders of tensors and JSON, committed by one rename, verified by checksums."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from linear_eval.system.atomic_folder import LEFTOVERS, atomic_folder, delete_folder
from linear_eval.system.errors import InputError

FORMAT_VERSION = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "MANIFEST.json"
_PUBLISHED = re.compile(r"step-(\d{9})")
_LEFTOVER = re.compile(rf"({'|'.join(map(re.escape, LEFTOVERS))})step-\d{{9}}")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a run needs to go on.

    Attributes:
        step: optimizer updates done.
        tensors: by name, on the CPU.
        state: JSON values.
        notes: lines for the log, one for each newer checkpoint that had to be passed over.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU, bit for bit, of tensors of any device, layout or memory.

    What is stored has no shared memory and no strides such as channels_last: safetensors refuses
    both.
    """
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def save(
    run_directory: Path,
    *,
    step: int,
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    keep: int,
    stays: Callable[[int], bool] = lambda step: False,
) -> Path:
    """Publish a checkpoint, then delete older ones.

    Whatever interrupts it, each checkpoint published before still loads, and this one is either
    whole or absent. A sound checkpoint of the same step is left as it is.

    Args:
        run_directory: must exist; the checkpoint goes to checkpoints/step-NNNNNNNNN in it.
        step: optimizer updates done.
        tensors: from `copied`.
        state: JSON values without NaN and infinities.
        keep: how many sound checkpoints stay, this one included; >= 1.
        stays: of a step, whether its checkpoint is never deleted.

    Raises:
        InputError: the disk is full, read-only or damaged.
    """
    assert keep >= 1, f"keep is {keep}"
    folder = run_directory / "checkpoints"
    final = folder / f"step-{step:09d}"
    try:
        folder.mkdir(exist_ok=True)
        delete_leftovers(folder)
        if _damage(final) is not None:
            _commit(final, _encode(step, tensors, state))
        damage = _damage(final)
        if damage is not None:
            raise OSError(f"it does not read back as written: {damage}")
        _delete_older(folder, step, keep, stays)
    except OSError as error:
        raise InputError(
            f"{final}: the checkpoint cannot be saved ({error.strerror or error}); "
            "free some space or mend the disk, then give the same command with run.resume=auto: "
            "checkpoints saved before are untouched"
        ) from error
    return final


def published_steps(run_directory: Path) -> list[int]:
    """Steps of the checkpoints that are there, sound or not, newest first."""
    return [_step(path) for path in _published(run_directory / "checkpoints")]


def load_newest(run_directory: Path, *, step: int | None = None) -> Checkpoint:
    """Newest checkpoint that matches its checksums; `notes` names each newer one that does not.

    Args:
        run_directory: of the run.
        step: only that of this step will do.

    Raises:
        InputError: there is no checkpoint, or none is sound (each is listed with its reason).
    """
    folder = run_directory / "checkpoints"
    reasons = []
    for path in _published(folder):
        if step not in (None, _step(path)):
            continue
        try:
            files = _verified_files(path)
            tensors = tensors_from_bytes(files[TENSORS])
            state = json.loads(files[STATE])
        except (OSError, ValueError, SafetensorError) as error:
            reasons.append(f"{path.name}: {_reason(error)}")
            continue
        notes = [f"warning: passed over damaged checkpoint {reason}" for reason in reasons]
        return Checkpoint(_step(path), tensors, state, notes)
    if not reasons:
        raise InputError(
            f"{run_directory}: holds no checkpoint, expected checkpoints/step-"
            f"{'NNNNNNNNN' if step is None else f'{step:09d}'}; give the directory of a run that "
            "has saved one, or start again with `ssl-bf pretrain ... run.resume=auto`"
        )
    raise InputError(
        f"{run_directory}: no checkpoint is sound, expected one that matches its checksums; "
        f"restore one from a backup or start again with run.overwrite=true ({'; '.join(reasons)})"
    )


def _encode(step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> dict[str, bytes]:
    files = {TENSORS: tensors_to_bytes(tensors), STATE: _to_json(state)}
    return files | {MANIFEST: _to_json(_manifest(step, files))}


def _to_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode()


def _manifest(step: int, files: dict[str, bytes]) -> dict[str, Any]:
    described = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    return {"format_version": FORMAT_VERSION, "step": step, "files": described}


def _commit(final: Path, files: dict[str, bytes]) -> None:
    with atomic_folder(final) as folder:  # a damaged one in its place gives way
        for name, content in files.items():
            (folder / name).write_bytes(content)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _published(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first; anything else in the folder is none of our business."""
    if not folder.is_dir():
        return []
    return sorted(_folders(folder, _PUBLISHED), key=_step, reverse=True)


def _folders(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    return [
        path
        for path in folder.iterdir()
        if pattern.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    ]


def _verified_files(path: Path) -> dict[str, bytes]:
    """Content of tensors and state, read once and checked. Raises OSError or ValueError."""
    manifest = json.loads((path / MANIFEST).read_bytes())
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(f"format version is {version!r}, this program reads {FORMAT_VERSION}")
    files = {name: (path / name).read_bytes() for name in (TENSORS, STATE)}
    actual = _manifest(_step(path), files)
    if manifest != actual:
        listed = manifest.get("files")
        changed = [
            name
            for name in files
            if not isinstance(listed, dict) or listed.get(name) != actual["files"][name]
        ]
        raise ValueError(f"{' and '.join(changed) or MANIFEST} does not match its checksum")
    return files


def _damage(path: Path) -> str | None:
    try:
        _verified_files(path)
    except (OSError, ValueError) as error:
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename)).name} is missing"
    return " ".join(str(error).split())


def delete_leftovers(folder: Path) -> None:
    """Delete what killed processes left in the folder of checkpoints; nobody may write there."""
    for path in _folders(folder, _LEFTOVER) if folder.is_dir() else []:
        shutil.rmtree(path)


def _delete_older(folder: Path, step: int, keep: int, stays: Callable[[int], bool]) -> None:
    """Delete what is older than the `keep`-th sound checkpoint, counting down from `step`."""
    sound = 1
    for path in _published(folder):
        if _step(path) >= step:
            continue  # newer ones were found damaged when this run resumed: they count for nothing
        if sound >= keep and not stays(_step(path)):
            delete_folder(path)
        elif sound < keep and _damage(path) is None:
            sound += 1
