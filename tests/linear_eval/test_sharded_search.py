"""Run: pytest tests/linear_eval/test_sharded_search.py (starts two processes over gloo)."""

import os
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from linear_eval import distributed
from linear_eval.errors import InputError
from linear_eval.search import nearest_neighbours
from linear_eval.sharded_search import nearest_neighbours_sharded

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
