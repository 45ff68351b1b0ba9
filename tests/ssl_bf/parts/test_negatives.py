"""Tests of ssl_bf.parts.negatives; W devices are played one after the other."""

import pytest
import torch

from ssl_bf.losses.info_nce import Negatives
from ssl_bf.parts import gathered_keys
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.parts.key_queue import NO_IMAGE, KeyQueue
from ssl_bf.parts.negatives import batch_negatives, queued_negatives


def excluded(negatives: Negatives) -> list[list[bool]]:
    """Which keys are no negatives of which query."""
    if negatives.ids is None or negatives.query_ids is None:
        return []
    table: list[list[bool]] = (negatives.query_ids[:, None] == negatives.ids).tolist()
    return table


def test_one_process_offers_its_own_keys_and_excludes_each_querys_own() -> None:
    key = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    found = batch_negatives(key, 3)
    assert torch.equal(found.keys, key)
    assert excluded(found) == [[True, False, False], [False, True, False], [False, False, True]]


@pytest.mark.parametrize("device", [0, 1, 2])
def test_the_own_key_is_found_behind_those_of_lower_ranks(
    monkeypatch: pytest.MonkeyPatch, device: int
) -> None:
    everybody = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(gathered_keys, "shard_number", lambda: device)
    own = everybody[2 * device : 2 * device + 2]
    found = batch_negatives(everybody, 2)
    assert excluded(found) == [[torch.equal(key, row) for key in found.keys] for row in own]


def queue_of(ids: list[int]) -> KeyQueue:
    with initial_values(0, "queue"):
        queue = KeyQueue(len(ids) + 1, 2)
    queue.push(torch.ones(len(ids), 2), torch.tensor(ids))
    return queue


def test_a_queued_key_of_the_same_image_is_excluded_for_that_query_alone() -> None:
    queue = queue_of([7, 3, 7, 5])  # and one row that belongs to no image
    found = queued_negatives(queue, torch.tensor([5, 7, 9]))
    assert torch.equal(found.keys, queue.keys)
    queued = [7, 3, 7, 5, NO_IMAGE]
    assert excluded(found) == [[image == past for past in queued] for image in (5, 7, 9)]


def test_without_image_ids_nothing_is_excluded() -> None:
    queue = queue_of([7, 3])
    found = queued_negatives(queue, None)
    assert torch.equal(found.keys, queue.keys)
    assert excluded(found) == []


def test_the_queue_is_not_copied() -> None:
    queue = queue_of([7, 3])
    assert queued_negatives(queue, None).keys.data_ptr() == queue.keys.data_ptr()
