"""Data sets of torchvision by name: two that are small to write, one by a flag, one by a split."""

import gzip
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
import torchvision
from PIL import Image

from linear_eval.datasets.splits import open_splits
from linear_eval.datasets.torchvision_sets import Name, TorchvisionConfig
from linear_eval.system.errors import InputError

OneLine = Callable[[BaseException], str]


def pets(root: Path) -> str:
    base = root / "oxford-iiit-pet"
    (base / "images").mkdir(parents=True)
    (base / "annotations").mkdir()
    for split, numbers in (("trainval", (1, 2)), ("test", (3,))):
        lines = []
        for label, name in enumerate(("Bengal", "great_dane"), 1):
            for number in numbers:
                image = Image.new("RGB", (6, 4), (40 * number, 0, 90 * label))
                image.save(base / "images" / f"{name}_{number}.jpg")
                lines.append(f"{name}_{number} {label} 1 1\n")
        (base / "annotations" / f"{split}.txt").write_text("".join(lines))
    return str(root)


def mnist(root: Path) -> str:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 3), ("t10k", 2)):
        pixels = bytes(range(count * 4))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 2051, count, 2, 2) + pixels
        )
        labels = struct.pack(">II", 2049, count) + bytes(range(count))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)
        for kind in ("images-idx3", "labels-idx1"):
            with gzip.open(folder / f"{part}-{kind}-ubyte.gz", "wb") as file:
                file.write(b"")
    return str(root)


def test_a_data_set_with_splits_is_read_as_torchvision_has_it(tmp_path: Path) -> None:
    config = TorchvisionConfig(root=pets(tmp_path), dataset="OxfordIIITPet", holdout=0)
    train, test = config.open_train(), config.open_test()
    assert train.ids[0] == "OxfordIIITPet/trainval/0"
    assert train.class_names == test.class_names == ("Bengal", "Great Dane")
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.read(0).shape == (3, 4, 6)
    assert train.fingerprint == config.open_train().fingerprint != test.fingerprint
    open_splits(config)


def test_a_data_set_with_a_flag_and_gray_images(tmp_path: Path) -> None:
    config = TorchvisionConfig(root=mnist(tmp_path), dataset="MNIST")
    train, test = config.open_train(), config.open_test()
    assert (len(train), len(test)) == (3, 2)
    assert len(train.class_names) == 10
    assert torch.equal(train.read(1)[0], torch.tensor([[4, 5], [6, 7]], dtype=torch.uint8))


def test_every_name_is_one_of_torchvisions() -> None:
    for name in get_args(Name):
        assert hasattr(torchvision.datasets, name)


def test_what_torchvision_does_not_find_is_one_line(tmp_path: Path, one_line: OneLine) -> None:
    for dataset in get_args(Name):
        config = TorchvisionConfig(root=str(tmp_path), dataset=dataset)
        with pytest.raises(InputError, match=f"torchvision cannot read {dataset}") as caught:
            config.open_train()
        one_line(caught.value)


@pytest.mark.parametrize("is_absent", [True, False])
def test_an_image_that_cannot_be_read_is_one_line_or_left_out(
    tmp_path: Path, one_line: OneLine, *, is_absent: bool
) -> None:
    root = pets(tmp_path)
    config = TorchvisionConfig(root=root, dataset="OxfordIIITPet", holdout=0)
    whole = config.open_train()
    image = tmp_path / "oxford-iiit-pet" / "images" / "Bengal_2.jpg"
    image.unlink()
    if not is_absent:
        image.write_text("no picture")
    with pytest.raises(InputError, match="OxfordIIITPet: image 1 cannot be read") as caught:
        config.open_train()
    assert "data.on_bad_image=skip" in one_line(caught.value)

    skipping = replace(config, on_bad_image="skip", max_bad=0.25)
    train = skipping.open_train()
    assert train.ids == tuple(f"OxfordIIITPet/trainval/{row}" for row in (0, 2, 3))
    assert train.labels.tolist() == [0, 1, 1]
    assert torch.equal(train.read(1), whole.read(2))
    assert train.notes == (
        "torchvision's OxfordIIITPet: 1 of 4 images cannot be read and are left out",
    )
    with pytest.raises(InputError, match="1 of 4 images cannot be read"):
        replace(skipping, max_bad=0.2).open_train()
