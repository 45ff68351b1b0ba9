"""A module that a Python program hands in, as the backbone of a configuration."""

from __future__ import annotations

import copy

from torch import nn

from linear_eval.backbones.configs import GivenBackboneConfig
from linear_eval.backbones.own_module import width_of


class GivenModule(GivenBackboneConfig):
    """The section `backbone` with the module itself; no dataclass, so that it is no key."""

    def __init__(self, asked: GivenBackboneConfig, module: nn.Module, image_size: int):
        """Measure the module's width.

        Args:
            asked: the section that names it.
            module: normalised images (N, 3, H, W) -> (N, D); stays as it is.
            image_size: of the training views, in pixels.

        Raises:
            InputError: it makes no features of such images.
        """
        super().__init__(name=asked.name, architecture=asked.architecture)
        object.__setattr__(self, "_module", (module, width_of(module, image_size)))

    @property
    def width(self) -> int:
        """Of its features."""
        width: int = self.__dict__["_module"][1]
        return width

    def build(self) -> nn.Module:
        """A copy of the module, with its weights."""
        module: nn.Module = self.__dict__["_module"][0]
        return copy.deepcopy(module).cpu()
