"""The batches of a run: views of each image, as a pure function of the step.

Shapes: N images on this device, S x S pixels of a view, M images in the store.
"""

from concurrent.futures import Future
from types import TracebackType

import torch
from torch import Tensor

from linear_eval.datasets.bad_images import check_bad_images
from linear_eval.system.errors import InputError
from linear_eval.system.serial_threads import serial_threads
from ssl_bf.methods.batch import Batch
from ssl_bf.pixels.packed_images import Images, LooseImages, PackedImages
from ssl_bf.pixels.store import ImageStore, decode_threads
from ssl_bf.samplers.sampler import Sampler
from ssl_bf.views.recipes import ViewsConfig, make_views
from ssl_bf.views.view_draws import ViewDraws

# Of N images, and (N,) their indices in the split and the numbers of their showings.
Read = tuple[PackedImages | LooseImages, Tensor, Tensor]


class ViewLoader:
    """Makes the batch of any step.

    Which images a batch shows is the sampler's; a view is a function of (seed, epoch, image, view,
    showing): neither the ranks nor a restart change them.

    Images that have to be decoded or copied are read one batch ahead in a thread, unless a single
    core would have to do both: taking turns, they push each other out of its cache. Views are made
    in the caller's thread: on a CPU, two that both compute on all cores slow each other down.
    Not thread-safe; close it when done.
    """

    def __init__(  # noqa: PLR0913 - what identifies a batch, each by its name
        self,
        images: ImageStore,
        views: ViewsConfig,
        sampler: Sampler,
        *,
        rank: int,
        world_size: int,
        device: torch.device,
        channels_last: bool,
        compiled: bool = False,
        views_per_image: int = 2,
        labels: Tensor | None = None,
        max_bad: float = 1.0,
    ) -> None:
        """Check that at least one whole batch exists.

        Args:
            images: where the pixels come from; closed with the loader.
            views: how views are made.
            sampler: which images a batch shows, of all ranks together.
            rank: of this process.
            world_size: number of processes.
            device: where views are made and left.
            channels_last: memory format of the views.
            compiled: see `make_views`.
            views_per_image: how many views of each image a batch has.
            labels: (M,) int64, where batches shall have labels.
            max_bad: share of the images that may be skipped.

        Raises:
            InputError: fewer images than a batch, too many bad ones, a batch that the ranks cannot
                share, or more views than lightly makes.
        """
        batch_size = sampler.pool.batch_size
        if batch_size % world_size:
            raise InputError(
                f"batch_size: {batch_size} cannot be shared by {world_size} processes, expected a "
                "multiple of their number; change batch_size or the number of processes"
            )
        self._max_bad = max_bad
        self._check_bad(images)
        good = len(images) - len(images.bad_images)
        if good < batch_size:
            raise InputError(
                f"batch_size: {batch_size} is more than the {good} training images that can be "
                "decoded, expected at least one whole batch; lower batch_size or add images"
            )
        if views.engine == "lightly" and views_per_image > 2:
            raise InputError(
                f"views.engine: lightly makes 2 views of an image, and this method takes "
                f"{views_per_image}; set views.engine=batched"
            )
        assert sampler.pool.size == len(images), (sampler.pool.size, len(images))
        self.steps_per_epoch = sampler.steps_per_epoch
        self._images = images
        self._views = views
        self._sampler = sampler
        self._seed = sampler.pool.seed
        local = batch_size // world_size
        self._places = torch.arange(rank * local, (rank + 1) * local)
        self._device = _with_index(device)
        self._channels_last = channels_last
        self._compiled = compiled
        self._views_per_image = views_per_image
        self._labels = labels
        self._ahead: tuple[int, Future[Read]] | None = None
        one_core = device.type == "cpu" and decode_threads() == 1
        reads_ahead = images.takes_time and not one_core
        self._reader = serial_threads(1, "next-batch") if reads_ahead else None

    @property
    def images(self) -> ImageStore:
        """Where the pixels come from."""
        return self._images

    def batch(self, step: int) -> Batch:
        """The batch of optimizer step `step`, counted from 0 over all epochs.

        Raises:
            BadImageError: an image cannot be decoded (met here, even when the thread met it).
        """
        packed, ids, showings = self._read_ahead(step)
        self._check_bad(self._images)
        epoch = step // self.steps_per_epoch
        shown = ids + showings * len(self._images)  # one number for each showing of an image
        if self._views.engine == "lightly":
            views = self._lightly_views(packed.images(), shown, epoch=epoch)
        else:
            images = packed.to(self._device).for_views()  # once for all of them
            views = self._views_of(images, shown, epoch=epoch)
        labels = None
        if self._labels is not None:
            labels = self._labels[ids].to(self._device, non_blocking=True)
        return Batch(views, ids.to(self._device, non_blocking=True), labels)

    def _check_bad(self, images: ImageStore) -> None:
        """Refuse too many images that cannot be read, as far as they are known."""
        if images.bad_images:
            lines = [images.bad_images[row] for row in sorted(images.bad_images)]
            check_bad_images(lines, len(images), self._max_bad)

    def close(self) -> None:
        """Stop the threads; a batch that is being read is dropped."""
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)
        self._images.close()

    def __enter__(self) -> "ViewLoader":
        """Return the loader itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the loader."""
        self.close()

    def _lightly_views(self, images: Images, ids: Tensor, *, epoch: int) -> tuple[Tensor, ...]:
        """The views, made on the CPU."""
        from ssl_bf.views.lightly_views import make_lightly_views

        layout = torch.channels_last if self._channels_last else torch.contiguous_format
        images = [image.cpu() for image in images]
        pair = make_lightly_views(images, ids, self._views, seed=self._seed, epoch=epoch)
        return tuple(
            view.to(self._device, memory_format=layout, non_blocking=True)
            for view in pair[: self._views_per_image]
        )

    def _views_of(
        self, images: Images | PackedImages, ids: Tensor, *, epoch: int
    ) -> tuple[Tensor, ...]:
        """The views, made on the device."""
        numbers = range(1, self._views_per_image + 1)
        views = make_views(
            images,
            [ViewDraws(self._seed, epoch, number, ids) for number in numbers],
            self._views,
            channels_last=self._channels_last,
            compiled=self._compiled,
        )
        return tuple(views)

    def _read_ahead(self, step: int) -> Read:
        """The images of a step; those of the next are read meanwhile if that takes time."""
        if self._reader is None:
            return self._read(step)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == step:
            future = ahead[1]
        else:
            future = self._reader.submit(self._read, step)
        read = future.result()
        self._ahead = step + 1, self._reader.submit(self._read, step + 1)
        return read

    def _read(self, step: int) -> Read:
        """What this rank reads of the batch."""
        epoch, number = divmod(step, self.steps_per_epoch)
        rows, showings = self._sampler.deal(epoch, number, self._places)
        substitutes = [
            self._sampler.substitutes(epoch, number, place) for place in self._places.tolist()
        ]
        images, ids = self._images.read(rows, substitutes=substitutes)
        return images, ids, showings


def _with_index(device: torch.device) -> torch.device:
    """The device with its number: the current one is a matter of the thread."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
