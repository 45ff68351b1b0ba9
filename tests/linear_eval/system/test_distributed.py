"""Run: pytest tests/linear_eval/test_distributed.py (starts two processes over gloo)."""

import os
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from linear_eval.system import distributed
from linear_eval.system.errors import InputError
from ssl_bf.layers.all_reduce import all_reduce_sum

WORLD = 2


def local_rows(rank: int) -> Tensor:
    """(3, 2) rows that tell their rank, in a layout that is not contiguous."""
    return (torch.arange(6.0).reshape(2, 3) + 10 * rank).t()


def loss_of(rank: int, total: Tensor) -> Tensor:
    """A loss that is another function of the sum on every rank."""
    return (total ** (rank + 2)).sum()


def work(rank: int, port: int, folder: str) -> None:
    """What one of the two processes does."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(WORLD))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.start_from_environment("cpu")
    x = local_rows(rank).requires_grad_()
    gathered = distributed.all_gather_rows(x)
    summed = all_reduce_sum(x)
    torch.autograd.backward(loss_of(rank, summed))
    assert x.grad is not None
    facts = [distributed.rank(), distributed.world_size(), int(distributed.is_main())]
    results = {
        "gathered": gathered,
        "gathered_ids": distributed.all_gather_rows(torch.tensor([rank, 7 + rank])),
        "has_gradient": torch.tensor(gathered.requires_grad),
        "summed": summed.detach().contiguous(),
        "gradient": x.grad.contiguous(),
        "x": x.detach().contiguous(),
        "facts": torch.tensor(facts),
    }
    distributed.barrier()
    distributed.shut_down()
    assert not distributed.is_distributed()
    save_file(results, Path(folder) / f"{rank}.safetensors")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("two_processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(work, args=(port, str(folder)), nprocs=WORLD)
    return [load_file(folder / f"{rank}.safetensors") for rank in range(WORLD)]


@pytest.mark.dist
def test_every_process_knows_its_place(results: list[dict[str, Tensor]]) -> None:
    assert [each["facts"].tolist() for each in results] == [[0, 2, 1], [1, 2, 0]]


@pytest.mark.dist
def test_rows_are_gathered_in_rank_order_without_gradient(
    results: list[dict[str, Tensor]],
) -> None:
    for each in results:
        assert torch.equal(each["gathered"], torch.cat([local_rows(0), local_rows(1)]))
        assert each["gathered_ids"].tolist() == [0, 7, 1, 8]
        assert not each["has_gradient"]


@pytest.mark.dist
def test_a_sum_over_processes_has_the_gradient_of_one_process(
    results: list[dict[str, Tensor]],
) -> None:
    inputs = [local_rows(rank).requires_grad_() for rank in range(WORLD)]
    total = inputs[0] + inputs[1]
    torch.autograd.backward([loss_of(rank, total) for rank in range(WORLD)])
    for expected, each in zip(inputs, results, strict=True):
        assert torch.equal(each["summed"], total.detach())
        assert torch.equal(each["x"], expected.detach())  # the input is not summed in place
        assert expected.grad is not None
        assert torch.equal(each["gradient"], expected.grad)


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    distributed.start_from_environment("cpu")
    x = torch.ones(2, 3, requires_grad=True)
    assert distributed.all_gather_rows(x) is x
    assert all_reduce_sum(x) is x
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.is_main()
    distributed.barrier()
    distributed.shut_down()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two: expected a whole number"),
        ({"WORLD_SIZE": "2"}, "RANK: not set although WORLD_SIZE is"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR: not set although WORLD_SIZE is"),
    ],
)
def test_half_a_description_of_a_group_is_refused(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        distributed.start_from_environment("cpu")


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(InputError, match="LOCAL_RANK=1: this machine has 1 GPUs"):
        distributed.start_from_environment("cuda")
