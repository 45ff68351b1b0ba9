"""MoCo-v2 from lightly's modules, put together as its documentation does."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ssl_bf.methods.moco_v2 import MoCoV2

OUT = 128


class LightlyMoCo:
    """Starts with the weights and the queue of ours; float32, memory laid out as shipped."""

    def __init__(self, method: MoCoV2, architecture: str, *, weight_decay: float) -> None:
        """Of a plain method: one direction, ordinary BatchNorm, no relation; learning rate 0."""
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead
        from lightly.models.utils import deactivate_requires_grad

        backbone, width = lightly_backbone(architecture)
        keys = method.queue(0).keys
        network = nn.ModuleList([backbone, MoCoProjectionHead(width, width, OUT)])
        network = network.to(keys.device)
        ours = [*method.backbone.parameters(), *method.projector.parameters()]
        with torch.no_grad():
            for theirs, p in zip(network.parameters(), ours, strict=True):
                theirs.copy_(p)
        self.network = network
        self._momentum = method.config.momentum
        self._slow = copy.deepcopy(network)
        deactivate_requires_grad(self._slow)
        temperature, shape = method.config.temperature, tuple(keys.shape)
        self._criterion = NTXentLoss(temperature, memory_bank_size=shape).to(keys.device)
        self._criterion.memory_bank.bank.copy_(keys)
        self.optimizer = torch.optim.SGD(
            network.parameters(), lr=0.0, momentum=0.9, weight_decay=weight_decay
        )

    def step(self, view_1: Tensor, view_2: Tensor) -> Tensor:
        """One update from two views (N, 3, S, S); returns the loss, a scalar without gradient."""
        from lightly.models.utils import update_momentum

        network, slow = self.network, self._slow
        for fast_part, slow_part in zip(network, slow, strict=True):
            update_momentum(fast_part, slow_part, self._momentum)
        query = network[1](network[0](view_1))
        with torch.no_grad():
            key = slow[1](slow[0](view_2))
        loss: Tensor = self._criterion(query, key)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.detach()


def lightly_backbone(architecture: str) -> tuple[nn.Module, int]:
    """(N, 3, S, S) -> (N, D), and D; for 32 px lightly's own, for 224 px torchvision's."""
    if architecture == "resnet18_cifar":
        from lightly.models import ResNetGenerator

        layers = list(ResNetGenerator("resnet-18", 1, num_splits=0).children())[:-1]
        layers.insert(2, nn.ReLU())  # lightly's own forward applies it there
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 512
    import torchvision

    resnet = torchvision.models.get_model(architecture)
    return nn.Sequential(*list(resnet.children())[:-1], nn.Flatten()), resnet.fc.in_features
