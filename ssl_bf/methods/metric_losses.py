"""The losses of metric learning, each with its keys and what it trains.

Shapes: S streams, N batch, P projection width, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ssl_bf.losses.class_info_nce import class_info_nce
from ssl_bf.losses.pair_loss import MIN_TEMPERATURE, pair_loss
from ssl_bf.losses.proxy_anchor import proxy_anchor


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Pairs of a class against the images in their two slots (BGFormer's authors)."""

    needs_pairs: ClassVar[bool] = True
    name: Literal["pairs"] = "pairs"
    temperature: float = 0.2  # divides the cosines

    def __post_init__(self) -> None:
        """Refuse what float32 cannot hold."""
        if self.temperature < MIN_TEMPERATURE:
            raise ValueError(
                f"temperature: must be >= {MIN_TEMPERATURE} (float32), got {self.temperature}"
            )

    def build(self, classes: int, width: int) -> Pairs:
        """Make the loss; it trains nothing."""
        del classes, width
        return Pairs(self.temperature)


class Pairs(nn.Module):
    """(S, N, P) and labels (N,) -> (S,)."""

    def __init__(self, temperature: float) -> None:
        """See `pair_loss`."""
        super().__init__()
        self.temperature = temperature

    def forward(self, rows: Tensor, labels: Tensor) -> Tensor:
        """See `pair_loss`."""
        return pair_loss(rows, labels, self.temperature)


@dataclass(frozen=True, kw_only=True)
class ClassInfoNceConfig:
    """All images of a class against the batch (supervised contrastive learning)."""

    needs_pairs: ClassVar[bool] = True
    name: Literal["info_nce"] = "info_nce"
    temperature: float = 0.1  # divides the cosines

    def __post_init__(self) -> None:
        """Refuse what does not divide."""
        if self.temperature <= 0:
            raise ValueError(f"temperature: must be > 0, got {self.temperature}")

    def build(self, classes: int, width: int) -> ClassInfoNce:
        """Make the loss; it trains nothing."""
        del classes, width
        return ClassInfoNce(self.temperature)


class ClassInfoNce(nn.Module):
    """(S, N, P) and labels (N,) -> (S,)."""

    def __init__(self, temperature: float) -> None:
        """See `class_info_nce`."""
        super().__init__()
        self.temperature = temperature

    def forward(self, rows: Tensor, labels: Tensor) -> Tensor:
        """See `class_info_nce`."""
        return class_info_nce(rows, labels, self.temperature)


@dataclass(frozen=True, kw_only=True)
class ProxyAnchorConfig:
    """A trained proxy per class against the batch."""

    needs_pairs: ClassVar[bool] = False
    name: Literal["proxy_anchor"] = "proxy_anchor"
    scale: float = 32.0  # multiplies the cosines
    margin: float = 0.1  # of the cosines
    lr_scale: float = 100.0  # the proxies' learning rate over that of the rest

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        if self.scale <= 0:
            raise ValueError(f"scale: must be > 0, got {self.scale}")
        if self.margin < 0:
            raise ValueError(f"margin: must be >= 0, got {self.margin}")
        if self.lr_scale <= 0:
            raise ValueError(f"lr_scale: must be > 0, got {self.lr_scale}")

    def build(self, classes: int, width: int) -> ProxyAnchor:
        """Make the loss from torch's global generator (the caller seeds)."""
        return ProxyAnchor(self, classes, width)


class ProxyAnchor(nn.Module):
    """(S, N, P) and labels (N,) -> (S,); owns a proxy per class, (C, P)."""

    def __init__(self, config: ProxyAnchorConfig, classes: int, width: int) -> None:
        """Draw the proxies as Kaiming's normal initialisation does, fan-out mode."""
        super().__init__()
        self.config = config
        self.proxies = nn.Parameter(torch.empty(classes, width))
        if classes:
            nn.init.kaiming_normal_(self.proxies, mode="fan_out")

    def forward(self, rows: Tensor, labels: Tensor) -> Tensor:
        """See `proxy_anchor`."""
        scale, margin = self.config.scale, self.config.margin
        return proxy_anchor(rows, labels, self.proxies, scale=scale, margin=margin)


MetricLossConfig = PairsConfig | ClassInfoNceConfig | ProxyAnchorConfig
