import sys
from types import ModuleType
from typing import get_args

import pytest
import torch
from torch import Tensor

from linear_eval.features.rows import Metric, feature_rows
from linear_eval.search.shortlist import Backend, Shortlist, open_backend, shortlist
from linear_eval.system.errors import InputError

CPU = torch.device("cpu")
BACKENDS = get_args(Backend)


def rows_of(n: int, seed: int, offset: float = 0.0) -> Tensor:
    return offset + torch.randn(n, 24, generator=torch.Generator().manual_seed(seed))


def shortlist_of(
    queries: Tensor,
    gallery: Tensor,
    size: int,
    backend: Backend,
    memory: int = 2**26,
    metric: Metric = "inner",
) -> Shortlist:
    open_tile = open_backend(backend, CPU)
    return shortlist(
        feature_rows(queries, metric),
        feature_rows(gallery, metric),
        size,
        open_tile=open_tile,
        device=CPU,
        memory=memory,
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("memory", [2000, 2**26])
def test_candidates_are_the_rows_with_the_largest_products(backend: Backend, memory: int) -> None:
    queries, gallery = rows_of(15, 0), rows_of(70, 1)
    expected = (queries.double() @ gallery.double().T).topk(9).indices.sort(dim=1).values
    found = shortlist_of(queries, gallery, 9, backend, memory=memory)
    assert torch.equal(found.index.sort(dim=1).values, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_products_differ_from_the_true_ones_by_one_shift_a_query(
    backend: Backend, offset: float
) -> None:
    queries, gallery = rows_of(15, 0, offset), rows_of(70, 1, offset)
    found = shortlist_of(queries, gallery, 70, backend)
    true = (queries.double() @ gallery.double().T).gather(1, found.index)
    shift = true - found.products
    spread = shift.amax(dim=1) - shift.amin(dim=1)
    assert (spread <= 2 * found.error).all()
    # and the bound is worth something: about D * 2**-24 of |query| * |centred row|
    assert (found.error < 1e-5 * queries.norm(dim=1) * (gallery - offset).norm(dim=1).amax()).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_products_are_negative_squared_distances_but_for_one_shift_a_query(
    backend: Backend, offset: float
) -> None:
    queries, gallery = rows_of(15, 0, offset), rows_of(70, 1, offset)
    found = shortlist_of(queries, gallery, 70, backend, metric="euclidean")
    true = -torch.cdist(queries.double(), gallery.double()).square().gather(1, found.index)
    shift = true - found.products
    spread = shift.amax(dim=1) - shift.amin(dim=1)
    assert (spread <= 2 * found.error).all()
    nearest = true.topk(9).indices
    assert torch.equal(
        shortlist_of(queries, gallery, 9, backend, metric="euclidean").index.sort(dim=1).values,
        found.index.gather(1, nearest).sort(dim=1).values,
    )


@pytest.mark.parametrize("broken", [None, ModuleType("faiss")])
def test_a_missing_or_broken_faiss_is_named(
    broken: ModuleType | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", broken)
    with pytest.raises(InputError, match=r"^faiss: .*backend=torch"):
        open_backend("faiss", CPU)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_other_back_ends_do_without_faiss(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert shortlist_of(rows_of(2, 0), rows_of(9, 1), 3, backend).index.shape == (2, 3)
