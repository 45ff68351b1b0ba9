"""The section `views` of a run.

Its recipes are functions in `recipes.py` and `label_recipes.py`.
"""

import math
from dataclasses import dataclass
from typing import Literal

from linear_eval.system.errors import InputError
from ssl_bf.pixels.preparation import Preparation


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """How two random views are made of an image.

    Attributes:
        recipe: named after the paper; simsiam is moco_v2's. For labels: crop_flip, and pad_crop
            for small images.
        size: side of a view in pixels.
        min_scale: smallest crop, as a part of the image's area.
        blur: whether the recipe's blur is applied; False for 32 px images (SimSiam, CIFAR-10).
        engine: batched is ours; lightly runs its PIL transforms one image at a time, for
            comparison.
        mean: subtracted per channel, of images in [0, 1].
        std: divided by, per channel.
        auto_augment: with pad_crop: AutoAugment's policy for CIFAR.
        cutout: with pad_crop: side of a square that is cut out, in pixels; 0 for none.
        short_side: of an image before views are cut out of it, see `Preparation`.
        jpeg_quality: likewise.
    """

    recipe: Literal["moco_v2", "moco_v3", "simsiam", "textures", "crop_flip", "pad_crop"]
    size: int
    min_scale: float = 0.2
    blur: bool = True
    engine: Literal["batched", "lightly"] = "batched"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    auto_augment: bool = False
    cutout: int = 0
    short_side: int | None = None
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        if self.size < 2:
            raise ValueError(f"size: must be >= 2, got {self.size}")
        if not 0 < self.min_scale <= 1:
            raise ValueError(f"min_scale: must be in (0, 1], got {self.min_scale}")
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean: must be finite, got {self.mean}")
        if not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"std: must be > 0, got {self.std}")
        if self.engine == "lightly" and self.recipe not in ("moco_v2", "moco_v3", "simsiam"):
            raise InputError(
                f"engine: lightly has no transform like the recipe '{self.recipe}', expected "
                "moco_v2, moco_v3 or simsiam; set engine: batched"
            )
        if self.cutout < 0:
            raise ValueError(f"cutout: must be >= 0, got {self.cutout}")
        for name in ("auto_augment", "cutout"):
            if getattr(self, name) and self.recipe != "pad_crop":
                raise ValueError(f"{name}: goes with recipe=pad_crop alone; leave it out")
        _ = self.preparation  # which checks its own values

    @property
    def preparation(self) -> Preparation:
        """What happens to an image once, before views are cut out of it."""
        return Preparation(short_side=self.short_side, jpeg_quality=self.jpeg_quality)
