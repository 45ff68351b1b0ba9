"""Files that run code where they are read carelessly, in every place where a file is read."""

from __future__ import annotations

import argparse
import io
import json
import pickle
import random
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from linear_eval.cli import main as linear_eval
from ssl_bf.cli import main as ssl_bf

_STATE = {"a.weight": torch.arange(6.0).view(2, 3)}
_CANARY = "canary"


class Payload:
    """Does something when it is unpickled."""

    def __init__(self, module: str, name: str, given: tuple[Any, ...]) -> None:
        self.reduced = (_attribute(module, name), given)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def _attribute(module: str, name: str) -> Any:
    found = __import__(module, fromlist=[name])
    for part in name.split("."):
        found = getattr(found, part)
    return found


def gadgets(canary: str) -> list[Payload]:
    """Ways to make a file or folder `canary`."""
    code = f"open({canary!r}, 'w')"
    return [
        Payload(*each)
        for each in (
            ("os", "mkdir", (canary,)),
            ("os", "system", (f"touch {canary}",)),
            ("subprocess", "check_call", (["touch", canary],)),
            ("subprocess", "Popen", (["touch", canary],)),
            ("builtins", "eval", (code,)),
            ("builtins", "exec", (code,)),
            ("builtins", "open", (canary, "w")),
            ("io", "FileIO", (canary, "w")),
            ("pathlib", "Path.mkdir", (Path(canary),)),
            ("logging", "FileHandler", (canary,)),
            ("shutil", "copy", ("/etc/hostname", canary)),
            ("torch", "save", (_STATE, canary)),
            ("numpy", "save", (canary, [1])),
            ("timeit", "timeit", (code, "pass", number_timer(), 1)),
            ("code", "InteractiveInterpreter.runcode", (None, code)),
            ("runpy", "run_path", (canary,)),
        )
    ]


def number_timer() -> Any:
    """What `timeit` wants as its clock."""
    import time

    return time.perf_counter


def _contents(payload: Payload, chance: random.Random) -> bytes:
    """A pickle with the payload in it, as `torch.save`, pickle or NumPy write it."""
    holding = chance.choice(
        (
            payload,
            {"state_dict": _STATE, "x": payload},
            {"state_dict": OrderedDict(_STATE | {"b": payload})},
            {"args": argparse.Namespace(x=payload), "model": _STATE},
            [payload, _STATE],
            {payload.__class__.__name__: (1, (2, payload))},
        )
    )
    file = io.BytesIO()
    kind = chance.choice("zip legacy pickle numpy npz data.pkl".split())
    if kind == "zip":
        torch.save(holding, file)
    elif kind == "legacy":
        torch.save(holding, file, _use_new_zipfile_serialization=False)
    elif kind == "pickle":
        plain = payload if chance.random() < 0.5 else {"data": payload, "labels": [0]}
        file.write(pickle.dumps(plain, chance.randrange(6)))
    elif kind == "numpy":
        np.save(file, np.array([payload], dtype=object), allow_pickle=True)
    elif kind == "npz":
        np.savez(file, a=np.array([payload], dtype=object))
    else:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(payload, 2))
            archive.writestr("archive/version", "3\n")
            archive.writestr("archive/byteorder", "little")
    return file.getvalue()


def _yaml(canary: str, chance: random.Random) -> str:
    tag = chance.choice(
        (
            f"!!python/object/apply:os.mkdir [{canary}]",
            f"!!python/object/apply:os.system ['touch {canary}']",
            f"!!python/object/new:os.mkdir [{canary}]",
            f"!!python/object/apply:subprocess.Popen [[touch, {canary}]]",
            "!!python/name:os.system",
            "!!python/module:os",
            f"!!python/object/apply:builtins.open [{canary}, w]",
        )
    )
    return chance.choice(
        (f"seed: {tag}\n", f"data: {{name: {tag}}}\n", f"{tag}\n", f"? {tag}\n: 1\n")
    )


