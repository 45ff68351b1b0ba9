import argparse
import os
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from linear_eval.checkpoints import tensor_file
from linear_eval.checkpoints.tensor_file import read_tensors
from linear_eval.system.errors import InputError

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


class Payload:
    """What an attacker puts into a pickle: reading it runs a command."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def _error(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _equal(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return got.keys() == expected.keys() and all(
        torch.equal(got[name], expected[name]) for name in expected
    )


def test_safetensors_are_read_whatever_the_suffix(tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "a.pth")
    assert _equal(read_tensors(tmp_path / "a.pth"), STATE)


@pytest.mark.parametrize("zipped", [True, False])
def test_nested_tensors_are_named_by_their_path(tmp_path: Path, zipped: bool) -> None:
    checkpoint = {
        "epoch": 7,
        "arch": "resnet50",
        "state_dict": OrderedDict(STATE),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
        "args": argparse.Namespace(lr=0.1, table=[torch.ones(1)]),
        "weight": nn.Parameter(torch.ones(2)),
    }
    torch.save(checkpoint, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    got = read_tensors(tmp_path / "a.pth")
    assert _equal(
        got,
        {
            **{f"state_dict/{name}": tensor for name, tensor in STATE.items()},
            "optimizer/state/0/exp_avg": torch.zeros(3),
            "args/table/0": torch.ones(1),
            "weight": torch.ones(2),
        },
    )
    assert not any(tensor.requires_grad for tensor in got.values())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("variable", ["", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_a_pickle_that_needs_code_is_refused_and_nothing_runs(
    tmp_path: Path, zipped: bool, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv(variable, "1")
    path = tmp_path / "a.pth"
    state = {"state_dict": STATE, "x": Payload(tmp_path / "canary")}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    message = _error(path)
    assert "needs 'posix.mkdir' to be read" in message
    assert "run this where it was made (it runs that code), and convert what it writes: " in message
    assert not (tmp_path / "canary").exists()


def test_a_class_of_a_library_is_named(tmp_path: Path) -> None:
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "a.pth")
    assert "needs 'torch.nn.modules.linear.Linear' to be read" in _error(tmp_path / "a.pth")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, kind: str, kept: float) -> None:
    path = tmp_path / "a"
    state = {"x": torch.arange(3000.0)}
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    assert "truncated or damaged" in _error(path)


def test_a_flipped_bit_in_a_tensor_of_a_zip_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"x": torch.full((1000,), 7.0)}, path)
    data = bytearray(path.read_bytes())
    at = data.index(torch.full((50,), 7.0).numpy().tobytes()) + 100
    data[at] ^= 1
    path.write_bytes(bytes(data))
    assert "checksum" in _error(path)


def test_every_mutation_of_a_pickle_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": STATE}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for _ in range(400):
        mutated = bytearray(data)
        at = int(torch.randint(len(data), (1,), generator=generator))
        mutated[at] = int(torch.randint(256, (1,), generator=generator))
        path.write_bytes(bytes(mutated))
        try:
            read_tensors(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 100


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"hello, this is text", "is neither a safetensors file nor one that torch.save wrote"),
        (b"\x80", "truncated or damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "a").write_bytes(data)
    assert said in _error(tmp_path / "a")


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "is a zip archive of readme.txt" in _error(tmp_path / "a.zip")


def test_missing_files_folders_and_files_without_tensors_are_told_apart(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    assert "holds no tensors" in _error(tmp_path / "a.pth")
    assert "is a folder" in _error(tmp_path)
    assert "no such file" in _error(tmp_path / "b")


def test_an_old_torch_reads_no_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(STATE, tmp_path / "a.pth")
    safetensors.torch.save_file(STATE, tmp_path / "a.safetensors")
    monkeypatch.setattr(tensor_file, "_SAFE_TORCH", "99.0")
    assert "install torch >= 99.0, or give a safetensors file" in _error(tmp_path / "a.pth")
    assert _equal(read_tensors(tmp_path / "a.safetensors"), STATE)
