"""The published binary archives: records, archive, download."""

import hashlib
import io
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from linear_eval.datasets.cifar_binary import (
    CIFAR10,
    CIFAR100,
    BinaryForm,
    binary_source,
    download_archive,
    read_binary,
)
from linear_eval.system.errors import InputError

OneLine = Callable[[BaseException], str]
FORMS = pytest.mark.parametrize("form", [CIFAR10, CIFAR100], ids=lambda form: form.name)


def records(form: BinaryForm, count: int, seed: int) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (count, form.label_bytes + 3072))
    values[:, : form.label_bytes] %= 10
    return values.astype(np.uint8).tobytes()


def contents(form: BinaryForm) -> dict[str, bytes]:
    names = form.train_files + form.test_files
    return {name: records(form, 3, seed) for seed, name in enumerate(names)}


def pack(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def pack_whole(root: Path, form: BinaryForm) -> Path:
    members = {f"{form.folder}/{name}": content for name, content in contents(form).items()}
    return pack(root / form.archive, {"readme.html": b"x", **members})


@FORMS
def test_archive_and_folder_give_the_same_split(form: BinaryForm, tmp_path: Path) -> None:
    archive = pack_whole(tmp_path, form)
    folder = tmp_path / "extracted"
    folder.mkdir()
    for name, content in contents(form).items():
        (folder / name).write_bytes(content)
    packed, loose = (read_binary(source, form, "train") for source in (archive, folder))
    assert packed.fingerprint == loose.fingerprint
    assert packed.pixels is not None
    assert loose.pixels is not None
    assert torch.equal(packed.pixels, loose.pixels)
    assert not list(tmp_path.glob("cifar-*-b*/*"))  # nothing was extracted


@FORMS
def test_each_record_is_labels_then_planes_of_red_green_blue(
    form: BinaryForm, tmp_path: Path
) -> None:
    split = read_binary(pack_whole(tmp_path, form), form, "test")
    content = contents(form)[form.test_files[0]]
    width = form.label_bytes + 3072
    for row in range(3):
        record = content[row * width : (row + 1) * width]
        assert int(split.labels[row]) == record[form.label_bytes - 1]  # fine label of CIFAR-100
        for channel, y, x in ((0, 0, 0), (1, 2, 31), (2, 31, 5)):
            expected = record[form.label_bytes + channel * 1024 + y * 32 + x]
            assert int(split.read(row)[channel, y, x]) == expected
    assert split.ids == ("test/00000", "test/00001", "test/00002")


def test_train_batches_are_joined_in_order(tmp_path: Path) -> None:
    split = read_binary(pack_whole(tmp_path, CIFAR10), CIFAR10, "train")
    first_labels = [contents(CIFAR10)[name][0] for name in CIFAR10.train_files]
    assert split.labels[::3].tolist() == first_labels
    assert len(split) == 15


def test_the_class_names_are_those_of_the_publisher() -> None:
    for form, count in ((CIFAR10, 10), (CIFAR100, 100)):
        assert len(set(form.class_names)) == count
        assert list(form.class_names) == sorted(form.class_names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], "test_batch.bin has 9218 bytes, expected a multiple"),
        (lambda content: b"", "test_batch.bin has 0 bytes"),
        (lambda content: b"\x0a" + content[1:], "holds the label 10, expected labels below 10"),
    ],
)
def test_damaged_records_are_described(
    change: Callable[[bytes], bytes], message: str, tmp_path: Path, one_line: OneLine
) -> None:
    (tmp_path / "test_batch.bin").write_bytes(change(records(CIFAR10, 3, 0)))
    with pytest.raises(InputError, match=message) as error:
        read_binary(tmp_path, CIFAR10, "test")
    one_line(error.value)


def test_a_missing_batch_is_named(tmp_path: Path, one_line: OneLine) -> None:
    (tmp_path / "test_batch.bin").write_bytes(records(CIFAR10, 1, 0))
    with pytest.raises(InputError, match=r"data_batch_1\.bin: cannot be read") as error:
        read_binary(tmp_path, CIFAR10, "train")
    one_line(error.value)


@pytest.mark.parametrize("kept", [0, 100, -9])
def test_a_truncated_archive_is_refused(kept: int, tmp_path: Path, one_line: OneLine) -> None:
    archive = pack_whole(tmp_path, CIFAR100)
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(InputError, match=f"^{archive}: cannot be read|lacks") as error:
        read_binary(archive, CIFAR100, "test")
    one_line(error.value)


def test_one_flipped_bit_in_the_archive_is_noticed(tmp_path: Path) -> None:
    archive = pack_whole(tmp_path, CIFAR100)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    with pytest.raises(InputError):
        read_binary(archive, CIFAR100, "test")


def test_only_regular_members_with_the_exact_name_are_read(tmp_path: Path) -> None:
    path = tmp_path / CIFAR100.archive
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("cifar-100-binary/test.bin")
        link.type = tarfile.SYMTYPE
        link.linkname = "/etc/passwd"
        archive.addfile(link)
        for name in ("../cifar-100-binary/test.bin", "test.bin", "/cifar-100-binary/test.bin"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(InputError, match=r"lacks test\.bin, expected the binary version"):
        read_binary(path, CIFAR100, "test")


def test_the_extracted_folder_comes_before_the_archive(tmp_path: Path) -> None:
    assert binary_source(tmp_path, CIFAR10) is None
    archive = pack_whole(tmp_path, CIFAR10)
    assert binary_source(tmp_path, CIFAR10) == archive
    (tmp_path / "data_batch_1.bin").write_bytes(b"")
    assert binary_source(tmp_path, CIFAR10) == tmp_path
    (tmp_path / CIFAR10.folder).mkdir()
    (tmp_path / CIFAR10.folder / "test_batch.bin").write_bytes(b"")
    assert binary_source(tmp_path, CIFAR10) == tmp_path / CIFAR10.folder


def test_a_fetched_archive_appears_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = pack_whole(tmp_path, CIFAR10).read_bytes()
    form = replace(CIFAR10, md5=hashlib.md5(content).hexdigest())
    asked: list[str] = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    root = tmp_path / "new" / "folder"
    assert download_archive(root, form).read_bytes() == content
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"]
    assert [path.name for path in root.iterdir()] == [CIFAR10.archive]


class BrokenAnswer(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        raise ConnectionResetError(104, "Connection reset\nby peer")


@pytest.mark.parametrize("answer", [io.BytesIO(b"<html>"), BrokenAnswer(), None])
def test_a_failed_fetch_leaves_nothing_behind(
    answer: io.BytesIO | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    one_line: OneLine,
) -> None:
    def open_url(url: str, timeout: float) -> io.BytesIO:
        if answer is None:
            raise urllib.error.URLError("no network")
        return answer

    monkeypatch.setattr(urllib.request, "urlopen", open_url)
    with pytest.raises(InputError, match="^https://www.cs.toronto.edu/.*(md5|fetched)") as error:
        download_archive(tmp_path, CIFAR10)
    one_line(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_cannot_be_made_is_named(tmp_path: Path, one_line: OneLine) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="^data.root: ") as error:
        download_archive(tmp_path / "file" / "folder", CIFAR10)
    one_line(error.value)
