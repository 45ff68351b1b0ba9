"""BatchFormer as a plain module, for somebody's own training loop.

Shapes: N batch, D width, S streams.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import StepContext
from ssl_bf.relations.batchformer import BatchFormerConfig
from ssl_bf.relations.surroundings import Samples


class BatchFormer(nn.Module):
    """Features (N, D) -> streams (S, N, D): the plain features, and in training the related ones.

    Stream 0 is the input, bit for bit. In eval mode S is 1, so nothing has to be stripped. Whatever
    follows runs over all S * N rows, `streams.flatten(0, 1)`; call it for one view at a time, or
    the two views of an image would see each other.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 1,
        heads: int = 4,
        feedforward: float = 1.0,
        dropout: float = 0.5,
        context: int | Literal["local"] = 32,
    ) -> None:
        """Draw the weights from torch's global generator, as any module does.

        Args:
            width: D, a multiple of `heads`.
            layers: of the transformer, >= 1.
            heads: of its attention, >= 1.
            feedforward: hidden width over D, > 0.
            dropout: in [0, 1).
            context: rows are dealt anew into groups of so many, which see each other; it divides N.
                `local`: all rows of the batch.

        Raises:
            InputError: a value is out of range.
        """
        super().__init__()
        if not isinstance(width, int) or width < 1:
            raise InputError(f"width: {width!r}, expected a whole number >= 1")
        self.width = width
        if not (isinstance(context, int) or context == "local"):
            raise InputError(f"context: expected a whole number or 'local', got {context!r}")
        try:
            config = BatchFormerConfig(
                layers=layers,
                heads=heads,
                feedforward=feedforward,
                dropout=dropout,
                context=context,
            )
        except ValueError as error:
            raise InputError(str(error)) from error
        self.context: int | Literal["local"] = context
        self.relation = config.build(width, width, has_key_side=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) -> (S, N, D); groups and dropout are drawn from torch's global generator.

        Raises:
            InputError: the features are no (N, D) floats; or, in training, the groups do not
                divide N.
        """
        if features.ndim != 2 or features.shape[1] != self.width:
            raise InputError(
                f"features: {tuple(features.shape)}, expected rows (N, {self.width}); flatten them"
            )
        if not features.is_floating_point():
            raise InputError(f"features: are {features.dtype}, expected floats; convert them")
        if self.training and self.context != "local" and len(features) % self.context:
            raise InputError(
                f"context: groups of {self.context} do not divide a batch of {len(features)}; "
                "choose a divisor of it, or 'local'"
            )
        step = int(torch.randint(2**62, ()))  # names a regrouping
        samples = Samples(torch.arange(len(features)))  # each row another image
        return self.relation.queries(features, samples, StepContext(step=step), view=1)
