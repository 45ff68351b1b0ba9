"""Controls: relations that lack one ingredient of BatchFormer, so that a gain can be attributed.

`copy` doubles the batch and adds nothing (an A/A check: must equal `none`); `dropout_only` adds
noise but no other sample; `self_only` has BatchFormer's parameters, each sample attending to
itself only; `uniform` has its groups, where every sample weighs the same. `foreign` has its own
file.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from ssl_bf.layers.attention_weights import Attention
from ssl_bf.layers.self_attention import UniformAttention
from ssl_bf.parts.groups import check_group
from ssl_bf.relations.batchformer import BatchTransformer, BatchTransformerConfig, batch_transformer
from ssl_bf.relations.keys import OnOff
from ssl_bf.relations.two_streams import TwoStreamConfig


@dataclass(frozen=True, kw_only=True)
class CopyConfig(TwoStreamConfig):
    """Stream 1 is stream 0."""

    name: Literal["copy"] = "copy"

    @property
    def may_be_constant(self) -> bool:
        """It is as the plain stream, which cannot be constant."""
        return False

    @property
    def without_attention(self) -> str:
        """Below a picture."""
        return "there is no attention: the related stream is a copy"

    def relating(self, width: int) -> "Copy":
        """Make the module; it owns no parameter."""
        del width
        return Copy()


class Copy(nn.Module):
    """(N, D) -> (N, D), the same values."""

    def forward(
        self,
        features: Tensor,
        order: Tensor | None,
        *,
        dropout: bool,
        attention: list[Attention] | None = None,
    ) -> Tensor:
        """Return the features unchanged; there is no attention."""
        del order, dropout, attention
        return features


@dataclass(frozen=True, kw_only=True)
class DropoutOnlyConfig(TwoStreamConfig):
    """Stream 1 is dropout of stream 0: what noise alone does."""

    name: Literal["dropout_only"] = "dropout_only"
    dropout: float = 0.5  # share of the values that is dropped
    key_dropout: OnOff = "on"  # whether the key side drops out too, with its own masks

    def __post_init__(self) -> None:
        """Refuse a probability outside [0, 1)."""
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: must lie in [0, 1), got {self.dropout}")

    @property
    def without_attention(self) -> str:
        """Below a picture."""
        return "there is no attention: without dropout the related stream is a copy"

    def relating(self, width: int) -> "DropoutOnly":
        """Make the module; it owns no parameter."""
        del width
        return DropoutOnly(self.dropout)


class DropoutOnly(nn.Module):
    """(N, D) -> (N, D) with elements dropped and the rest scaled up."""

    def __init__(self, dropout: float) -> None:
        """`dropout` is the probability of losing an element, in [0, 1)."""
        super().__init__()
        self.dropout = dropout

    def forward(
        self,
        features: Tensor,
        order: Tensor | None,
        *,
        dropout: bool,
        attention: list[Attention] | None = None,
    ) -> Tensor:
        """Drop elements of each row independently; rows never meet, there is no attention."""
        del order, attention
        return functional.dropout(features, self.dropout if dropout else 0.0)


@dataclass(frozen=True, kw_only=True)
class SelfOnlyConfig(BatchTransformerConfig):
    """BatchFormer whose groups hold one sample: same parameters, no relation."""

    name: Literal["self_only"] = "self_only"

    @property
    def without_attention(self) -> str:
        """Below a picture."""
        return "each image attends to itself alone"

    def relating(self, width: int) -> nn.Module:
        """Make the module; attention over a group of one returns the sample's own value."""
        return batch_transformer(BatchTransformer, self, width, group=1)


@dataclass(frozen=True, kw_only=True)
class UniformConfig(BatchTransformerConfig):
    """BatchFormer whose attention is fixed at 1/g: it sees the group, but cannot choose."""

    name: Literal["uniform"] = "uniform"
    # rows that see each other: random groups of so many; local: all of a device; global: of all
    context: int | Literal["local", "global"] = 32

    def __post_init__(self) -> None:
        """Refuse groups of fewer than 2 rows."""
        super().__post_init__()
        check_group(self.context)

    def relating(self, width: int) -> nn.Module:
        """Make the module; the parameters of queries and keys exist and do nothing."""
        return batch_transformer(BatchTransformer, self, width, attention=UniformAttention)
