"""The contract of ImageSplit, the common settings, and the fingerprint."""

import pickle

import pytest
import torch

from linear_eval.datasets.dataset import ImageSplit, MemoryReader, fingerprint_of
from linear_eval.datasets.joined import joined_splits
from linear_eval.datasets.textures import TexturesConfig


def split_of(count: int, *, in_memory: bool) -> ImageSplit:
    pixels = torch.arange(count * 12, dtype=torch.uint8).reshape(count, 3, 2, 2)
    ids = tuple(f"image {i}" for i in range(count))
    labels = torch.arange(count) % 2
    return ImageSplit(
        ids=ids,
        labels=labels,
        class_names=("even", "odd"),
        read=MemoryReader(pixels),
        fingerprint=fingerprint_of("test", ids, labels, range(count)),
        pixels=pixels if in_memory else None,
    )


@pytest.mark.parametrize("in_memory", [True, False])
def test_selecting_twice_equals_indexing_twice(in_memory: bool) -> None:
    split = split_of(10, in_memory=in_memory)
    part = split.select(torch.tensor([9, 3, 4, 0])).select(torch.tensor([2, 0]))
    assert part.ids == ("image 4", "image 9")
    assert part.labels.tolist() == [0, 1]
    assert part.class_names == split.class_names
    assert torch.equal(part.read(1), split.read(9))
    assert part.pixels is None or torch.equal(part.pixels[1], split.read(9))
    assert (part.pixels is None) == (not in_memory)


def test_selecting_nothing_gives_an_empty_split() -> None:
    part = split_of(3, in_memory=True).select(torch.tensor([], dtype=torch.int64))
    assert len(part) == 0
    assert part.pixels is not None
    assert part.pixels.shape == (0, 3, 2, 2)


def test_an_image_read_from_memory_may_be_changed_without_harm() -> None:
    split = split_of(3, in_memory=True)
    split.read(1).zero_()
    assert split.read(1).any()


def test_a_selected_split_can_be_sent_to_another_process() -> None:
    part = split_of(5, in_memory=False).select(torch.tensor([4, 1]))
    assert torch.equal(pickle.loads(pickle.dumps(part)).read(0), part.read(0))


@pytest.mark.parametrize("in_memory", [True, False])
def test_joined_splits_read_the_images_of_their_parts(in_memory: bool) -> None:
    whole = split_of(6, in_memory=in_memory)
    parts = [whole.select(torch.tensor(rows)) for rows in ([3, 1], [5], [0, 2])]
    joined = joined_splits(parts)
    assert joined.ids == tuple(whole.ids[row] for row in (3, 1, 5, 0, 2))
    assert joined.labels.tolist() == [1, 1, 1, 0, 0]
    for i, row in enumerate((3, 1, 5, 0, 2)):
        assert torch.equal(joined.read(i), whole.read(row))
    assert torch.equal(pickle.loads(pickle.dumps(joined)).read(2), whole.read(5))
    with pytest.raises(IndexError):
        joined.read(5)
    assert joined.fingerprint != joined_splits(parts[::-1]).fingerprint


def test_columns_of_unequal_length_are_refused() -> None:
    split = split_of(3, in_memory=False)
    with pytest.raises(AssertionError):
        ImageSplit(split.ids[:2], split.labels, split.class_names, split.read, "")


def test_the_fingerprint_tells_apart_name_ids_labels_sizes_and_selections() -> None:
    labels = torch.tensor([0, 1])
    prints = [
        fingerprint_of("a", ("x", "y"), labels, [1, 2]),
        fingerprint_of("b", ("x", "y"), labels, [1, 2]),
        fingerprint_of("a", ("x", "z"), labels, [1, 2]),
        fingerprint_of("a", ("xy", ""), labels, [1, 2]),
        fingerprint_of("a", ("x", "y"), labels.flip(0), [1, 2]),
        fingerprint_of("a", ("x", "y"), labels, [1, 3]),
        fingerprint_of("a", ("x", "y"), labels, [12]),
        fingerprint_of("a", ("x", "y"), labels, b""),
        fingerprint_of("ax", ("y",), labels, b""),
        fingerprint_of("a", ("xy",), labels, b""),
    ]
    split = split_of(4, in_memory=False)
    prints += [split.select(torch.tensor(rows)).fingerprint for rows in ([0, 1], [1, 0], [0])]
    prints.append(split.fingerprint)
    assert len(set(prints)) == len(prints)
    assert fingerprint_of("a", ("x", "y"), labels, [1, 2]) == prints[0]


def test_a_name_that_is_no_utf8_has_a_fingerprint() -> None:
    assert len(fingerprint_of("a", ("bad\udcff",), torch.tensor([0]), [1])) == 64


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_images", 0),
        ("long_tail", 0.5),
        ("holdout", -0.1),
        ("holdout", 0.6),
        ("holdout", float("nan")),
    ],
)
def test_a_common_setting_out_of_range_names_its_key(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{key}: must be"):
        TexturesConfig(**{key: value})  # type: ignore[arg-type]  # int for one key, float for one
