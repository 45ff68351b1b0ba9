"""A wrong argument from Python is one line that names it, never an error from deep inside."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import linear_eval
import ssl_bf
from linear_eval.backbones.architectures import build_backbone
from linear_eval.system.errors import InputError

A: Any = linear_eval
B: Any = ssl_bf
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "size": 32}
IMAGES = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)


def backbone() -> Any:
    return A.load(build_backbone("small_conv"), **HALF)


def table() -> Any:
    return A.Features(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))


def frozen() -> nn.Module:
    return build_backbone("small_conv").requires_grad_(False)


WRONG: dict[str, tuple[str, Callable[[], object]]] = {
    "knn k": ("k", lambda: A.knn(table(), table(), k=2.5)),
    "knn list": ("k", lambda: A.knn(table(), table(), k=[1, 5])),
    "knn path": ("train", lambda: A.knn("photos", table())),
    "features": ("labels", lambda: A.Features(torch.rand(4, 3), [0, 1, 0, 1])),
    "ranks": ("recall_at", lambda: A.retrieval(table(), recall_at=5)),
    "quality": ("features", lambda: A.quality("photos")),
    "evaluate": ("backbone", lambda: A.evaluate("b.safetensors", train=IMAGES, test=IMAGES)),
    "names": (
        "evaluators",
        lambda: A.evaluate(backbone(), train=IMAGES, test=IMAGES, evaluators="knn"),
    ),
    "index": ("backbone", lambda: A.Index.build("b.safetensors", IMAGES)),
    "views": ("views", lambda: backbone().features(IMAGES, views=-1)),
    "batch": ("batch_size", lambda: backbone().features(IMAGES, batch_size=0)),
    "mean": ("mean", lambda: A.load(frozen(), **HALF | {"mean": 0.5})),
    "bytes": ("mean", lambda: A.load(frozen(), **HALF | {"mean": (123, 116, 103)})),
    "size": ("size", lambda: A.load(frozen(), **HALF | {"size": (32, 32)})),
    "config": ("config", lambda: B.pretrain(None)),
    "name": ("backbone", lambda: B.pretrain("quickstart", backbone="resnet18")),
    "no weights": ("backbone", lambda: B.pretrain("quickstart", backbone=nn.Flatten())),
    "frozen": ("backbone", lambda: B.pretrain("quickstart", backbone=frozen())),
    "overrides": ("overrides", lambda: B.pretrain("quickstart", overrides=["epochs=1"])),
    "width": ("width", lambda: B.BatchFormer(width=0)),
    "width text": ("width", lambda: B.BatchFormer(width="x")),
    "rows": ("features", lambda: B.BatchFormer(width=8)(torch.rand(32, 4))),
    "whole": ("features", lambda: B.BatchFormer(width=8)(torch.ones(32, 8, dtype=torch.int64))),
}


@pytest.mark.parametrize("case", WRONG)
def test_it_names_the_argument(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    argument, call = WRONG[case]
    with pytest.raises(InputError, match=rf"^{argument}: ") as wrong:
        call()
    assert "\n" not in str(wrong.value)
    assert not list(tmp_path.iterdir())


def test_output_is_no_key_from_python() -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    data = [(image, number % 2) for number, image in enumerate(IMAGES)]
    with pytest.raises(InputError, match="^output: nothing is written from Python"):
        A.evaluate(backbone(), train=data, test=data, overrides={"output": "x.json"})


def test_training_belongs_in_the_main_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []

    def work() -> None:
        try:
            B.pretrain("quickstart")
        except InputError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == ["pretrain: is called in a thread, expected the main one; call it there"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["pretrain", "run"])
def test_an_empty_key_is_not_explained(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from linear_eval.cli import main as judge
    from ssl_bf.cli import main as train

    monkeypatch.chdir(tmp_path)
    main = train if command == "pretrain" else judge
    assert main([command, "quickstart", "--explain", ""]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not list(tmp_path.iterdir())
