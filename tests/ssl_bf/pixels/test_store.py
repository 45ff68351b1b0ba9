"""Tests of ssl_bf.pixels.store: images at hand, and images decoded at every use."""

import threading
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from linear_eval.datasets.decode import BadImageError, decode_image
from ssl_bf.pixels import store as store_module
from ssl_bf.pixels.packed_images import LooseImages, PackedImages
from ssl_bf.pixels.store import (
    DecodedImages,
    HeldImages,
    ImageStore,
    ReadImage,
    decode_in_order,
    decode_threads,
    sample_rows,
)


def image(index: int) -> Tensor:
    return torch.full((3, 4 + index % 2, 5), index, dtype=torch.uint8)


def reader(*, bad: Sequence[int] = (), reads: list[int] | None = None) -> ReadImage:
    def read(index: int) -> Tensor:
        if reads is not None:
            reads.append(index)
        if index in bad:
            raise BadImageError(f"folder/{index}.jpg: cannot be decoded")
        return image(index)

    return read


def opened(kind: str, count: int, *, bad: Sequence[int] = ()) -> ImageStore:
    if kind == "decoded":
        return DecodedImages(reader(bad=bad), count, on_bad_image="skip", note="")
    none = torch.empty((3, 0, 0), dtype=torch.uint8)
    packed = PackedImages.of([none if row in bad else image(row) for row in range(count)])
    messages = {row: f"folder/{row}.jpg: cannot be decoded" for row in bad}
    return HeldImages(packed, bad_images=messages, note="", is_mapped=kind == "mapped")


KINDS = ("decoded", "held", "mapped")


def values(images: PackedImages | LooseImages) -> list[int]:
    return [int(one[0, 0, 0]) for one in images.images()]


@pytest.mark.parametrize("kind", KINDS)
def test_images_come_with_their_numbers_in_the_order_asked_for(kind: str) -> None:
    store = opened(kind, 50)
    assert len(store) == 50
    images, ids = store.read(torch.tensor([7, 7, 49, 0]))
    assert values(images) == ids.tolist() == [7, 7, 49, 0]
    store.close()


@pytest.mark.parametrize("cores", [1, 2])
def test_only_several_cores_copy_what_lies_in_a_file(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "decode_threads", lambda: cores)
    store = opened("mapped", 10)
    assert isinstance(store, HeldImages)
    images, _ = store.read(torch.tensor([4, 2]))
    assert isinstance(images, PackedImages)
    assert (images.data is store.images.data) == (cores == 1)
    assert store.takes_time == (cores > 1)
    store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_image_is_replaced_by_its_first_good_substitute(kind: str) -> None:
    store = opened(kind, 10, bad=[3, 6, 7])
    for _ in range(2):
        images, ids = store.read(
            torch.tensor([2, 3, 6]), substitutes=[iter([0]), iter([7, 6, 9, 1]), iter([8])]
        )
        assert values(images) == ids.tolist() == [2, 9, 8]
    assert sorted(store.bad_images) == [3, 6, 7]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_image_without_a_good_substitute_raises_for_its_own_path(kind: str) -> None:
    store = opened(kind, 4, bad=[1, 2])
    with pytest.raises(BadImageError, match=r"^folder/1.jpg: "):
        store.read(torch.tensor([1]), substitutes=[iter([2])])


def test_a_bad_image_is_tried_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    reads: list[int] = []
    store = DecodedImages(reader(bad=[3], reads=reads), 5, on_bad_image="skip", note="")
    for _ in range(3):
        store.read(torch.tensor([3]), substitutes=[[4]])
    assert reads == [3, 4, 4, 4]
    assert caplog.text.count("folder/3.jpg") == 1


def test_a_bad_image_ends_the_run_where_it_is_not_skipped() -> None:
    store = DecodedImages(reader(bad=[3]), 5, on_bad_image="error", note="")
    with pytest.raises(BadImageError, match=r"^folder/3.jpg: "):
        store.read(torch.arange(5), substitutes=[[4]] * 5)


def test_reading_in_order_goes_ahead_in_threads_but_only_a_little() -> None:
    names: set[str] = set()
    reads: list[int] = []
    read = reader(reads=reads)

    def draw(index: int) -> Tensor:
        names.add(threading.current_thread().name)
        return read(index)

    found = decode_in_order(draw, range(100, 10_000), on_bad_image="error")
    first = [next(found) for _ in range(3)]
    found.close()  # type: ignore[attr-defined]
    assert [int(one[0, 0, 0]) for one in first if isinstance(one, Tensor)] == [100, 101, 102]
    assert all(name.startswith("decode") for name in names)
    assert len(reads) <= 4 * decode_threads() + 3


@pytest.mark.parametrize("rows", [range(0), range(1), range(5), range(100)])
def test_reading_in_order_reads_everything_once_and_gives_messages_of_bad_ones(
    rows: range,
) -> None:
    reads: list[int] = []
    found = list(decode_in_order(reader(bad=[3], reads=reads), rows, on_bad_image="skip"))
    assert sorted(reads) == list(rows)
    for row, one in zip(rows, found, strict=True):
        assert (
            "folder/3.jpg" in str(one)
            if row == 3
            else torch.equal(torch.as_tensor(one), image(row))
        )


def test_what_is_said_of_a_skipped_image_does_not_advise_to_skip_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def read(index: int) -> Tensor:
        return decode_image(b"no image", f"{index}.jpg")

    (kept,) = decode_in_order(read, range(1), on_bad_image="skip")
    store = DecodedImages(read, 1, on_bad_image="skip", note="")
    with pytest.raises(BadImageError, match=r"; replace or remove the file$"):
        store.read(torch.tensor([0]))
    assert [record.message.partition(";")[2] for record in caplog.records] == [
        " replace or remove the file"
    ] * 2
    # a store keeps this message, and may be opened again where bad images are errors
    assert str(kept).endswith(", or set data.on_bad_image=skip")


@pytest.mark.parametrize("count", [0, 1, 31, 1000])
def test_a_sample_lies_inside_and_is_small(count: int) -> None:
    rows = sample_rows(count)
    assert len(set(rows)) == len(rows) == min(count, 32)
    assert all(0 <= row < count for row in rows)
