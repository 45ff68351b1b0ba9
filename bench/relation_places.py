"""Steps without relation, with BatchFormer and V2 at each place: python -m bench.relation_places.

Steps of MoCo-v2 with `small_conv` and of MoCo-v3 with `vit_micro`, 32 px, in turn; ratios are over
the step without relation. Before it is timed, each relation shows that it leaves the plain stream
as it is, with BatchNorm by stream: jointly normalised, streams are not what they would be alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.batchformer import same_plain_stream
from bench.options import parse
from bench.rounds import compare
from bench.step import START
from linear_eval.backbones.architectures import build_backbone, feature_dim
from linear_eval.backbones.stages import places
from ssl_bf.choices.allocator import keep_freed_memory
from ssl_bf.keyed_random import StepContext
from ssl_bf.methods import MethodConfig
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.moco_v2 import MoCoV2Config
from ssl_bf.methods.moco_v3 import MoCoV3Config
from ssl_bf.optimizers import SgdConfig, build_optimizer
from ssl_bf.parts.initial_values import initial_values
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batchformer import BatchFormerConfig
from ssl_bf.relations.batchformer_v2 import BatchFormerV2Config
from ssl_bf.relations.no_relation import NoRelationConfig

CASES: dict[str, MethodConfig] = {
    "small_conv": MoCoV2Config(projection_dim=128, hidden_dim=128, queue_size=4096),
    "vit_micro": MoCoV3Config(hidden_dim=1024, hidden_layers=2, predictor_batch_norm=True),
}
BATCH = 128


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """One table for each network."""
    options = parse("What a relation costs at each place.", argv, rounds=5)
    if options.device == "cpu":
        keep_freed_memory()  # as ssl_bf.train does
    batch, size = (32, 16) if options.quick else (BATCH, 32)
    found = []
    for network, config in CASES.items():
        torch.manual_seed(0)
        images = torch.randn(2, batch, 3, size, size, device=options.device)
        variants = {
            name: Steps(network, config, relation, images)
            for name, relation in relations(network, quick=options.quick).items()
        }
        found += compare(
            "relation_places",
            variants,
            check=same_plain_stream,
            options=options,
            facts={"method": config.name, "network": network, "batch": batch, "context": 32},
            flop=0.0,
        )
    return found


def relations(network: str, *, quick: bool) -> dict[str, RelationConfig]:
    """`none` first, then V1 and V2 at their places."""
    found: dict[str, RelationConfig] = {
        "none": NoRelationConfig(),
        "V1, projection": BatchFormerConfig(),
        "V1, backbone": BatchFormerConfig(insert_at="backbone"),
    }
    there = list(places(build_backbone(network)))
    for number in there[-1:] if quick else there:
        found[f"V2, after {number}"] = BatchFormerV2Config(insert_after=(number,))
    return found


class Steps:
    """Training steps in float32, as ssl_bf.train makes them, with learning rate 0."""

    def __init__(
        self, network: str, config: MethodConfig, relation: RelationConfig, images: Tensor
    ) -> None:
        """Take one step with BatchNorm by stream, whose plain projections are what is compared."""
        ids = torch.arange(images.shape[1], device=images.device)
        self.batch = Batch((images[0], images[1]), ids)
        split: Any = relation
        if not isinstance(relation, NoRelationConfig):
            split = type(relation)(**{**vars(relation), "batch_norm": "split"})
        checked = built(network, config, split).to(images.device)
        checked(self.batch, StepContext(step=1))
        assert checked.projections is not None
        self.plain = checked.projections[0]
        self.method = built(network, config, relation).to(images.device)
        self.optimizer = build_optimizer(SgdConfig(), self.method.parameter_groups())

    def __call__(self) -> Tensor:
        """One step; gives the plain projections of the first."""
        loss: Tensor = self.method(self.batch, StepContext(step=1))
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.method.after_step(START)
        return self.plain


def built(network: str, config: MethodConfig, relation: RelationConfig) -> Method:
    """The same initial values whatever the relation."""
    with initial_values(0, "backbone"):
        backbone = build_backbone(network)
    return config.build(Start(backbone, feature_dim(network), relation))


if __name__ == "__main__":
    main()
