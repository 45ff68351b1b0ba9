"""No relation: one stream, the plain features."""

from dataclasses import dataclass
from typing import Literal

from ssl_bf.relations.relation import Relation


@dataclass(frozen=True, kw_only=True)
class NoRelationConfig:
    """The method as published, without BatchFormer."""

    name: Literal["none"] = "none"

    def build(self, backbone_width: int, projection_width: int, *, has_key_side: bool) -> Relation:
        """Make a relation that adds no stream and owns no parameter."""
        del backbone_width, projection_width, has_key_side
        return Relation(None)
