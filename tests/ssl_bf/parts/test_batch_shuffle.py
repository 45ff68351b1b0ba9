"""Tests of ssl_bf.parts.batch_shuffle; W devices are played one after the other."""

import pytest
import torch
from torch import Tensor

from ssl_bf.parts import batch_shuffle, gathered_keys
from ssl_bf.parts.batch_shuffle import shuffle_rows
from ssl_bf.parts.gathered_keys import gather_keys

LOCAL = 4


def deal(monkeypatch: pytest.MonkeyPatch, shares: list[Tensor], order: Tensor) -> list[Tensor]:
    """What each of the devices gets, when device r holds `shares[r]`."""
    monkeypatch.setattr(batch_shuffle, "all_gather_rows", lambda _: torch.cat(shares))
    dealt = []
    for device, share in enumerate(shares):
        monkeypatch.setattr(gathered_keys, "shard_number", lambda device=device: device)
        dealt.append(shuffle_rows(share, order))
    return dealt


def images(devices: int) -> Tensor:
    generator = torch.Generator().manual_seed(devices)
    return torch.randn(LOCAL * devices, 2, 3, generator=generator)


def some_order(devices: int, seed: int = 0) -> Tensor:
    return torch.randperm(LOCAL * devices, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_the_devices_together_hold_the_batch_in_the_new_order(
    monkeypatch: pytest.MonkeyPatch, devices: int
) -> None:
    batch, order = images(devices), some_order(devices)
    shuffled = deal(monkeypatch, list(batch.chunk(devices)), order)
    assert [len(share) for share in shuffled] == [LOCAL] * devices
    assert torch.equal(torch.cat(shuffled), batch[order])


@pytest.mark.parametrize("devices", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_gathered_keys_stand_where_their_images_stood(
    monkeypatch: pytest.MonkeyPatch, devices: int, seed: int
) -> None:
    batch, order = images(devices), some_order(devices, seed)
    shuffled = deal(monkeypatch, list(batch.chunk(devices)), order)
    keys = [share.transpose(0, 1).cos() for share in shuffled]  # (2, N, 3): two streams
    rows = torch.cat(keys, dim=1).transpose(0, 1)
    monkeypatch.setattr(gathered_keys, "all_gather_rows", lambda _: rows)
    for own in keys:
        assert torch.equal(gather_keys(own, order), batch.transpose(0, 1).cos())


def test_one_process_needs_nobody_to_shuffle_with() -> None:
    batch, order = images(2), some_order(2)
    assert torch.equal(shuffle_rows(batch, order), batch[order])
    keys = batch.transpose(0, 1)
    assert torch.equal(gather_keys(keys[:, order], order), keys)
    assert torch.equal(gather_keys(keys), keys)
