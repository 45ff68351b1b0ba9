"""Tests of ssl_bf.parts.batch_shuffle; W devices are played one after the other."""

import pytest
import torch
from torch import Tensor

from ssl_bf.parts import batch_shuffle
from ssl_bf.parts.batch_shuffle import shuffle_rows, unshuffle_rows

LOCAL = 4


def deal(
    monkeypatch: pytest.MonkeyPatch, function: str, shares: list[Tensor], order: Tensor
) -> list[Tensor]:
    """What each of the devices gets from the function, when device r holds `shares[r]`."""
    dealt = []
    for device, share in enumerate(shares):
        monkeypatch.setattr(batch_shuffle, "rank", lambda device=device: device)
        monkeypatch.setattr(batch_shuffle, "all_gather_rows", lambda _: torch.cat(shares))
        dealt.append(getattr(batch_shuffle, function)(share, order))
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
    shuffled = deal(monkeypatch, "shuffle_rows", list(batch.chunk(devices)), order)
    assert [len(share) for share in shuffled] == [LOCAL] * devices
    assert torch.equal(torch.cat(shuffled), batch[order])


@pytest.mark.parametrize("devices", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_every_device_gets_back_what_belongs_to_its_images(
    monkeypatch: pytest.MonkeyPatch, devices: int, seed: int
) -> None:
    batch, order = images(devices), some_order(devices, seed)
    shuffled = deal(monkeypatch, "shuffle_rows", list(batch.chunk(devices)), order)
    keys = [share.flatten(1).cos() for share in shuffled]  # anything that works row by row
    back = deal(monkeypatch, "unshuffle_rows", keys, order)
    for device, own in enumerate(batch.chunk(devices)):
        assert torch.equal(back[device], own.flatten(1).cos())


def test_one_process_needs_nobody_to_shuffle_with() -> None:
    batch, order = images(2), some_order(2)
    assert torch.equal(shuffle_rows(batch, order), batch[order])
    assert torch.equal(unshuffle_rows(batch[order], order), batch)
