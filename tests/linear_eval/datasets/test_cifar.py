"""CIFAR-10 and CIFAR-100: which of the forms in a folder is opened."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from linear_eval.datasets.cifar import Cifar10Config, Cifar100Config
from linear_eval.datasets.cifar_binary import CIFAR10, CIFAR100
from linear_eval.system.errors import InputError

MakeTree = Callable[..., Path]
OneLine = Callable[[BaseException], str]
REAL = Path(__file__).parents[3] / "../shared/data/cifar10.tar.xz"


def write_records(path: Path, labels: list[int], label_bytes: int = 1) -> None:
    records = np.zeros((len(labels), label_bytes + 3072), dtype=np.uint8)
    records[:, label_bytes - 1] = labels
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(records.tobytes())


def jpeg_tree(make_tree: MakeTree, names: tuple[str, ...]) -> Path:
    return make_tree({f"{s}/{name}": 1 for s in ("train", "test") for name in names}, "jpg")


def test_the_jpeg_tree_numbers_classes_as_the_published_set_does(make_tree: MakeTree) -> None:
    config = Cifar10Config(root=str(jpeg_tree(make_tree, CIFAR10.class_names)))
    for split in (config.open_train(), config.open_test()):
        assert split.class_names == CIFAR10.class_names
        assert split.labels.tolist() == list(range(10))
        assert split.ids[3] == "cat/cat_0.jpg"


def test_cifar100_opens_as_a_jpeg_tree_too(make_tree: MakeTree) -> None:
    split = Cifar100Config(root=str(jpeg_tree(make_tree, CIFAR100.class_names))).open_test()
    assert split.labels.tolist() == list(range(100))


def test_a_tree_that_lacks_a_class_is_refused(make_tree: MakeTree) -> None:
    root = jpeg_tree(make_tree, CIFAR10.class_names[:-1])
    with pytest.raises(InputError, match=r"train: lacks 1 class folder\(s\) \(truck\)"):
        Cifar10Config(root=str(root)).open_train()


@pytest.mark.parametrize("folder", ["", "cifar-10-batches-bin"])
def test_the_binary_version_opens_from_its_folder_or_the_root(folder: str, tmp_path: Path) -> None:
    for number in range(1, 6):
        write_records(tmp_path / folder / f"data_batch_{number}.bin", [number, 0])
    write_records(tmp_path / folder / "test_batch.bin", [9])
    config = Cifar10Config(root=str(tmp_path))
    assert config.open_train().labels.tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
    assert config.open_test().labels.tolist() == [9]


def test_the_binary_version_is_preferred_and_told_apart_from_the_jpegs(make_tree: MakeTree) -> None:
    root = jpeg_tree(make_tree, CIFAR10.class_names)
    tree = Cifar10Config(root=str(root)).open_test()
    write_records(root / "test_batch.bin", list(range(10)))
    binary = Cifar10Config(root=str(root)).open_test()
    assert binary.pixels is not None
    assert torch.equal(tree.labels, binary.labels)
    assert tree.fingerprint != binary.fingerprint


@pytest.mark.parametrize(
    ("config", "pickled"),
    [(Cifar10Config, name) for name in CIFAR10.pickled]
    + [(Cifar100Config, name) for name in CIFAR100.pickled],
)
def test_the_pickled_version_is_refused_with_advice(
    config: type[Cifar10Config] | type[Cifar100Config],
    pickled: str,
    tmp_path: Path,
    one_line: OneLine,
) -> None:
    (tmp_path / pickled).write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match=f"holds the pickled version .{pickled}.") as error:
        config(root=str(tmp_path)).open_train()
    assert "take the binary version from https://" in one_line(error.value)


def test_an_empty_folder_and_a_missing_one_are_refused(tmp_path: Path, one_line: OneLine) -> None:
    with pytest.raises(InputError, match="holds no data set, expected cifar-10-binary") as error:
        Cifar10Config(root=str(tmp_path)).open_train()
    one_line(error.value)
    for config in (Cifar10Config(root="/no/such"), Cifar10Config(root="", download=True)):
        with pytest.raises(InputError, match="^data.root: '.*' is not a folder"):
            config.open_test()


def test_nothing_is_fetched_unless_asked_nor_when_data_is_there(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetched: list[Path] = []

    def fetch(root: Path, _: object) -> Path:
        fetched.append(root)
        write_records(root / "test_batch.bin", [4])
        return root

    monkeypatch.setattr("linear_eval.datasets.cifar.download_archive", fetch)
    tree = jpeg_tree(make_tree, CIFAR10.class_names)
    Cifar10Config(root=str(tree), download=True).open_test()
    (tmp_path / "new").mkdir()
    with pytest.raises(InputError):
        Cifar10Config(root=str(tmp_path / "new")).open_test()
    assert not fetched
    split = Cifar10Config(root=str(tmp_path / "new"), download=True).open_test()
    assert fetched == [tmp_path / "new"]
    assert split.labels.tolist() == [4]


@pytest.mark.skipif(not REAL.exists(), reason=f"the real images are not at {REAL}")
def test_real_jpegs_of_every_class_open(tmp_path: Path) -> None:
    # 20 images of each class and split; unpacking all 60,000 would take too long.
    wanted = tuple(f"{number:04d}.jpg" for number in range(20))
    with tarfile.open(REAL) as archive:
        for member in archive:
            if member.isreg() and member.name.endswith(wanted):
                archive.extract(member, tmp_path, filter="data")
    config = Cifar10Config(root=str(tmp_path / "cifar10"))
    for split in (config.open_train(), config.open_test()):
        assert torch.bincount(split.labels).tolist() == [20] * 10
        images = torch.stack([split.read(row) for row in range(len(split))]).float()
        assert images.shape == (200, 3, 32, 32)
        assert 100 < images.mean() < 140  # the published mean is 121
