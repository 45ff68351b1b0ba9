"""The header of the file that a run hands over."""

from __future__ import annotations

from linear_eval.backbones.backbone_header import BackboneInfo
from ssl_bf.config import PretrainConfig, config_to_share

RELATION_TITLES = {"none": "without relation", "batchformer": "with BatchFormer"}


def backbone_info(
    config: PretrainConfig, *, commit: str | None, step: int, precision: str
) -> BackboneInfo:
    """What a backbone file of this run says of itself; `precision` is that of its steps."""
    architecture, relation = config.backbone.architecture, config.relation.name
    return BackboneInfo(
        architecture=architecture,
        feature_dim=config.backbone.width,
        image_size=config.views.size,
        mean=config.views.mean,
        std=config.views.std,
        provenance={
            "title": f"pretrained {RELATION_TITLES.get(relation, f'with {relation}')}",
            "method": config.method.name,
            "relation": relation,
            "seed": config.seed,
            "precision": precision,
            "step": step,
            "commit": commit,
            "config": config_to_share(config),
        },
    )
