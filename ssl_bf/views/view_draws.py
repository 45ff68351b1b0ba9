"""The random numbers of one view.

Shapes: N images.
"""

from dataclasses import dataclass

from torch import Tensor

from ssl_bf.keyed_random import key, uniform


@dataclass(frozen=True, eq=False)
class ViewDraws:
    """Names a view of some images, and with it every number drawn for it.

    Attributes:
        seed: of the run.
        epoch: from 0.
        view: of the image, from 1.
        image_ids: (N,) int64 on the CPU, indices in the split.
    """

    seed: int
    epoch: int
    view: int
    image_ids: Tensor

    def uniform(self, purpose: str, count: int) -> Tensor:
        """Numbers for one purpose; those of an image do not depend on the other images.

        Args:
            purpose: what they decide; another purpose gets independent ones.
            count: how many per image.

        Returns:
            (N, count) float32 in [0, 1), on the CPU: shapes may depend on them without a wait.
        """
        seed_key = key(self.seed, "views", self.epoch, self.view, purpose)
        return uniform(seed_key, self.image_ids, count)
