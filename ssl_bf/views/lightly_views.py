"""Views made by lightly's own transforms on PIL images, one at a time: the reference path.

Slow (tens of images per second and core at 224 px); it is here to show that the batched recipes
train alike. lightly draws from the global generators of Python, NumPy and torch, so these are
seeded from the image's key while its views are made, and put back afterwards. Other threads must
not draw from them meanwhile.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import key
from ssl_bf.pixels.packed_images import Images
from ssl_bf.views.recipes import ViewsConfig

TwoViewTransform = Callable[[Image.Image], list[Tensor]]


def make_lightly_views(
    images: Images,
    image_ids: Tensor,
    config: ViewsConfig,
    *,
    seed: int,
    epoch: int,
) -> tuple[Tensor, Tensor]:
    """Both views of every image; those of an image are a function of (seed, epoch, image id).

    Args:
        images: N tensors (3, H_i, W_i) uint8 on the CPU.
        image_ids: (N,) int64.
        config: with the recipe moco_v2, moco_v3 or simsiam.
        seed: of the run.
        epoch: from 0.

    Returns:
        Two tensors (N, 3, S, S) float32, normalised.

    Raises:
        InputError: lightly is not installed.
    """
    transform = lightly_transform(config)
    pairs = []
    for image, image_id in zip(images, image_ids.tolist(), strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        with seeded_global_generators(key(seed, "lightly views", epoch, image_id)):
            pairs.append(transform(picture))
    first, second = zip(*pairs, strict=True)
    return torch.stack(first), torch.stack(second)


def lightly_transform(config: ViewsConfig) -> TwoViewTransform:
    """Transform of lightly for a recipe, with the sizes and normalisation of the config.

    MoCo-v3's views are BYOL's. `blur: false` sets the probability of blur to zero.

    Raises:
        InputError: lightly is not installed.
    """
    try:
        from lightly.transforms.byol_transform import (
            BYOLTransform,
            BYOLView1Transform,
            BYOLView2Transform,
        )
        from lightly.transforms.moco_transform import MoCoV2Transform
        from lightly.transforms.simsiam_transform import SimSiamTransform
    except ModuleNotFoundError as error:
        raise InputError(
            f"views.engine: lightly cannot be imported ({error}); pip install lightly, or set "
            "views.engine=batched"
        ) from error
    settings: dict[str, Any] = {
        "input_size": config.size,
        "min_scale": config.min_scale,
        "normalize": {"mean": list(config.mean), "std": list(config.std)},
    }
    if not config.blur:
        settings["gaussian_blur"] = 0.0
    if config.recipe == "moco_v3":
        views = BYOLView1Transform(**settings), BYOLView2Transform(**settings)
        return cast("TwoViewTransform", BYOLTransform(*views))
    of_recipe = {"moco_v2": MoCoV2Transform, "simsiam": SimSiamTransform}
    return cast("TwoViewTransform", of_recipe[config.recipe](**settings))


@contextmanager
def seeded_global_generators(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's (CPU) global generators; restore their states at exit."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
