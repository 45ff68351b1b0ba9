"""Lists that name a file outside of the folder of their images: never opened."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from linear_eval.datasets.cub200 import Cub200Config
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.imagenet_subset import ImagenetSubsetConfig
from linear_eval.datasets.in_shop import LIST, InShopConfig
from linear_eval.datasets.revisited import RevisitedConfig
from linear_eval.datasets.sop import SopConfig
from linear_eval.datasets.table import TableConfig
from linear_eval.results.per_image import read_per_image
from linear_eval.results.results_file import read_results
from linear_eval.results.seal import sealed
from linear_eval.system.errors import InputError

SECRET = (17, 34, 51)
_WNID = "n01440764"


def names(chance: random.Random, secret: Path) -> str:
    """A way to write the path of the secret, from a folder two levels below its own."""
    up = "../" * chance.choice((1, 2, 3, 4))
    return chance.choice(
        (
            f"{up}{secret.name}",
            f"a/{up}../{secret.name}",
            f"./{up}{secret.name}",
            str(secret),
            f"//{secret}",
            f"file://{secret}",
            f"..\\..\\{secret.name}",
            f"{up}./{secret.name}",
            f"\u202e{up}{secret.name}",
            f"a.jpg\0{up}{secret.name}",
            f"%2e%2e/%2e%2e/{secret.name}",
            f"~/{secret.name}",
        )
    )


def _table(root: Path, name: str) -> list[ImageSplit]:
    (root / "t.csv").write_text(f"path,label,split\na.jpg,a,train\n{name},b,train\n")
    config = TableConfig(root=str(root), table="t.csv")
    return [config.open_train()]


def _in_shop(root: Path, name: str) -> list[ImageSplit]:
    lines = f"2\nimage_name item_id evaluation_status\na.jpg 1 train\n{name} 2 train\n"
    (root / LIST).write_text(lines)
    return [InShopConfig(root=str(root)).open_train()]


def _sop(root: Path, name: str) -> list[ImageSplit]:
    lines = f"image_id class_id super_class_id path\n1 1 1 a.jpg\n2 2 1 {name}\n"
    (root / "Ebay_train.txt").write_text(lines)
    return [SopConfig(root=str(root)).open_train()]


def _cub(root: Path, name: str) -> list[ImageSplit]:
    (root / "images").mkdir(exist_ok=True)
    (root / "classes.txt").write_text("1 a\n2 b\n")
    (root / "images.txt").write_text(f"1 {name}\n2 {name}2\n")
    (root / "image_class_labels.txt").write_text("1 1\n2 2\n")
    return [Cub200Config(root=str(root)).open_train()]


def _revisited(root: Path, name: str) -> list[ImageSplit]:
    bare = name.removesuffix(".jpg")
    entry = {"bbx": [0, 0, 4, 4], "easy": [0], "hard": [], "junk": []}
    truth = {"imlist": ["a", bare], "qimlist": [bare], "gnd": [entry]}
    (root / "g.json").write_text(json.dumps(truth))
    config = RevisitedConfig(root=str(root), ground_truth=str(root / "g.json"))
    return [config.open_train(), config.open_test()]


def _subset(root: Path, name: str) -> list[ImageSplit]:
    folder = root / "train" / _WNID
    folder.mkdir(parents=True, exist_ok=True)
    (root / "subset.txt").write_text(f"{_WNID}_1.JPEG\n{name}\n")
    return [ImagenetSubsetConfig(root=str(root), subset=str(root / "subset.txt")).open_train()]


def _classes(root: Path, name: str) -> list[ImageSplit]:
    (root / "train").mkdir(exist_ok=True)
    (root / "classes.txt").write_text(f"{_WNID}\n{name}\n")
    return [ImagenetSubsetConfig(root=str(root), subset=str(root / "classes.txt")).open_train()]


_LISTS: tuple[Callable[[Path, str], list[ImageSplit]], ...] = (
    *(_table, _in_shop, _sop, _cub, _revisited, _subset, _classes),
)


def _answers(root: Path, name: str) -> None:
    """Results that name their per-image answers elsewhere."""
    results: dict[str, Any] = {
        "metrics": {"knn/k=20/top1": 1.0},
        "protocol": "ours",
        "settings": {},
        "backbone": {"architecture": "pixels"},
        "data": {"name": "a", "fingerprint": "f"},
        "per_image": {"file": f"{name}.safetensors", "sha256": "0" * 64},
    }
    (root / "results.json").write_text(json.dumps(sealed(results)))
    found = read_results(root / "results.json")
    read_per_image(found.path, found.per_image)


def ran(chance: random.Random) -> list[str]:
    """What a hostile list did that it should not; works in the present folder."""
    secret = Path.cwd() / "secret.jpg"
    root = Path.cwd() / "a" / "b"
    (root / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8), SECRET).save(secret)
    Image.new("RGB", (8, 8)).save(root / "a.jpg")
    name = names(chance, secret)
    if chance.random() < 0.1:
        try:
            _answers(root, name)
        except InputError as error:
            return [] if "sha256" not in str(error) else [f"answers: {name!r} was opened"]
        return [f"answers: {name!r} was read"]
    kind = chance.choice(_LISTS)
    try:
        splits = kind(root, name)
    except InputError as error:
        return [] if "\n" not in str(error) else [f"{kind.__name__} {name!r}: two lines"]
    pixels = [split.read(row)[:, 0, 0].tolist() for split in splits for row in range(len(split))]
    shows = any(abs(pixel[0] - SECRET[0]) < 4 and pixel[2] > 40 for pixel in pixels)
    return [f"{kind.__name__} {name!r}: was opened"] if shows else []
