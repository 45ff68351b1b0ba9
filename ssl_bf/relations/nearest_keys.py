"""Nearest keys: a relation without parameters, whose related key is the mean of its neighbours.

Source: k = 1 is the target of Dwibedi et al. 2021 (arXiv 2104.14548). Shapes: N local batch, m
neighbours, D width.

Differs: neighbours of the key, not of the query's own positive, are averaged, and the plain key
stays a target beside it.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_bf.layers.attention_weights import Attention
from ssl_bf.layers.attention_weights import attention as attention_of
from ssl_bf.losses.unit_length import unit_length
from ssl_bf.relations.neighbour_memory import MEMORY, NeighbourMemory, check_memory
from ssl_bf.relations.streams import Pairs
from ssl_bf.relations.surroundings import Beside, Surroundings
from ssl_bf.relations.two_streams import TwoStreamConfig


@dataclass(frozen=True, kw_only=True)
class NearestKeysConfig(TwoStreamConfig):
    """Related keys are averages of the nearest slow features of other images."""

    name: Literal["nearest_keys"] = "nearest_keys"
    # (query stream, key stream) pairs that make the loss; related queries do not exist
    pairs: Pairs = "plain_queries"
    neighbours: int = 8  # that are averaged; 1: the nearest alone
    temperature: float = 0.1  # divides their similarities in the softmax that weighs them
    memory: int = MEMORY  # rows of recent slow features that they are taken from

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and related queries."""
        super().__post_init__()
        check_memory(self.neighbours, self.memory)
        if self.temperature <= 0:
            raise ValueError(f"temperature: must be > 0, got {self.temperature}")
        if self.relates_queries:
            raise ValueError(
                f"pairs: nearest_keys has no related queries, got {self.pairs}; set plain_queries, "
                "or weights whose second row is 0"
            )

    @property
    def may_be_constant(self) -> bool:
        """Nothing trains it."""
        return False

    @property
    def without_attention(self) -> str:
        """Below a picture."""
        return "no attention: the weights of an average of queued keys, by similarity"

    def relating(self, width: int) -> nn.Module:
        """Make the module; it owns no parameter."""
        del width
        return NearestKeys(self.temperature)

    def surroundings(self, width: int, *, has_key_side: bool) -> Surroundings:
        """The memory that neighbours are taken from."""
        return NeighbourMemory(width, self.neighbours, self.memory, has_key_side=has_key_side)


class NearestKeys(nn.Module):
    """(N, D) -> (N, D), no gradient: a row without neighbours stays as it is."""

    def __init__(self, temperature: float) -> None:
        """`temperature` > 0; near 0 the nearest neighbour alone counts."""
        super().__init__()
        self.temperature = temperature

    @torch.no_grad()
    def forward(
        self,
        features: Tensor,
        order: Tensor | None,
        *,
        dropout: bool,
        beside: Beside,
        attention: list[Attention] | None = None,
    ) -> Tensor:
        """Average the neighbours (N, m, D) of each row, by their similarity to it.

        `attention` is given the weights of that average: of the row itself 0, or 1 without any.
        """
        del order, dropout
        unit = unit_length(features)[:, :, None]
        similar = (unit_length(beside.rows) @ unit).squeeze(2) / self.temperature  # (N, m)
        there = beside.seen.any(dim=1, keepdim=True)
        weights = similar.masked_fill(~beside.seen & there, -torch.inf).softmax(dim=1)
        if attention is not None:
            used = torch.cat([~there, weights.masked_fill(~there, 0.0)], dim=1)  # (N, 1 + m)
            seen = torch.cat([~there, beside.seen], dim=1)
            attention.append(attention_of(used[:, None, None], seen[:, None, None]))
        mean = (weights[:, None] @ beside.rows.to(weights.dtype)).squeeze(1)
        return torch.where(there, mean.to(features.dtype), features)
