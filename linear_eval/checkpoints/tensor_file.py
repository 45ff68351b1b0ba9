"""Tensors out of a foreign checkpoint file, without running any code that the file may hold.

safetensors files hold no code. In a pickle (`torch.save`), torch's restricted reader takes tensors
and plain containers only, and refuses every other object. If you trust the source of a file that is
refused, take its tensors out in a Python of your own and convert what that wrote:

    import safetensors.torch, torch
    checkpoint = torch.load("old.pth", map_location="cpu", weights_only=False)  # runs its code
    tensors = {k: v.clone().contiguous() for k, v in checkpoint["state_dict"].items()}
    safetensors.torch.save_file(tensors, "new.safetensors")
"""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError  # the name of an error; nothing here unpickles by itself
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from linear_eval.checkpoints.file_kind import folder_kind, foreign_kind, needs_code
from linear_eval.system.errors import InputError
from linear_eval.system.printable import one_line

_SAFE_TORCH = "2.10"  # older restricted readers can be made to run code or to corrupt memory
# What the restricted reader was seen to raise on damaged files.
_DAMAGE = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError),
    *(ArithmeticError, AssertionError, MemoryError, zipfile.BadZipFile),
)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor in a file, on the CPU, by its path through dicts and lists.

    Returns:
        Names such as `state_dict/module.encoder_q.conv1.weight` or `optimizer/state/0/exp_avg`: the
        levels are joined by "/". The tensors of a zipped pickle are read when they are used.

    Raises:
        InputError: no such file, damaged, neither safetensors nor a pickle, a pickle that needs
            code to be read, or one without tensors.
    """
    if not path.is_file():
        missing = "no such file, expected a checkpoint; give the path of a file"
        raise InputError(f"{path}: {folder_kind(path) if path.is_dir() else missing}")
    try:
        with path.open("rb") as file:
            start = file.read(32)
        if kind := foreign_kind(path, start):
            raise InputError(f"{path}: {kind}")
        tensors = _read_safetensors(path) if start[8:9] == b"{" else _read_pickle(path, start)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not tensors:
        raise InputError(f"{path}: holds no tensors, expected a checkpoint; give another file")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _damaged(path, "its header and its length do not fit") from error


def _read_pickle(path: Path, start: bytes) -> dict[str, Tensor]:
    is_zip = zipfile.is_zipfile(path)
    if not is_zip and start[:4] == b"PK\x03\x04":
        raise _damaged(path, "its last part, the directory, is missing")
    if not is_zip and start[:1] != b"\x80":
        raise InputError(
            f"{path}: is neither a safetensors file nor one that torch.save wrote, expected a "
            "checkpoint; give another file"
        )
    if torch.__version__ < _SAFE_TORCH:
        raise InputError(
            f"{path}: holds a pickle, and torch {torch.__version__} cannot read those safely; "
            f"install torch >= {_SAFE_TORCH}, or give a safetensors file"
        )
    try:
        if is_zip:
            _check_sums(path)
        # argparse.Namespace: a plain container, in which many training scripts keep their options
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about its own ways of storing
            loaded = _load(path, is_zip=is_zip)
    except UnpicklingError as error:
        raise _needs_code(path, str(error)) from error
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return dict(_tensors(loaded, ""))


def _load(path: Path, *, is_zip: bool) -> Any:
    if path.suffix != ".safetensors":
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    with path.open("rb") as file:  # by that name torch would take it for one of safetensors
        return torch.load(file, map_location="cpu", weights_only=True)


def _check_sums(path: Path) -> None:
    # torch itself never looks at the checksums that it writes
    with zipfile.ZipFile(path) as archive:
        if (broken := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"the checksum of '{broken}' does not fit")


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value.detach()
        return
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors(inner, f"{name}/{key}" if name else str(key))


def _needs_code(path: Path, said: str) -> InputError:
    wanted = re.search(r"GLOBAL (\S+)", said)
    if wanted is None:
        return _damaged(path, said.splitlines()[-1] if said else "no pickle")
    return InputError(f"{path}: {needs_code(path, wanted[1])}")


def _damaged(path: Path, error: Exception | str) -> InputError:
    return InputError(
        f"{path}: is truncated or damaged ({one_line(str(error))[:120]}), expected a whole "
        "checkpoint; copy or download it again"
    )
