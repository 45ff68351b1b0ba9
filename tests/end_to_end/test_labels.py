"""Labels: they decide what needs them, and never reach a method that does not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.textures import TexturesConfig
from ssl_bf.cli import main
from ssl_bf.run.checkpoint import load_newest

Tiny = Callable[[str, str], list[str]]


def other_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same images under labels that are turned around."""
    opened = TexturesConfig.open_train

    def open_train(self: TexturesConfig) -> ImageSplit:
        split = opened(self)
        return replace(split, labels=(split.labels * 3 + 1) % 10)

    monkeypatch.setattr(TexturesConfig, "open_train", open_train)


def trained(
    arguments: list[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, torch.Tensor]:
    place.mkdir()
    monkeypatch.chdir(place)
    small = ["data.train_images=40", "data.holdout=0", "batch_size=20", "epochs=1"]
    quiet = ["run.directory=run", "run.monitor_every=0", "speed.threads=1"]
    assert main(["pretrain", "quickstart", *arguments, *small, *quiet]) == 0
    return load_newest(Path("run")).tensors


@pytest.mark.parametrize(
    ("method", "more", "takes_labels"),
    [
        ("moco_v2", ["method.queue_size=40"], False),
        ("simsiam", [], False),
        ("metric", ["sampler.images_per_class=2"], True),
    ],
)
def test_other_labels_change_what_is_trained_with_labels_and_nothing_else(
    method: str,
    more: list[str],
    takes_labels: bool,
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = [*tiny(method, "none"), *more]
    first = trained(arguments, tmp_path / "first", monkeypatch)
    other_labels(monkeypatch)
    second = trained(arguments, tmp_path / "second", monkeypatch)
    assert first.keys() == second.keys()
    equal = all(torch.equal(value, second[name]) for name, value in first.items())
    assert equal != takes_labels


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            ("metric", "none", "sampler.name=every_image"),
            "sampler.name: every_image leaves it to chance",
        ),
        (("metric", "none", "sampler.images_per_class=1"), "takes 32 classes, train has 10"),
        (("metric", "none", "sampler.images_per_class=3"), "3 does not divide batch_size 32"),
        (("metric", "none", "sampler.images_per_class=2"), "takes 16 classes, train has 10"),
        (("metric", "batchformer", "relation.pairs=all"), "labels have no related stream"),
        (("moco_v2", "labels", "relation.pairs=plain_keys"), "trains without them; set"),
        (("moco_v2", "none", "sampler.name=domain_balanced"), "needs data with domains"),
        (("moco_v2_paco", "none", "method.queue_size=100"), "not divisible by the 32 keys"),
    ],
)
def test_what_labels_are_needed_for_is_one_line_and_exit_2(
    asked: tuple[str, str, str],
    said: str,
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    method, relation, override = asked
    arguments = [*tiny(method, relation), override, "run.directory=run"]
    if override.startswith("sampler.name"):
        arguments = [each for each in arguments if "images_per_class" not in each]
    assert main(["pretrain", "quickstart", *arguments]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not Path("run").exists()
