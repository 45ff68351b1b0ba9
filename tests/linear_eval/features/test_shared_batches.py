"""Run: pytest tests/linear_eval/test_shared_batches.py (starts two processes over gloo)."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import BadImageError
from linear_eval.features.shared_batches import share
from linear_eval.features.store import FeatureStore
from linear_eval.features.table import FeatureTable
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.images.held import hold_in_memory
from linear_eval.system import distributed
from linear_eval.system.agreement import agreed, gather_vectors, own_share
from linear_eval.system.errors import InputError

WORLD = 2
COUNT = 23
BAD = (2, 4, 5, 6, 7, 20)  # in batches of 4: all of the second one, and others in part


def image(index: int) -> Tensor:
    return torch.full((3, 4, 4), 10 * index, dtype=torch.uint8)


def read(index: int) -> Tensor:
    if index in BAD:
        raise BadImageError(f"{index}: broken")
    return image(index)


def batches(batch_size: int = 4) -> ImageBatches:
    split = ImageSplit(
        ids=tuple(f"{i}" for i in range(COUNT)),
        labels=torch.arange(COUNT) % 3,
        class_names=("a", "b", "c"),
        read=read,
        fingerprint="f",
    )
    return ImageBatches(
        split=split, images=EvalImages(), batch_size=batch_size, on_bad_image="skip"
    )


def embed(images: Tensor) -> Tensor:
    """Features (N, 2) that tell the image, and with how many others it came."""
    pixel = images[:, 0, 0, 0].float()
    return torch.stack([pixel, torch.full_like(pixel, len(images))], dim=1)


def interrupted(images: Tensor) -> Tensor:
    if int(images[0, 0, 0, 0]) >= 80:
        raise KeyboardInterrupt
    return embed(images)


def flat(table: FeatureTable) -> Tensor:
    """All that a table holds, (M, D + 2)."""
    ids = torch.tensor([[int(name)] for name in table.ids])
    return torch.cat([table.features.float(), ids, table.labels[:, None]], dim=1)


def two_sizes(index: int) -> Tensor:
    return image(index) if index < 8 else torch.zeros(3, 4, 5, dtype=torch.uint8)


def refused(work: Callable[[], object]) -> Tensor:
    try:
        work()
    except InputError as error:
        return torch.tensor(list(str(error).encode()), dtype=torch.uint8)
    return torch.empty(0, dtype=torch.uint8)


def fail_in(rank: int) -> None:
    if distributed.rank() == rank:
        raise InputError(f"wrong in {rank}")


def work(rank: int, port: int, folder: str) -> None:
    """What one of the two processes does."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(WORLD))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.start_from_environment("cpu")
    place = Path(folder)
    in_memory = FeatureStore(folder=None)
    shared = share(batches(), hold_in_memory)
    unequal = replace(batches().split.select(torch.arange(16)), read=two_sizes)
    results = {
        "in_memory": flat(in_memory.table("w", embed, shared)),
        "again": flat(in_memory.table("w", embed, shared)),
        "halves": flat(FeatureStore(folder=None, dtype="float16").table("w", embed, shared)),
        "kept": flat(FeatureStore(folder=place / "kept").table("w", embed, shared)),
        "gone_on": flat(FeatureStore(folder=place / "begun").table("w", embed, shared)),
        # no disk in common
        "sent": flat(FeatureStore(folder=place / f"own_{rank}").table("w", embed, shared)),
        "iterated": torch.cat([index for index, _ in shared]),
        "selected": torch.cat([index for index, _ in shared.select(torch.tensor([1, 3, 9]))]),
        "refused": refused(lambda: agreed(lambda: fail_in(1))),
        "agreed": torch.tensor(agreed(lambda: 10 + rank)),
        "vectors": torch.cat(gather_vectors(torch.arange(3 * rank))),
        "share": torch.tensor(own_share(7)),
        "unequal": refused(
            lambda: in_memory.table("w", embed, share(replace(batches(8), split=unequal)))
        ),
    }
    distributed.shut_down()
    save_file(results, place / f"{rank}.safetensors")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    with pytest.raises(KeyboardInterrupt):  # one process begins, with batches of another size
        FeatureStore(folder=folder / "begun").table("w", interrupted, batches(3))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(work, args=(port, str(folder)), nprocs=WORLD)
    return folder


@pytest.fixture
def results(place: Path) -> list[dict[str, Tensor]]:
    """Of each process."""
    return [load_file(place / f"{rank}.safetensors") for rank in range(WORLD)]


@pytest.mark.dist
@pytest.mark.parametrize("name", ["in_memory", "again", "halves", "kept", "sent"])
def test_every_process_has_the_table_of_one(name: str, results: list[dict[str, Tensor]]) -> None:
    expected = flat(FeatureStore(folder=None).table("w", embed, batches()))
    for each in results:
        assert torch.equal(each[name], expected)


@pytest.mark.dist
def test_an_interrupted_extraction_is_gone_on_from(results: list[dict[str, Tensor]]) -> None:
    expected = flat(FeatureStore(folder=None).table("w", embed, batches()))
    for each in results:
        # but for the company an image came in
        assert torch.equal(each["gone_on"][:, [0, 2, 3]], expected[:, [0, 2, 3]])
        assert not torch.equal(each["gone_on"][:, 1], expected[:, 1])


@pytest.mark.dist
def test_whoever_iterates_sees_every_image(results: list[dict[str, Tensor]]) -> None:
    readable = [i for i in range(COUNT) if i not in BAD]
    for each in results:
        assert each["iterated"].tolist() == readable
        assert each["selected"].tolist() == [0, 1, 2]


@pytest.mark.dist
def test_an_error_of_one_is_an_error_of_all(results: list[dict[str, Tensor]]) -> None:
    for rank, each in enumerate(results):
        assert bytes(each["refused"].tolist()) == b"wrong in 1"
        assert each["agreed"] == 10 + rank
        # each process's own images are alike
        assert bytes(each["unequal"].tolist()).startswith(
            b"images: '0' has 4 x 4 pixels but '8' has 5 x 4 pixels, expected one size"
        )


@pytest.mark.dist
def test_shares_are_whole_and_vectors_may_be_unequal(results: list[dict[str, Tensor]]) -> None:
    assert [each["share"].tolist() for each in results] == [[0, 1, 2], [3, 4, 5, 6]]
    assert all(each["vectors"].tolist() == [0, 1, 2] for each in results)


def test_one_process_shares_nothing() -> None:
    alone = batches()
    assert share(alone) is alone
    assert agreed(lambda: 3) == 3
    assert own_share(5) == range(5)
    with pytest.raises(InputError, match="wrong in 0"):
        agreed(lambda: fail_in(0))
