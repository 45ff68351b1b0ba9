"""No relation: one stream, the plain features."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from ssl_bf.relations.relation import Relation
from ssl_bf.relations.two_streams import TwoStreamConfig

PLAIN = TwoStreamConfig(name="none", pairs=((1.0, 0.0), (0.0, 0.0)))


@dataclass(frozen=True, kw_only=True)
class NoRelationConfig:
    """The method as published, without BatchFormer."""

    name: Literal["none"] = "none"

    @property
    def title(self) -> str:
        """In a heading: with what a backbone was pretrained."""
        return "without relation"

    @property
    def keeps_tokens(self) -> bool:
        """Nothing is kept."""
        return False

    def build(
        self,
        backbone_width: int,
        projection_width: int,
        *,
        has_key_side: bool,
        backbone: nn.Module | None = None,
    ) -> Relation:
        """Make a relation that adds no stream and owns no parameter."""
        del backbone_width, projection_width, backbone
        return Relation(PLAIN, None, has_key_side=has_key_side)
