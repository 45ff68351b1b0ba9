"""Situations staged for the doctor: what it says of each; and the command on a real folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from linear_eval.datasets.image_folder import ImageFolderConfig
from linear_eval.datasets.imagenet_subset import read_subset
from linear_eval.datasets.splits import open_splits
from ssl_bf.cli import main
from ssl_bf.doctor import images, machine, resources, settings
from ssl_bf.doctor.finding import Finding

GIB = 2**30


def folder(root: Path, *classes: str, each: int = 6) -> Path:
    """Train and val, one colour per image; no two files are equal."""
    number = 0
    for split in ("train", "val"):
        for name in classes or ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for n in range(each):
                number += 1
                colour = (number % 256, number // 256, 7)
                Image.new("RGB", (24, 20), colour).save(root / split / name / f"{n}.png")
    return root


def data(root: Path) -> ImageFolderConfig:
    return ImageFolderConfig(root=str(root))


def broken_image(tmp: Path) -> Finding:
    root = folder(tmp)
    (root / "train" / "cat" / "0.png").write_bytes(b"no image")
    return images.unreadable(data(root).open_train(), 0.05, skips=False)


def few_broken(tmp: Path) -> Finding:
    root = folder(tmp, each=20)
    (root / "train" / "cat" / "0.png").write_bytes(b"no image")
    return images.unreadable(data(root).open_train(), 0.05, skips=True)


def same_image_twice(tmp: Path) -> Finding:
    root = folder(tmp)
    shutil.copy(root / "train" / "cat" / "1.png", root / "val" / "dog" / "copied.png")
    splits = open_splits(data(root))
    return images.duplicates(data(root).open_train(), splits.test)


def no_image_twice(tmp: Path) -> Finding:
    splits = open_splits(data(folder(tmp)))
    return images.duplicates(splits.train, splits.test)


def hundred(names: list[str]) -> Callable[[Path], Finding]:
    return lambda tmp: images.fingerprint("x", data(folder(tmp, *names, each=1)).open_train())


def tiny(tmp: Path, *, sorted_: bool, published: bool, annotations: bool) -> Finding:
    val = tmp / "val"
    val.mkdir()
    if sorted_:
        (val / "n01443537").mkdir()
    if published:
        (val / "images").mkdir()
        (val / "images" / "val_0.JPEG").write_bytes(b"")
    if annotations:
        (val / "val_annotations.txt").write_text("val_0.JPEG\tn01443537\t0\t0\t1\t1\n")
    return images.tiny_imagenet_layout(tmp)


CMC = list(read_subset("imagenet100_cmc").classes or ())
OTHER = [*CMC[:60], *(f"n9{n:07d}" for n in range(40))]

STAGED: dict[str, tuple[Callable[[Path], Finding], str, str]] = {
    "usual rate": (lambda _: settings.learning_rate("sgd", 0.03, 256), "fine", "peak 0.03"),
    "rate too high": (lambda _: settings.learning_rate("adamw", 0.5, 512), "look", "high"),
    "rate too low": (lambda _: settings.learning_rate("lars", 1e-4, 256), "look", "low"),
    "long warm-up": (lambda _: settings.warm_up(40, 50), "look", "optimizer.warmup_epochs"),
    "small local batch": (lambda _: settings.batch_norm(64, 8, "local"), "look", "batch_size"),
    "synchronised": (lambda _: settings.batch_norm(64, 8, "synchronised"), "fine", "64 images"),
    "many groups": (lambda _: settings.batch_norm(64, 1, "groups:16"), "look", "4 images"),
    "queue fits": (lambda _: settings.queue(65536, 1_281_167, True), "fine", "epochs"),
    "queue too long": (lambda _: settings.queue(65536, 5000, False), "look", "own image"),
    "batch leaves out": (lambda _: settings.dropped(700, 512), "look", "188 of 700"),
    "batch divides": (lambda _: settings.dropped(1024, 512), "fine", "0 of 1024"),
    "predictor decays": (lambda _: settings.suspect("collapse", "it decays"), "look", "collapse"),
    "stuck slow copy": (lambda _: settings.slow_copy(1.0, 500), "wrong", "never moves"),
    "slow slow copy": (lambda _: settings.slow_copy(0.999, 800), "look", "short run"),
    "no memory": (lambda _: resources.memory(90 * GIB, 16 * GIB, "cpu"), "wrong", "90.00 GiB"),
    "tight memory": (lambda _: resources.memory(15 * GIB, 16 * GIB, "cpu"), "look", "activations"),
    "no disk": (lambda _: resources.disk(GIB, 2, GIB), "wrong", "3.00 GiB"),
    "long": (lambda _: resources.time(2.0, 500_000), "look", "277.8 hours"),
    "short": (lambda _: resources.time(0.1, 600), "fine", "1.0 minutes"),
    "input limits": (lambda _: resources.limit(3, 1, from_files=True), "look", "speed.store"),
    "computing limits": (lambda _: resources.limit(1, 9, from_files=True), "fine", "10 %"),
    "slow bf16": (
        lambda _: resources.products({"float32": 1.0, "bf16": 9.0, "int8": 0.1}, "bf16"),
        "look",
        "float32 trains fastest",
    ),
    "two faiss": (
        lambda _: machine.version_finding({"faiss-gpu": "1", "faiss-cpu": "1"}),
        "wrong",
        "uninstall",
    ),
    "unreadable": (broken_image, "wrong", "cat/0.png"),
    "few unreadable": (few_broken, "look", "1 of 40"),
    "duplicate": (same_image_twice, "wrong", "copied.png"),
    "no duplicate": (no_image_twice, "fine", "no test image"),
    "imagenet-100 of CMC": (hundred(CMC), "fine", "CMC"),
    "another imagenet-100": (hundred(OTHER), "look", "60 of which"),
    "tiny published": (
        lambda tmp: tiny(tmp, sorted_=False, published=True, annotations=True),
        "fine",
        "as published",
    ),
    "tiny restructured": (
        lambda tmp: tiny(tmp, sorted_=True, published=False, annotations=False),
        "fine",
        "restructured",
    ),
    "tiny half": (
        lambda tmp: tiny(tmp, sorted_=True, published=True, annotations=True),
        "wrong",
        "half",
    ),
    "tiny unlabelled": (
        lambda tmp: tiny(tmp, sorted_=False, published=True, annotations=False),
        "wrong",
        "val_annotations.txt",
    ),
}


@pytest.mark.parametrize("situation", STAGED)
def test_a_staged_situation_is_named(situation: str, tmp_path: Path) -> None:
    stage, level, words = STAGED[situation]
    finding = stage(tmp_path)
    assert finding.level == level, finding
    assert words in finding.says
    assert str(finding).isprintable()


def test_the_command_names_what_is_wrong_and_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "images")
    shutil.copy(root / "train" / "cat" / "1.png", root / "val" / "dog" / "copied.png")
    given = [
        *("doctor", "small_image_folder", f"data.root={root}", "batch_size=4", "epochs=2"),
        *("optimizer.warmup_epochs=0", "precision=float32", "speed.threads=1"),
        *("speed.device=cpu", f"run.directory={tmp_path / 'run'}"),
    ]
    assert main(given) == 1
    lines = capsys.readouterr().out.splitlines()
    said = {line[7:].partition(":")[0]: line[:5].strip() for line in lines}
    assert said["duplicates"] == "wrong"
    for topic in ("versions", "precision", "learning rate", "data", "memory", "disk", "time"):
        assert topic in said, lines
    assert not (tmp_path / "run").exists()
    (root / "val" / "dog" / "copied.png").unlink()
    assert main(given) == 0
