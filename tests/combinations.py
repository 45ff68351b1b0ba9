"""A pretraining run that takes a second, of every method and relation: the quickstart, cut down."""

from __future__ import annotations

TINY = [
    "data.train_images=128",
    "epochs=2",
    "batch_size=32",
    "precision=float32",
    "method.projection_dim=32",
    "optimizer.warmup_epochs=0",
    "run.log_every=1",
    "run.monitor_every=1",
    "run.save_every=1epochs",
    "run.tensorboard=false",
]
HIDDEN = "method.hidden_dim=32"
METHODS = {
    "moco_v2": ["method.queue_size=128", HIDDEN],
    "moco_v3": ["method.name=moco_v3", HIDDEN],
    "metric": [
        *("method.name=metric", "sampler.name=class_balanced", "sampler.images_per_class=4"),
    ],
    "moco_v2_paco": ["method.name=moco_v2_paco", "method.queue_size=128", HIDDEN],
    "simsiam": ["method.name=simsiam", "method.predictor_hidden_dim=16", HIDDEN],
}
PLAIN_QUERIES = ["relation.pairs=plain_queries"]
RELATIONS = {
    "none": ["relation.name=none"],
    "batchformer": ["relation.context=8"],
    "neighbours": ["relation.context=neighbours", "relation.neighbours=4", "relation.memory=64"],
    "nearest_keys": ["relation.name=nearest_keys", *PLAIN_QUERIES, "relation.memory=64"],
    "clusters": ["relation.name=bgformer", "relation.context=8", "relation.graph=cluster"],
    "foreign": ["relation.name=foreign", "relation.context=8"],
    "labels": [
        *("relation.name=bgformer", "relation.graph=label", "relation.context=local"),
        *("relation.insert_at=backbone", "relation.pairs=[[0.3, 0], [0.7, 0]]"),
    ],
    "batchformer_v2": ["relation.name=batchformer_v2", "relation.context=8"],
}


def tiny(method: str, relation: str) -> list[str]:
    """Overrides of the quickstart: 118 images and 10 held out, 6 steps."""
    return [*TINY, *METHODS[method], *RELATIONS[relation]]
