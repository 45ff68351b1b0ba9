"""faiss, imported when it is used, after torch: the other order may crash, as both bring CUDA."""

from __future__ import annotations

from typing import Any

import torch

from linear_eval.system.errors import InputError
from linear_eval.system.printable import one_line


def open_faiss() -> Any:
    """The module faiss, with as many threads as torch has.

    Raises:
        InputError: it is missing or broken.
    """
    try:
        import faiss

        _ = faiss.IndexFlatIP, faiss.IndexIVFFlat, faiss.IndexHNSWFlat
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        raise InputError(
            f"faiss: cannot be imported ({one_line(str(error))}), expected faiss-gpu or faiss-cpu, "
            "not both; install one of them (k-NN does without: backend=torch)"
        ) from error
    faiss.omp_set_num_threads(torch.get_num_threads())  # it would count cores that are not ours
    return faiss
