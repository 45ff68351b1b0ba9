"""faiss indexes against exact search."""

import sys
from pathlib import Path

import pytest
import torch

from linear_eval.features.rows import unit_rows
from linear_eval.search.exact import nearest_neighbours
from linear_eval.search.faiss_index import (
    Kind,
    build_index,
    measure_recall,
    read_faiss,
    search_index,
    write_faiss,
)
from linear_eval.system.errors import InputError

pytest.importorskip("faiss", reason="faiss is not installed")


def rows(count: int, width: int = 16) -> torch.Tensor:
    return unit_rows(torch.randn(count, width, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_a_written_index_finds_what_exact_search_finds(tmp_path: Path, kind: Kind) -> None:
    gallery = rows(600)
    write_faiss(build_index(gallery, kind), tmp_path / "i.faiss")
    index = read_faiss(tmp_path / "i.faiss")
    scores, found = search_index(index, gallery[:20], 5)
    expected, exact = nearest_neighbours(gallery[:20], gallery, 5)
    assert scores.shape == found.shape == (20, 5)
    if kind == "flat":
        assert torch.equal(found, exact)
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert float((found == exact).double().mean()) > 0.8
    assert torch.equal(found[:, 0], torch.arange(20))


def test_recall_counts_what_is_missed() -> None:
    gallery = rows(600)
    assert measure_recall(build_index(gallery, "flat"), gallery) == 1
    narrow = build_index(gallery, "ivf")
    narrow.nprobe = 1
    recall = measure_recall(narrow, gallery)
    assert recall is not None
    asking = torch.linspace(0, 599, 500).round().long()
    _, exact = nearest_neighbours(gallery[asking], gallery, 11)
    _, found = search_index(narrow, gallery[asking], 11)
    hits = 0
    for own, near, seen in zip(asking.tolist(), exact.tolist(), found.tolist(), strict=True):
        hits += len(({*near} - {own}) & ({*seen} - {own}))
    assert recall == pytest.approx(hits / 5000, abs=1e-3)
    assert 0.1 < recall < 0.9


def test_recall_of_duplicates_is_whole_whichever_of_them_is_found() -> None:
    gallery = rows(1).repeat(200, 1)
    assert measure_recall(build_index(gallery, "flat"), gallery) == 1


@pytest.mark.parametrize(("count", "recall"), [(1, None), (2, 1.0), (10, 1.0)])
@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_few_rows_can_be_indexed_too(kind: Kind, count: int, recall: float | None) -> None:
    gallery = rows(count)
    index = build_index(gallery, kind)
    assert measure_recall(index, gallery) == recall
    assert int(search_index(index, gallery, 1)[1][0, 0]) == 0


def test_a_missing_faiss_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"^faiss: cannot be imported .* faiss-gpu or faiss-cpu"):
        build_index(rows(3), "flat")


def test_a_file_that_is_no_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "i.faiss").write_bytes(b"no index")
    with pytest.raises(InputError, match=r"i.faiss: is no faiss index"):
        read_faiss(tmp_path / "i.faiss")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_faiss(build_index(rows(3), "flat"), tmp_path / "gone" / "i.faiss")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full, of Linux")
@pytest.mark.parametrize("count", [3, 20_000])
def test_a_full_disk_is_noticed_whatever_fits_a_buffer(count: int) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_faiss(build_index(rows(count), "flat"), Path("/dev/full"))
