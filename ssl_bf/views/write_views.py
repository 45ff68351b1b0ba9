"""Applies what was drawn for a batch of views, in the way that suits device and size.

Shapes: N images of a batch, S x S pixels of a view.
"""

from collections.abc import Sequence

from torch import Tensor

from ssl_bf.pixels.packed_images import Images, PackedImages
from ssl_bf.views.batch_ops import normalize_into
from ssl_bf.views.image_colours import Normalization
from ssl_bf.views.image_ops import prefer_one_at_a_time
from ssl_bf.views.padded_crops import PaddedCrops
from ssl_bf.views.photo_views import Photos, view_of_one
from ssl_bf.views.texture_views import TextureWindows
from ssl_bf.views.uniform_views import write_compiled

# Float32 views that a CPU works on at a time: small enough for its cache, large enough to hide the
# cost of calling some 500 operations. At 32 px they are 256.
CHUNK_BYTES = 3 * 2**20


def write_views(
    views: Sequence[Tensor],
    images: Images | PackedImages,
    drawn: Sequence[Photos | TextureWindows | PaddedCrops],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    compiled: bool,
) -> None:
    """Write normalised views.

    Args:
        views: one or more of (N, 3, S, S) float32, overwritten; any memory format.
        images: (N, 3, H, W) uint8, N tensors (3, H_i, W_i) uint8, or N packed images.
        drawn: for each of `views`, all by one recipe.
        mean: subtracted per channel.
        std: divided by, per channel.
        compiled: see `make_views`.
    """
    one_at_a_time = prefer_one_at_a_time(views[0].device, views[0].shape[-1])
    photos = [each for each in drawn if isinstance(each, Photos)]
    if one_at_a_time and photos and not isinstance(images, PackedImages):
        _write_one_by_one(views, images, photos, Normalization.of(mean, std))
        return
    for view, each in zip(views, drawn, strict=True):
        if compiled and isinstance(each, Photos) and each.blur_fits:
            write_compiled(view, images, each, mean, std)
        else:
            _write_in_parts(view, images, each, mean, std)


def _write_one_by_one(
    views: Sequence[Tensor],
    images: Images,
    photos: Sequence[Photos],
    normalization: Normalization,
) -> None:
    """All views of an image while it lies in the processor's cache, then those of the next."""
    places = zip(*views, strict=True)
    drawn = zip(*(each.each() for each in photos), strict=True)
    for image, views_of_it, photos_of_it in zip(images, places, drawn, strict=True):
        for view, photo in zip(views_of_it, photos_of_it, strict=True):
            normalization.write(view, view_of_one(image, photo, view.shape[-1]))


def _write_in_parts(
    views: Tensor,
    images: Images | PackedImages,
    drawn: Photos | TextureWindows | PaddedCrops,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """A batch at once on a GPU, as much of it as the cache holds on a CPU."""
    count, size = len(views), views.shape[-1]
    at_once = max(8, CHUNK_BYTES // (12 * size * size)) if views.device.type == "cpu" else count
    for start in range(0, count, at_once):
        part = slice(start, start + at_once)
        pixels = drawn[part].views(images[part], size)
        normalize_into(views[part], pixels, mean, std)
