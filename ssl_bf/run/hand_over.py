"""The header of the file that a run hands over."""

from __future__ import annotations

from linear_eval.backbones.backbone_header import BackboneInfo
from ssl_bf.config import PretrainConfig, config_to_share
from ssl_bf.methods.keys import MethodSettings
from ssl_bf.relations.relation import RelationSettings


def backbone_info(
    config: PretrainConfig, *, commit: str | None, step: int, precision: str
) -> BackboneInfo:
    """What a backbone file of this run says of itself; `precision` is that of its steps."""
    architecture = config.backbone.architecture
    method: MethodSettings = config.method
    relation: RelationSettings = config.relation
    return BackboneInfo(
        architecture=architecture,
        feature_dim=config.backbone.width,
        image_size=config.views.size,
        mean=config.views.mean,
        std=config.views.std,
        provenance={
            "title": f"{method.title} {relation.title}",
            "method": method.name,
            "relation": relation.name,
            "seed": config.seed,
            "precision": precision,
            "step": step,
            "commit": commit,
            "config": config_to_share(config),
        },
    )
