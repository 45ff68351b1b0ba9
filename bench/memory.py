"""Memory of k-NN in a gallery larger than it. Run: python -m bench.memory.

The gallery (1.28 million x 2048 float16, 5.2 GB) is written to a temporary folder and removed. With
`--device cuda` the queries lie on the GPU and the gallery passes through it; its own memory is not
counted.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.options import parse
from bench.rounds import append, machine, matmul_limit, measure
from linear_eval.search.exact import nearest_neighbours

MOST_MIB = 2048  # of anonymous memory above what the process held before


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Search once and report the peak."""
    options = parse("Peak anonymous memory of k-NN in a memory-mapped gallery.", argv)
    rows, width = (30_000, 64) if options.quick else (1_280_000, 2048)
    num_queries, k = 1000, 20
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(num_queries, width, generator=generator)
    asking = queries.to(options.device)
    limit = matmul_limit(torch.bfloat16, options.device)
    with TemporaryDirectory() as folder:
        gallery = written_gallery(Path(folder) / "gallery.f16", rows, width, queries)
        nearest_neighbours(asking[:200], queries, 1, metric="cosine")  # loads what is loaded late
        with PeakMemory() as peak:
            search = partial(nearest_neighbours, asking, gallery, k, metric="cosine")
            seconds, (_, index) = measure(search, options.device)
    found = float((index[:, 0].cpu() == planted(rows, num_queries)).double().mean())
    mib = peak.mib
    wrong = "" if found == 1 else f"only {100 * found:.1f} % of the planted neighbours found"
    wrong = wrong or (f"{mib:.0f} MiB, more than {MOST_MIB}" if mib > MOST_MIB else "")
    row = {
        "benchmark": "memory",
        "variant": "ours",
        "peak_anonymous_mib": round(mib, 1),
        "wall_seconds": round(seconds.wall, 2),
        "cpu_seconds": round(seconds.cpu, 2),
        "share_of_limit": {
            "bfloat16": round(2e-9 * num_queries * rows * width / seconds.wall / limit, 3)
        },
        "equivalent": not wrong,
        "wrong": wrong,
        "queries": num_queries,
        "gallery": rows,
        "width": width,
        "k": k,
        **machine(options.device),
    }
    print(f"peak {mib:.0f} MiB above the start, {seconds.wall:.1f} s  {wrong}")
    append(options.output / "memory.jsonl", [row])
    return [row]


def planted(rows: int, num_queries: int) -> Tensor:
    """The row that each query is hidden in."""
    return torch.arange(num_queries) * (rows // num_queries) + 17


def written_gallery(path: Path, rows: int, width: int, queries: Tensor) -> Tensor:
    """Random rows on disk, each query among them, as a tensor mapped into memory."""
    table = np.memmap(path, np.float16, "w+", shape=(rows, width))
    generator = torch.Generator().manual_seed(2)
    for start in range(0, rows, 20_000):
        part = torch.randn(min(20_000, rows - start), width, generator=generator)
        table[start : start + len(part)] = part.half().numpy()
    table[planted(rows, len(queries)).numpy()] = queries.half().numpy()
    table.flush()
    return torch.from_numpy(np.memmap(path, np.float16, "r+", shape=(rows, width)))


class PeakMemory:
    """Largest anonymous memory of this process while it is open, above that at its start.

    Pages of mapped files do not count: the system takes them back when it needs them.
    """

    def __init__(self) -> None:
        """Not yet open."""
        self.start = self.peak = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @property
    def mib(self) -> float:
        """The peak above the start."""
        return self.peak - self.start

    def __enter__(self) -> PeakMemory:
        self.start = self.peak = anonymous_mib()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            self.peak = max(self.peak, anonymous_mib())
            time.sleep(0.01)


def anonymous_mib() -> float:
    """RssAnon of this process (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return float(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


if __name__ == "__main__":
    main()
