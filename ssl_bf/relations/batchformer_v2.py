"""BatchFormerV2: a transformer over the samples at each token position, inside the backbone.

Source: Hou et al. 2022 (arXiv 2204.01254). Shapes: N local batch, W devices, g rows per group, L
tokens or positions of a grid, E their width.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from linear_eval.backbones.stages import Place, has_class_token, places, shapes_between
from linear_eval.system.errors import InputError
from ssl_bf.layers.attention_weights import Attention
from ssl_bf.layers.batch_transformer_layer import BatchTransformerLayer
from ssl_bf.layers.self_attention import SelfAttention, UniformAttention
from ssl_bf.parts.gathered_rows import rows_of_others
from ssl_bf.parts.groups import check_group, check_heads
from ssl_bf.relations.batchformer import BatchTransformerConfig
from ssl_bf.relations.previous_batch import PreviousTokens, related_sides, seen_in_groups
from ssl_bf.relations.relation import Relation
from ssl_bf.relations.surroundings import Beside
from ssl_bf.relations.token_relation import RelatingInside, TokenRelation


@dataclass(frozen=True, kw_only=True)
class BatchFormerV2Config(BatchTransformerConfig):
    """BatchFormerV2 as relation."""

    name: Literal["batchformer_v2"] = "batchformer_v2"
    insert_at: Literal["tokens"] = "tokens"  # type: ignore[assignment]  # nowhere else
    # layers of a ResNet or small_conv (1 to 4), blocks of a transformer (0: its embedding)
    insert_after: tuple[int, ...] = (4,)
    share_layers: bool = False  # one module for all places, which then have one width
    class_token: bool = True  # whether class tokens meet, too
    # samples that meet: random groups of so many (1: each sees itself alone, a control); local: all
    # of a device; global: of all
    context: int | Literal["local", "global"] = 32
    # controls: uniform: fixed at 1/g; foreign: learned, on the last batch instead of this one
    attention: Literal["learned", "uniform", "foreign"] = "learned"

    def __post_init__(self) -> None:
        """Refuse empty groups, equal weights among one sample, and places that do not rise."""
        super().__post_init__()
        if self.context != 1:
            check_group(self.context)
        elif self.attention != "learned":
            raise ValueError(
                f"attention: {self.attention} does nothing with context=1; leave it out, or raise "
                "context"
            )
        numbers = self.insert_after
        if not numbers or numbers[0] < 0 or any(a >= b for a, b in pairwise(numbers)):
            raise ValueError(f"insert_after: must be rising numbers >= 0, got {list(numbers)}")

    @property
    def title(self) -> str:
        """In a heading: with what a backbone was pretrained."""
        return "with BatchFormerV2"

    @property
    def keeps_tokens(self) -> bool:
        """Whether what a batch was inside the backbone is kept, which may be large."""
        return self.attention == "foreign"

    def build(
        self,
        backbone_width: int,
        projection_width: int,
        *,
        has_key_side: bool,
        backbone: nn.Module | None = None,
    ) -> Relation:
        """Make the relation from torch's global generator (the caller seeds).

        Raises:
            InputError: the backbone has no stages, or not these places, or a key does not fit them.
        """
        del backbone_width, projection_width
        assert backbone is not None, "batchformer_v2 acts inside a backbone"
        chosen = self._places(backbone)
        widths = [place.width for place in chosen]
        relating = BatchTransformerOfTokens(
            self,
            widths[:1] if self.share_layers else widths,
            kept=0 if self.class_token or not has_class_token(backbone) else 1,
        )
        before = [place.stages for place in chosen]
        previous = None
        if self.attention == "foreign":
            previous = PreviousTokens(
                partial(shapes_between, backbone, before),
                len(before),
                related_sides(self, has_key_side=has_key_side),
                of_all_devices=self.context == "global",
            )
        return TokenRelation(self, relating, before, has_key_side=has_key_side, previous=previous)

    def _places(self, backbone: nn.Module) -> list[Place]:
        there = places(backbone)
        last = max(there)
        for number in self.insert_after:
            if number not in there:
                raise InputError(
                    f"relation.insert_after: {number} is no place in a {type(backbone).__name__}, "
                    f"expected {min(there)} to {last}; choose one of these"
                )
        chosen = [there[number] for number in self.insert_after]
        widths = sorted({place.width for place in chosen})
        if self.share_layers and len(widths) > 1:
            raise InputError(
                f"relation.share_layers: the places are {' and '.join(map(str, widths))} wide, "
                "expected one width; set share_layers=false, or choose one place"
            )
        if not self.class_token and not has_class_token(backbone):
            raise InputError(
                f"relation.class_token: is false, but a {type(backbone).__name__} has no class "
                "token here; leave the key out"
            )
        if not self.class_token and self.insert_after[-1] == last:
            raise InputError(
                f"relation.insert_after: behind block {last} only the class token is read, which "
                "relation.class_token=false leaves alone; choose an earlier block"
            )
        return chosen


class BatchTransformerOfTokens(RelatingInside):
    """Samples meet at each position by itself; no position sees another.

    BatchFormer's own layers, on (L, N, E) instead of (1, N, D).
    """

    def __init__(self, config: BatchFormerV2Config, widths: list[int], *, kept: int) -> None:
        """Initialise as BatchFormer does.

        Args:
            config: sizes and group.
            widths: E of each place, or one for all places.
            kept: so many first tokens stay as they are.

        Raises:
            InputError: the heads do not divide a width.
        """
        super().__init__()
        self.group, self.kept = config.context, kept
        gate = nn.Parameter(torch.zeros(())) if config.residual == "gate" else None
        self.register_parameter("gate", gate)
        kind = UniformAttention if config.attention == "uniform" else SelfAttention
        self.at_places = nn.ModuleList()
        for width in widths:
            check_heads(config.heads, width)
            hidden = max(1, round(config.feedforward * width))
            layers = [
                BatchTransformerLayer(width, config.heads, hidden, config.dropout, kind)
                for _ in range(config.layers)
            ]
            self.at_places.append(nn.ModuleList(layers))

    def forward(
        self,
        values: Tensor,
        order: Tensor | None,
        number: int,
        *,
        dropout: bool,
        beside: Beside | None = None,
        attention: list[Attention] | None = None,
    ) -> Tensor:
        """Tokens (N, L, E) or a grid (N, E, H, W) -> the same shape."""
        is_grid = values.ndim == 4
        tokens = _tokens(values)
        free = tokens[:, self.kept :]
        if beside is not None:
            beside = beside._replace(rows=_tokens(beside.rows)[:, self.kept :])
        related = self._relate(
            free, order, number, dropout=dropout, beside=beside, attention=attention
        )
        if self.gate is not None:
            related = torch.lerp(free, related, self.gate.to(free.dtype))
        if self.kept:
            related = torch.cat([tokens[:, : self.kept], related], dim=1)
        return related.transpose(1, 2).reshape(values.shape) if is_grid else related

    def _relate(
        self,
        tokens: Tensor,
        order: Tensor | None,
        number: int,
        *,
        dropout: bool,
        beside: Beside | None,
        attention: list[Attention] | None,
    ) -> Tensor:
        rows = tokens if order is None else tokens.index_select(0, order)
        sequences = self._at_positions(rows)  # (N L / g, g, E)
        context, seen, seen_everywhere = None, None, None
        if beside is not None:
            context = self._at_positions(beside.rows)  # (N L / g, m, E)
            seen = self._seen(beside.seen if order is None else beside.seen[order])
            seen_everywhere = seen.repeat_interleave(tokens.shape[1], 0)
        layers = self.at_places[number if len(self.at_places) > 1 else 0]
        assert isinstance(layers, nn.ModuleList)
        for at, layer in enumerate(layers, start=1):
            if attention is not None:
                assert isinstance(layer, BatchTransformerLayer)
                of_layer = partial(layer.self_attn.attention, positions=tokens.shape[1])
                attention.append(of_layer(sequences, context, seen))
            # Samples of other devices are of this layer too: gathered anew, with gradient.
            others = _others(sequences) if self.group == "global" and beside is None else context
            sequences = layer(sequences, dropout=dropout, beside=others, seen=seen_everywhere)
            if context is not None and at < len(layers):
                context = layer(context, dropout=dropout)
        related: Tensor = (
            sequences.unflatten(0, (-1, tokens.shape[1])).transpose(1, 2).flatten(0, 1)
        )
        related = related.to(tokens.dtype).view(tokens.shape)
        if order is None:
            return related
        return torch.empty_like(related).index_copy(0, order, related)  # back to their places

    def _at_positions(self, rows: Tensor) -> Tensor:
        """(M, L, E) -> (M L / g, g, E), g is M unless a number."""
        group = self.group if isinstance(self.group, int) else len(rows)
        found: Tensor = rows.unflatten(0, (-1, group)).transpose(1, 2).flatten(0, 1)
        return found

    def _seen(self, allowed: Tensor) -> Tensor:
        """(N, M) -> (N / g, 1, g, g + m), alike at each position."""
        groups = len(allowed) // self.group if isinstance(self.group, int) else 1
        return seen_in_groups(allowed, groups, is_global=self.group == "global")


def _tokens(values: Tensor) -> Tensor:
    """Tokens (M, L, E), or a grid (M, E, H, W) as such."""
    return values.flatten(2).transpose(1, 2) if values.ndim == 4 else values


def _others(sequences: Tensor) -> Tensor:
    """(L, N, E) -> (L, (W - 1) * N, E): the samples of the other devices, with gradient."""
    return rows_of_others(sequences.transpose(0, 1)).transpose(0, 1)
