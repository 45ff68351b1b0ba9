"""What a file is whose tensors cannot be read without running code, and what to do instead.

Pickles are looked at opcode by opcode (`pickletools`), which builds and runs nothing.
"""

from __future__ import annotations

import json
import pickletools
import zipfile
from pathlib import Path
from typing import BinaryIO

_TORCH_KEYS = ("state_dict", "model_state_dict", "model", "module", "ema")
_PLAIN = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2")
_STARTS = {
    b"version https://git-lfs": ("a pointer of Git LFS", "get the file itself: git lfs pull"),
    b"<": ("a web page", "download the file itself"),
    b"\x1f\x8b": ("compressed with gzip", "unpack it: gunzip"),
    b"\xfd7zXZ": ("compressed with xz", "unpack it: unxz"),
    b"BZh": ("compressed with bzip2", "unpack it: bunzip2"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "unpack it: unzstd"),
    b"\x89HDF": ("an HDF5 file, of Keras perhaps", "give one of PyTorch"),
    b"\x93NUMPY": ("an array of NumPy", "give a whole state_dict"),
    b"GGUF": ("a GGUF file", "give one of PyTorch"),
}


def foreign_kind(path: Path, start: bytes) -> str | None:
    """What a file of another kind is, what is expected and the way out; None of a checkpoint.

    Args:
        path: of a file.
        start: its first bytes, 32 or all.
    """
    if not start:
        return "is empty, expected a checkpoint; copy or download it again"
    if zipfile.is_zipfile(path):
        return _zipped_kind(path)
    if path.suffix == ".onnx":
        return "is an ONNX graph, expected a checkpoint; give the weights that it was made of"
    for beginning, (what, way_out) in _STARTS.items():
        if start.lstrip().startswith(beginning):
            return f"is {what}, expected a checkpoint; {way_out}"
    if start.lstrip()[:1] == b"{" and start[8:9] != b"{" and "weight_map" in _json_keys(path):
        return (
            "is the list of a checkpoint in several files, expected one with the tensors; load it "
            "with its own library and save one: model.save_pretrained(FOLDER, "
            'max_shard_size="100GB")'
        )
    return None


def folder_kind(path: Path) -> str:
    """What a folder is that was given as a checkpoint, and the way out."""
    if (path / ".metadata").is_file():
        return (
            "is a distributed checkpoint, expected one file; make one: "
            "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        )
    return "is a folder, expected a checkpoint; give the path of a file"


def needs_code(path: Path, wanted: str) -> str:
    """What a pickle is that needs `wanted` to be read, and the way out."""
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
                with archive.open(name) as pickled:
                    first, words = _look(pickled, 1)
        else:
            file.seek(0)
            first, words = _look(file, 4)  # a mark, a version, the machine, and then the object
    key = next((f'["{key}"]' for key in _TORCH_KEYS if key in words), "")
    if first is not None:
        what, key = "a whole model that torch.save(model) wrote", ""
    elif "pytorch-lightning_version" in words:
        what = "a Lightning checkpoint whose hyper-parameters or callbacks hold objects"
    else:
        what = "a checkpoint that holds objects beside its tensors"
    given, written = json.dumps(path.name), json.dumps(f"{path.stem}.tensors.pth")
    return (
        f"is {what} and needs '{wanted}' to be read, which may run code, expected tensors only; if "
        "you trust its source, run this where it was made (it runs that code), and convert what it "
        f'writes: import torch; c = torch.load({given}, map_location="cpu", weights_only=False)'
        f"{key}; torch.save(c if isinstance(c, dict) else c.state_dict(), {written})"
    )


def _zipped_kind(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return None  # damaged, which reading it will say
    if any(name.endswith("/constants.pkl") for name in names):
        given, written = json.dumps(path.name), json.dumps(f"{path.stem}.tensors.pth")
        return (
            "is a TorchScript archive, whose weights cannot be had without its code, expected "
            "tensors only; if you trust its source, run this (it runs that code), and convert what "
            f'it writes: import torch; torch.save(torch.jit.load({given}, map_location="cpu")'
            f".state_dict(), {written})"
        )
    if any(name.endswith("archive_format") for name in names):
        given, written = json.dumps(path.name), json.dumps(f"{path.stem}.tensors.pth")
        return (
            "is a program of torch.export, expected tensors only; if you trust its source, run "
            "this (it runs that code), and convert what it writes: import torch; "
            f"torch.save(dict(torch.export.load({given}).state_dict), {written})"
        )
    if any(name.endswith(".npy") for name in names):
        return "is an archive of NumPy, expected a checkpoint; give one of PyTorch"
    if not any(name.endswith("data.pkl") for name in names):
        return f"is a zip archive of {', '.join(names[:3])}, expected a checkpoint; unpack it"
    return None


def _look(file: BinaryIO | object, pickles: int) -> tuple[str | None, set[str]]:
    """The class of the outermost object, None if it is a plain container; all words."""
    first, words, is_first = None, set(), True
    try:
        for _ in range(pickles - 1):
            for _ in pickletools.genops(file):  # type: ignore[arg-type]  # any stream will do
                pass
        for code, argument, _ in pickletools.genops(file):  # type: ignore[arg-type]
            if isinstance(argument, str):
                words.add(argument)
            if is_first and code.name not in ("PROTO", "FRAME", "MARK"):
                is_legacy_module = code.name == "BINUNICODE" and argument == "module"
                if code.name == "GLOBAL" and argument not in _PLAIN:
                    first = str(argument)
                is_first = pickles > 1 and (is_legacy_module or code.name.startswith("BINPUT"))
    except ValueError:  # damaged behind what was seen
        return first, words
    return first, words


def _json_keys(path: Path) -> set[str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return set()
    return set(found) if isinstance(found, dict) else set()
