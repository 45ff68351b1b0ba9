"""Batches of two views, as the loader makes them."""

import torch
from torch import Tensor

from ssl_bf.methods.batch import Batch


def pair(view_1: Tensor, view_2: Tensor, image_ids: Tensor | None = None) -> Batch:
    """Two views (N, ...) of the images 0 to N - 1, or of those named."""
    ids = torch.arange(len(view_1)) if image_ids is None else image_ids
    return Batch((view_1, view_2), ids)
