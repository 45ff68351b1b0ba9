"""k-nearest neighbours, exact: ours, faiss, lightly, scikit-learn. Run: python -m bench.knn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.options import parse
from bench.rounds import compare, unit_classes
from linear_eval.evaluators.knn import knn_predictions
from linear_eval.evaluators.neighbour_votes import KnnConfig
from linear_eval.search.exact import nearest_neighbours

CLASSES, TEMPERATURE = 10, 0.1


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Compare the searches first, then the classifiers."""
    options = parse("Exact k-NN against faiss, lightly and scikit-learn.", argv)
    queries, rows, width, k = (300, 9000, 32, 20) if options.quick else (10_000, 50_000, 512, 200)
    gallery, labels = (x.to(options.device) for x in unit_classes(rows, width, CLASSES, seed=1))
    asking, truth = (x.to(options.device) for x in unit_classes(queries, width, CLASSES, seed=2))
    facts = {"queries": queries, "gallery": rows, "width": width, "k": k}
    settings: dict[str, Any] = {
        "options": options,
        "facts": facts,
        "flop": 2.0 * queries * rows * width,
    }
    searches: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: nearest_neighbours(asking, gallery, k)[1],
        "product and topk, as lightly": lambda: product_search(asking, gallery, k),
        "faiss IndexFlatIP": faiss_search(asking, gallery, k),
    }
    if options.device == "cpu":
        searches["scikit-learn NearestNeighbors"] = sklearn_search(asking, gallery, k)
    classifiers: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: our_classes(asking, gallery, labels, k),
        "lightly knn_predict": lambda: lightly_classes(asking, gallery, labels, k),
    }

    def same_accuracy(ours: Tensor, theirs: Tensor) -> str:
        a, b = (float((x.cpu() == truth.cpu()).double().mean()) for x in (ours, theirs))
        return "" if abs(a - b) <= 1e-3 else f"accuracy {a:.4f} and {b:.4f}"

    found = compare("knn_search", searches, check=same_neighbours, **settings)
    return found + compare("knn", classifiers, check=same_accuracy, **settings)


def same_neighbours(ours: Tensor, theirs: Tensor) -> str:
    """Whether rows (Q, k) hold the same neighbours but for near-ties at the last place."""
    left, right = ours.cpu().sort(dim=1).values, theirs.cpu().sort(dim=1).values
    pairs = torch.cat([left, right], dim=1).sort(dim=1).values
    shared = float((pairs[:, 1:] == pairs[:, :-1]).sum(dim=1).double().mean()) / ours.shape[1]
    return "" if shared > 0.999 else f"{100 * (1 - shared):.2f} % other neighbours"


def product_search(queries: Tensor, gallery: Tensor, k: int) -> Tensor:
    """Lightly's search without its vote: float32 products of 256 queries, then topk."""
    bank = gallery.T.contiguous()
    return torch.cat([torch.mm(part, bank).topk(k, dim=-1).indices for part in queries.split(256)])


def faiss_search(queries: Tensor, gallery: Tensor, k: int) -> Callable[[], Tensor]:
    """Building the index is part of the search, as normalising and rounding is of ours."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())

    def search() -> Tensor:
        index: Any = faiss.IndexFlatIP(gallery.shape[1])
        if gallery.device.type == "cuda":
            index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
        index.add(gallery.cpu().numpy())
        return torch.from_numpy(index.search(queries.cpu().numpy(), k)[1])

    return search


def sklearn_search(queries: Tensor, gallery: Tensor, k: int) -> Callable[[], Tensor]:
    """Brute force by euclidean distance, the same order for unit rows."""
    from sklearn.neighbors import NearestNeighbors

    def search() -> Tensor:
        index = NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=torch.get_num_threads())
        found = index.fit(gallery.numpy()).kneighbors(queries.numpy(), return_distance=False)
        return torch.from_numpy(found)

    return search


def our_classes(queries: Tensor, gallery: Tensor, labels: Tensor, k: int) -> Tensor:
    """Weighted vote by cosine."""
    config = KnnConfig(k=(k,), temperature=TEMPERATURE)
    return knn_predictions(gallery, labels, queries, config=config)[f"k={k}"]


def lightly_classes(queries: Tensor, gallery: Tensor, labels: Tensor, k: int) -> Tensor:
    """In batches of 256, as lightly's own benchmarks call it."""
    from lightly.utils.benchmarking.knn import knn_predict

    bank = gallery.T.contiguous()
    found = [knn_predict(q, bank, labels, CLASSES, k, TEMPERATURE) for q in queries.split(256)]
    return torch.cat(found)[:, 0]


if __name__ == "__main__":
    main()
