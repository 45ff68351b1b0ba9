"""Tests of ssl_bf.parts.key_queue."""

from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssl_bf.parts.initial_values import initial_values
from ssl_bf.parts.key_queue import NO_IMAGE, KeyQueue

WIDTH = 3

sizes_and_pushes = st.integers(1, 12).flatmap(
    lambda size: st.tuples(
        st.just(size), st.lists(st.tuples(st.integers(0, size), st.booleans()), max_size=12)
    )
)


def make_queue(size: int, seed: int = 0) -> KeyQueue:
    with initial_values(seed, "queue"):
        return KeyQueue(size, WIDTH)


def oldest_first(queue: KeyQueue) -> list[tuple[list[float], int]]:
    """Rows with their image ids in the order of their age; the pointer is at the oldest."""
    start = int(queue.pointer)
    keys, ids = queue.keys.roll(-start, 0), queue.image_ids.roll(-start, 0)
    return list(zip(keys.tolist(), ids.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(sizes_and_pushes)
def test_it_equals_a_deque_for_any_sequence_of_batch_sizes(
    example: tuple[int, list[tuple[int, bool]]],
) -> None:
    size, pushes = example
    queue = make_queue(size)
    expected = deque(oldest_first(queue), maxlen=size)
    pushed = 0
    for count, knows_images in pushes:
        ids = torch.arange(pushed, pushed + count)
        images = ids if knows_images else torch.full_like(ids, NO_IMAGE)
        keys = torch.stack([ids + 0.5, -ids.float(), ids * ids], dim=1)
        queue.push(keys, images)
        expected.extend(zip(keys.tolist(), images.tolist(), strict=True))
        pushed += count
        assert oldest_first(queue) == list(expected)
        assert int(queue.pointer) == pushed % size


def test_it_starts_with_random_directions_that_belong_to_no_image() -> None:
    queue = make_queue(50)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(50))
    assert len({tuple(key) for key in queue.keys.tolist()}) == 50
    assert queue.keys.mean(dim=0).abs().max() < 0.3
    assert queue.image_ids.tolist() == [NO_IMAGE] * 50
    assert queue.image_ids.dtype == torch.long
    assert int(queue.pointer) == 0


def test_it_survives_the_state_dict() -> None:
    def keys_of(seed: int) -> Tensor:
        return torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(seed))

    queue = make_queue(7)
    queue.push(keys_of(1), torch.arange(4))
    restored = make_queue(7, seed=1)
    restored.load_state_dict({k: v.clone() for k, v in queue.state_dict().items()})
    for either in (queue, restored):
        either.push(keys_of(2), torch.arange(10, 14))
    assert oldest_first(restored) == oldest_first(queue)
    assert sorted(queue.state_dict()) == ["image_ids", "keys", "pointer"]


def test_it_keeps_no_graph_and_no_alias_of_what_was_pushed() -> None:
    queue = make_queue(4)
    keys = torch.ones(2, WIDTH, requires_grad=True) * 2
    queue.push(keys, torch.arange(2))
    assert not queue.keys.requires_grad
    with torch.no_grad():
        keys.zero_()
    assert queue.keys[:2].tolist() == [[2.0] * WIDTH] * 2


def test_half_precision_keys_are_kept_in_float32() -> None:
    queue = make_queue(4)
    queue.push(torch.full((2, WIDTH), 0.1, dtype=torch.bfloat16), torch.arange(2))
    assert queue.keys.dtype == torch.float32
    assert queue.keys[0, 0].item() == torch.tensor(0.1, dtype=torch.bfloat16).item()


def test_more_keys_than_rows_are_refused() -> None:
    with pytest.raises(AssertionError, match="5 keys do not fit into a queue of 4"):
        make_queue(4).push(torch.zeros(5, WIDTH), torch.arange(5))


def test_the_older_rows_are_those_that_the_last_push_left_alone() -> None:
    queue = KeyQueue(5, 2)
    for first in (0, 2, 4):
        ids = torch.tensor([first, first + 1])
        queue.push(torch.zeros(2, 2), ids)
    assert queue.image_ids[queue.older()].tolist() == [1, 2, 3]  # oldest first; 0 was overwritten


def test_age_and_share_of_own_images_equal_a_count() -> None:
    queue = KeyQueue(8, 2)
    queue.push(torch.zeros(2, 2), torch.tensor([4, 5]))
    assert queue.measurements(torch.tensor([4, 5])) == {
        "queue/age_steps": 1,  # what was pushed last is no older key
        "queue/own_image_share": 0,
    }
    for ids in ([6, 7], [5, 6]):
        queue.push(torch.zeros(2, 2), torch.tensor(ids))
    values = queue.measurements(torch.tensor([5, 6]))
    assert values == {"queue/age_steps": 3, "queue/own_image_share": 2 / (2 * 8)}
