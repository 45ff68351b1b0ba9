"""Images of any size, one after the other in one buffer: in memory, on a GPU, or mapped to a file.

Shapes: M images, B bytes. The channels of a pixel lie together: image i is H x W x 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Images = Tensor | list[Tensor]  # (N, 3, H, W) uint8, or N of unequal size

CHANNELS = 3


@dataclass(frozen=True, eq=False)
class PackedImages:
    """Where every image begins in the buffer, and its size.

    Attributes:
        data: (B,) uint8 on any device.
        starts: (M,) int64 on the CPU, index of the first byte of each image.
        sizes: (M, 2) int64 on the CPU, height and width; 0 x 0 for an image that there is not.
    """

    data: Tensor
    starts: Tensor
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.starts)

    @classmethod
    def of(cls, images: Sequence[Tensor], *, pinned: bool = False) -> PackedImages:
        """Copy images (3, H_i, W_i) uint8 from the CPU into one buffer, maybe a pinned one."""
        sizes = torch.tensor([image.shape[1:] for image in images])
        data = _new_buffer(int(num_bytes(sizes).sum()), pinned=pinned)
        torch.cat([image_bytes(image) for image in images], out=data)
        return cls(data, starts_of(sizes), sizes)

    def __getitem__(self, rows: Tensor | slice) -> PackedImages:
        """Some images, in the order given; nothing is copied."""
        return replace(self, starts=self.starts[rows], sizes=self.sizes[rows])

    def compact(self, *, pinned: bool = False, threads: Executor | None = None) -> PackedImages:
        """A copy that lies in memory, without what is between the images.

        Args:
            pinned: into memory that a GPU can copy from while something else runs.
            threads: copy in these: what lies in a file is then read in parallel.
        """
        starts = starts_of(self.sizes)
        data = _new_buffer(int(num_bytes(self.sizes).sum()), pinned=pinned)
        copy = replace(self, data=data, starts=starts)

        def copy_part(rows: Tensor) -> None:
            parts, first = self[rows], int(starts[rows[0]])
            last = int(rows[-1])
            end = int(starts[last] + num_bytes(self.sizes[last]))
            torch.cat(parts.flat(), out=data[first:end])

        if len(self):
            chunks = torch.arange(len(self)).tensor_split(min(len(self), 64 if threads else 1))
            list((threads.map if threads else map)(copy_part, chunks))
        return copy

    def to(self, device: torch.device) -> PackedImages:
        """The same on a device; a copy from pinned memory does not wait for the device."""
        return replace(self, data=self.data.to(device, non_blocking=True))

    def flat(self) -> list[Tensor]:
        """Each image as its bytes: M tensors (H * W * 3,), parts of the buffer."""
        ends = self.starts + num_bytes(self.sizes)
        pairs = zip(self.starts.tolist(), ends.tolist(), strict=True)
        return [self.data[start:end] for start, end in pairs]

    @property
    def share_a_size(self) -> bool:
        """Whether there are images, all of one size."""
        return len(self) > 0 and bool((self.sizes == self.sizes[0]).all())

    def for_views(self) -> Images | PackedImages:
        """The images as `make_view` wants them: unequal ones stay together on a GPU."""
        on_cpu = self.data.device.type == "cpu"
        return self.images() if on_cpu or self.share_a_size else self

    def images(self) -> Images:
        """All images: (M, 3, H, W) where they share a size, else M tensors (3, H_i, W_i)."""
        if not self.share_a_size:
            shapes = self.sizes.tolist()
            return [
                flat.view(height, width, CHANNELS).permute(2, 0, 1)
                for flat, (height, width) in zip(self.flat(), shapes, strict=True)
            ]
        height, width = self.sizes[0].tolist()
        each = height * width * CHANNELS
        rows, rest = self.starts // each, self.starts % each
        if bool(rest.any()):  # of one size by chance, in a buffer of others
            batch = torch.stack(self.flat())
        else:
            aligned = self.data[: len(self.data) // each * each].view(-1, each)
            is_whole = len(rows) == len(aligned) and torch.equal(rows, torch.arange(len(rows)))
            batch = aligned if is_whole else aligned[rows.to(self.data.device, non_blocking=True)]
        return batch.view(-1, height, width, CHANNELS).permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class LooseImages:
    """Images on the CPU, each in memory of its own: nothing is copied where they are used there.

    Attributes:
        each: M tensors (3, H_i, W_i) uint8.
    """

    each: list[Tensor]

    def to(self, device: torch.device) -> LooseImages | PackedImages:
        """The same on a device."""
        return self if device.type == "cpu" else PackedImages.of(self.each).to(device)

    def for_views(self) -> Images:
        """See `PackedImages.for_views`."""
        return self.images()

    def images(self) -> Images:
        """See `PackedImages.images`."""
        if any(image.shape != self.each[0].shape for image in self.each):
            return self.each
        return PackedImages.of(self.each).images()


def device_of(images: Images | PackedImages) -> torch.device:
    """Where the pixels lie; of at least one image."""
    return images.data.device if isinstance(images, PackedImages) else images[0].device


def sizes_of(images: Images | PackedImages) -> Tensor:
    """(N, 2) int64 on the CPU: height and width of every image."""
    if isinstance(images, PackedImages):
        return images.sizes
    if isinstance(images, Tensor):
        return torch.tensor([images.shape[-2:]]).expand(len(images), -1)
    return torch.tensor([image.shape[-2:] for image in images])


def num_bytes(sizes: Tensor) -> Tensor:
    """Bytes of images of these sizes; (..., 2) -> (...) int64."""
    return sizes.prod(-1) * CHANNELS


def starts_of(sizes: Tensor) -> Tensor:
    """Where images begin that lie one after the other; (M, 2) -> (M,) int64."""
    each = num_bytes(sizes)
    return each.cumsum(0) - each


def image_bytes(image: Tensor) -> Tensor:
    """(3, H, W) uint8 -> (H * W * 3,)."""
    return image.permute(1, 2, 0).reshape(-1)


def _new_buffer(size: int, *, pinned: bool) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
