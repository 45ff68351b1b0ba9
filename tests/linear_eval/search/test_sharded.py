"""Run: pytest tests/linear_eval/test_sharded_search.py (starts two processes over gloo)."""

import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from linear_eval.evaluators.knn import knn_predictions
from linear_eval.evaluators.neighbour_votes import KnnConfig, find_neighbours
from linear_eval.search import sharded as sharded_search
from linear_eval.search.exact import Backend, nearest_neighbours
from linear_eval.search.sharded import nearest_neighbours_by_all, nearest_neighbours_sharded
from linear_eval.system import agreement, distributed
from linear_eval.system.errors import InputError

T = TypeVar("T")
WORLD = 2
SHARDS = [slice(0, 6), slice(6, 300)]  # the first holds fewer rows than neighbours are asked for
K = 11


def tables() -> tuple[Tensor, Tensor]:
    """Queries and gallery of small integers: ties in and across shards."""
    generator = torch.Generator().manual_seed(0)
    gallery = torch.randint(-2, 3, (300, 6), generator=generator).float()
    return torch.randint(-2, 3, (20, 6), generator=generator).float(), gallery


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(WORLD))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.start_from_environment("cpu")
    queries, gallery = tables()
    results = {}
    for metric in ("inner", "cosine", "euclidean"):
        found = nearest_neighbours_sharded(queries, gallery[SHARDS[rank]], K, metric=metric)
        results[f"{metric}/similarity"], results[f"{metric}/index"] = found
    refused = 0
    for shard, k in ((gallery[:150], 301), (gallery[: 3 * rank], 1)):
        try:
            nearest_neighbours_sharded(queries, shard, k)
        except InputError:
            refused += 1
    results["refused"] = torch.tensor(refused)
    distributed.barrier()
    distributed.shut_down()
    save_file(results, Path(folder) / f"{rank}.safetensors")


@pytest.mark.dist
def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(work, args=(port, str(tmp_path)), nprocs=WORLD)
    queries, gallery = tables()
    for each in (load_file(tmp_path / f"{rank}.safetensors") for rank in range(WORLD)):
        for metric in ("inner", "cosine", "euclidean"):
            similarity, index = nearest_neighbours(queries, gallery, K, metric=metric)
            assert torch.equal(each[f"{metric}/similarity"], similarity)
            assert torch.equal(each[f"{metric}/index"], index)
        assert each["refused"] == 2  # in both processes: none waits for the other


class Threads:
    """As many threads that take themselves for processes of one group."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.own = threading.local()
        self.meeting = threading.Barrier(count, timeout=30)
        self.brought: list[Tensor] = [torch.empty(0)] * count

    def rank(self) -> int:
        return int(self.own.rank)

    def all_gather_rows(self, x: Tensor) -> Tensor:
        self.brought[self.rank()] = x
        self.meeting.wait()
        gathered = torch.cat(self.brought)
        self.meeting.wait()
        return gathered

    def run(self, work: Callable[[], T]) -> list[T]:
        """The result of `work` in each thread."""

        def begin(rank: int) -> T:
            self.own.rank = rank
            return work()

        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(self.count) as pool:
            for module in (agreement, sharded_search):
                patch.setattr(module, "rank", self.rank)
                patch.setattr(module, "world_size", lambda: self.count)
                patch.setattr(module, "all_gather_rows", self.all_gather_rows)
            return list(pool.map(begin, range(self.count)))


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(60, 1500),
    distinct=st.integers(3, 300),
    processes=st.integers(1, 5),
    backend=st.sampled_from(["torch", "faiss"]),
    memory_mib=st.sampled_from([1, 512]),
)
def test_votes_depend_on_neither_order_nor_memory_nor_back_end_nor_number_of_processes(
    seed: int, rows: int, distinct: int, processes: int, backend: Backend, memory_mib: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # ties among copies only, which share their class: then the order may not matter
    originals = torch.randn(distinct, 64, generator=generator)
    classes = torch.randint(0, 5, (distinct,), generator=generator)
    copy_of = torch.randint(0, distinct, (rows,), generator=generator)
    queries = torch.randn(9, 64, generator=generator)
    config = KnnConfig(k=(1, 7, 50), backend="torch")
    expected = knn_predictions(originals[copy_of], classes[copy_of], queries, config=config)
    copy_of = copy_of[torch.randperm(rows, generator=generator)]

    def vote() -> dict[str, Tensor]:
        neighbours = find_neighbours(
            list(originals[copy_of].split(400)),
            queries,
            config=replace(config, backend=backend),
            memory_mib=memory_mib,
            search=nearest_neighbours_by_all,
        )
        return neighbours.votes(classes[copy_of], config)

    for found in Threads(processes).run(vote):
        assert found.keys() == expected.keys()
        for name, predicted in found.items():
            assert torch.equal(predicted, expected[name]), name


def test_one_process_needs_no_group() -> None:
    queries, gallery = tables()
    similarity, index = nearest_neighbours_sharded(queries, list(gallery.split(100)), K)
    expected = nearest_neighbours(queries, gallery, K)
    assert torch.equal(similarity, expected[0])
    assert torch.equal(index, expected[1])


def test_k_must_fit_the_gallery() -> None:
    queries, gallery = tables()
    with pytest.raises(InputError, match=r"^k: 301 .* 1 to 300;"):
        nearest_neighbours_sharded(queries, gallery, 301)
