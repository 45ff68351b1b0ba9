"""Configs that a relation with two streams, and one that is trained, add their keys to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ssl_bf.relations.gate import Gated
from ssl_bf.relations.keys import Policy, Residual, TwoStreamKeys
from ssl_bf.relations.relation import Relation


@dataclass(frozen=True, kw_only=True)
class TwoStreamConfig(TwoStreamKeys):
    """A relation with two streams, and how it is built."""

    def build(
        self,
        backbone_width: int,
        projection_width: int,
        *,
        has_key_side: bool,
        backbone: nn.Module | None = None,
    ) -> Relation:
        """Make the relation from torch's global generator (the caller seeds)."""
        del backbone
        width = backbone_width if self.insert_at == "backbone" else projection_width
        module = self.relating(width)
        return Relation(
            self,
            Gated(module) if self.residual == "gate" else module,
            has_key_side=has_key_side,
            surroundings=self.surroundings(width, has_key_side=has_key_side),
        )


@dataclass(frozen=True, kw_only=True)
class TrainedRelationConfig(TwoStreamConfig):
    """Further keys of a relation that has parameters."""

    # of keys: a slow copy (ema), the same (shared), none trains (frozen)
    parameters: Policy = "ema"
    lr_scale: float = 1.0  # the relation's learning rate over that of the rest
    # gate: h + gamma * (R(h) - h), gamma one trained scalar, 0 at the start
    residual: Residual = "published"

    def __post_init__(self) -> None:
        """Refuse a learning rate that is not positive, and a gate that could never open."""
        super().__post_init__()
        if self.lr_scale <= 0:
            raise ValueError(f"lr_scale: must be > 0, got {self.lr_scale}")
        if self.residual == "gate" and (self.parameters == "frozen" or not self.relates_queries):
            why = "parameters=frozen" if self.parameters == "frozen" else "pairs without bo and bb"
            raise ValueError(
                f"residual: with {why} nothing would ever open the gate; set residual=published"
            )
