"""Some rows of a batch: (N, 3, H, W), laid out channel by channel."""

from torch import Tensor


def take_rows(images: Tensor, rows: Tensor) -> Tensor:
    """Copies of some rows; `rows` (R,) int64 on the CPU, so that nothing waits for the device."""
    planes = images.transpose(0, 1).index_select(1, rows.to(images.device, non_blocking=True))
    return planes.transpose(0, 1)


def put_rows_(images: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """Replace some rows in place, and return `images`; `rows` (R,) int64 on the CPU.

    On a CPU one after the other: there `index_copy_` moves numbers one by one, 7 times slower.
    """
    if images.device.type != "cpu":
        return images.index_copy_(0, rows.to(images.device, non_blocking=True), values)
    for row, value in zip(rows.tolist(), values, strict=True):
        images[row] = value
    return images