def _in_config(canary: str, chance: random.Random, run: Path) -> list[Callable[[], int]]:
    Path("hostile.yaml").write_text(_yaml(canary, chance))
    (run / "config.yaml").write_text(_yaml(canary, chance))
    override = f"seed=[{_yaml(canary, chance).strip()}]"
    return [
        lambda: ssl_bf(["pretrain", "hostile.yaml"]),
        lambda: ssl_bf(["pretrain", "quickstart", override, "--show"]),
        lambda: ssl_bf(["ablate", "hostile.yaml"]),
        lambda: ssl_bf(["resume", str(run)]),
        lambda: ssl_bf(["doctor", "hostile.yaml"]),
        lambda: linear_eval(["run", "hostile.yaml", "backbone=pixels"]),
        lambda: linear_eval(["report", str(run)]),
    ]


def _in_files(content: bytes, chance: random.Random, run: Path) -> list[Callable[[], int]]:
    name = chance.choice(("x.pth", "x.pt", "x.safetensors", "x.pkl", "x.npy", "x.bin", "x"))
    file = Path(name)
    file.write_bytes(content)
    newest = sorted((run / "checkpoints").iterdir())[-1]
    for each in ("tensors.safetensors", "state.json", "MANIFEST.json"):
        if chance.random() < 0.5:
            (newest / each).write_bytes(content)
    archive = Path("cifar-10-batches-py")
    archive.mkdir(exist_ok=True)
    for each in ("data_batch_1", "test_batch", "batches.meta"):
        (archive / each).write_bytes(content)
    results = Path("results.json")
    results.write_bytes(content if chance.random() < 0.5 else json.dumps({"x": 1}).encode())
    data = ["data.name=revisited", "data.root=.", f"data.ground_truth={name}"]
    table = ["data.name=table", "data.root=.", f"data.table={name}"]
    subset = ["data.name=imagenet_subset", "data.root=.", f"data.subset={name}"]
    cifar = ["data.name=cifar10", "data.root=."]
    judge = ["run", "quickstart", "backbone=pixels"]
    return [
        lambda: linear_eval(
            ["convert", name, "--architecture", "resnet18", "--output", "o.safetensors"]
        ),
        lambda: linear_eval(["run", "quickstart", f"backbone={name}"]),
        lambda: linear_eval(["extract", name, ".", "--output", "o.npy"]),
        lambda: linear_eval(["query", name, "x.png"]),
        lambda: linear_eval(["report", name]),
        lambda: linear_eval(["compare", name, "results.json"]),
        lambda: linear_eval([*judge, *data]),
        lambda: linear_eval([*judge, *table]),
        lambda: linear_eval([*judge, *subset]),
        lambda: linear_eval([*judge, *cifar]),
        lambda: ssl_bf(["pretrain", "quickstart", f"backbone.init={name}", "run.directory=r"]),
        lambda: ssl_bf(["pretrain", name]),
        lambda: ssl_bf(["resume", str(run)]),
        lambda: ssl_bf(["export", str(run), "--format", "torchvision", "--output", "o.pth"]),
        lambda: ssl_bf(["replay", name]),
        lambda: ssl_bf(["relations", str(run)]),
    ]


def ran(chance: random.Random, run: Path) -> list[str]:
    """What a hostile file did that it should not; works in the present folder.

    Args:
        chance: draws the file and who reads it.
        run: a finished run, which is copied.
    """
    shutil.copytree(run, "run")
    is_text = chance.random() < 0.25
    if is_text:
        readers = _in_config(_CANARY, chance, Path("run"))
    else:
        payload = chance.choice(gadgets(_CANARY))
        Path(_CANARY).unlink(missing_ok=True)  # what a gadget is made of may have made it
        readers = _in_files(_contents(payload, chance), chance, Path("run"))
    read = chance.choice(readers)
    code = read()
    bad = [] if not Path(_CANARY).exists() else ["ran"]
    return bad + ([] if code in (0, 1, 2) else [f"exit code {code}"])
