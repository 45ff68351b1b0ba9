"""BGFormer: the batch as a graph, by sparse attention and by what belongs together.

Source: arXiv 2211.10622, of which only the abstract could be had; the block follows what is known
of the authors' code. Shapes: N local batch, B groups of g rows, D width.

Differs: one view, one stream of plain features beside it; labels with `graph: label` only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from linear_eval.system.errors import InputError
from ssl_bf.layers.attention_weights import Attention
from ssl_bf.layers.graph_norm import GraphNorm
from ssl_bf.layers.self_attention import SelfAttention
from ssl_bf.losses.unit_length import full_precision
from ssl_bf.parts.gathered_rows import rows_of_others
from ssl_bf.parts.groups import check_group, check_heads, collect, deal
from ssl_bf.relations.batch_graphs import (
    Clusters,
    Labels,
    Teacher,
    edges_between_equals,
    edges_to_nearest,
    normalised,
)
from ssl_bf.relations.keys import OnOff
from ssl_bf.relations.surroundings import Beside, Surroundings
from ssl_bf.relations.two_streams import TrainedRelationConfig
from ssl_bf.shards.shard import num_shards

Graph = Literal["none", "teacher_knn", "cluster", "instance", "label"]
# Keys that act with some graphs only, and what they are there unless given.
WITH_GRAPHS: dict[str, tuple[tuple[str, ...], float]] = {
    "visual_weight": (("teacher_knn", "cluster", "instance", "label"), 0.5),
    "graph_neighbours": (("teacher_knn",), 4),
    "clusters": (("cluster",), 64),
}


@dataclass(frozen=True, kw_only=True)
class BGFormerConfig(TrainedRelationConfig):
    """BGFormer: attention to the most similar rows, and a graph of what belongs together."""

    name: Literal["bgformer"] = "bgformer"
    layers: int = 1  # blocks
    heads: int = 8  # of the attention; they divide the width
    feedforward: float = 4.0  # hidden width over D
    dropout: float = 0.0  # share of the values that is dropped
    key_dropout: OnOff = "on"  # whether the key side drops out too, with its own masks
    # rows that see each other: random groups of so many; local: all of a device; global: of all
    context: int | Literal["local", "global"] = 32
    top_k: int = 8  # rows of its group that a row attends to, the most similar ones
    # semantic branch: none, a teacher's nearest rows, clusters of its rows, each row alone, or the
    # rows of its class (label: for methods with labels)
    graph: Graph = "none"
    visual_weight: float | None = None  # of the attention beside the graph; null: 0.5
    graph_neighbours: int | None = None  # edges of a row with graph=teacher_knn; null: 4
    clusters: int | None = None  # with graph=cluster; null: 64
    # norm before each branch: over a row's channels, or over a channel's rows in the group
    graph_norm: Literal["layer", "graphnorm"] = "layer"

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and keys that this graph ignores."""
        super().__post_init__()
        check_group(self.context)
        for name in ("layers", "heads", "top_k", "graph_neighbours", "clusters"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: must be >= 1, got {value}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: must lie in [0, 1), got {self.dropout}")
        if self.feedforward <= 0:
            raise ValueError(f"feedforward: must be > 0, got {self.feedforward}")
        if self.visual_weight is not None and not 0 <= self.visual_weight <= 1:
            raise ValueError(f"visual_weight: must lie in [0, 1], got {self.visual_weight}")
        for name, (graphs, _) in WITH_GRAPHS.items():
            if getattr(self, name) is not None and self.graph not in graphs:
                raise ValueError(
                    f"{name}: does nothing with graph={self.graph}; leave it out, or set graph to "
                    f"{' or '.join(graphs)}"
                )

    @property
    def title(self) -> str:
        """In a heading: with what a backbone was pretrained."""
        return "with BGFormer"

    def of_graph(self, name: str) -> float:
        """The value of a key of `WITH_GRAPHS`."""
        value: float | None = getattr(self, name)
        return WITH_GRAPHS[name][1] if value is None else value

    def relating(self, width: int) -> nn.Module:
        """Make the blocks."""
        check_heads(self.heads, width)
        return BGFormer(self, width)

    def surroundings(self, width: int, *, has_key_side: bool) -> Surroundings | None:
        """The teacher or the labels, where the graph comes from them."""
        if self.graph == "label":
            return Labels()
        if self.graph == "teacher_knn":
            return Teacher(has_key_side=has_key_side)
        if self.graph == "cluster":
            return Clusters(width, int(self.of_graph("clusters")), has_key_side=has_key_side)
        return None

    def check_rows(self, rows: int) -> None:
        """Refuse more neighbours than there are rows that see each other."""
        if self.top_k > rows:
            raise InputError(
                f"relation.top_k: {self.top_k} is above the {rows} rows that see each other; lower "
                "it, or raise relation.context or batch_size"
            )
        if self.graph == "teacher_knn" and self.of_graph("graph_neighbours") >= rows:
            raise InputError(
                f"relation.graph_neighbours: {self.of_graph('graph_neighbours')} is above the "
                f"{rows - 1} other rows that a row sees; lower it"
            )


class TopKAttention(SelfAttention):
    """Attention to the `top_k` rows of the largest scores; to all where there are fewer."""

    def __init__(self, width: int, heads: int, top_k: int) -> None:
        """Parameters are those of `SelfAttention`."""
        super().__init__(width, heads)
        self.top_k = top_k

    def mix(
        self, query: Tensor, key: Tensor, value: Tensor, dropout: float, seen: Tensor | None
    ) -> Tensor:
        """Values (B, heads, g + m, d) weighted for each query (B, heads, g, d)."""
        weights = functional.dropout(self.weights(query, key, seen), dropout)
        return weights.to(value.dtype) @ value

    def weights(self, query: Tensor, key: Tensor, seen: Tensor | None = None) -> Tensor:
        """(..., g, g + m): softmax over the kept scores of each row, 0 elsewhere."""
        assert seen is None, "every row of a group is there"
        scores = full_precision(query @ key.transpose(-2, -1)) / math.sqrt(query.shape[-1])
        kept = scores.topk(min(self.top_k, scores.shape[-1]), dim=-1)
        outside = torch.full_like(scores, -torch.inf)
        return outside.scatter(-1, kept.indices, kept.values).softmax(dim=-1)


class BGFormer(nn.Module):
    """Pre-norm blocks on each group of rows: (N, D) -> (N, D)."""

    def __init__(self, config: BGFormerConfig, width: int) -> None:
        """The heads divide the width."""
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(BatchGraphBlock(config, width) for _ in range(config.layers))

    def forward(
        self,
        features: Tensor,
        order: Tensor | None,
        *,
        dropout: bool,
        beside: Beside | None = None,
        attention: list[Attention] | None = None,
    ) -> Tensor:
        """Relate rows of one view.

        Args:
            features: (N, D).
            order: (N,) permutation that deals the rows into groups, or None to keep them.
            dropout: False switches every dropout off.
            beside: what the graph is made from: the teacher's rows (N, D), or classes (N, 1).
            attention: a list that the attention of each layer is added to; None: nobody asks.
        """
        sequences = deal(features, order, self.config.context)
        edges = self.edges(sequences, order, beside)
        precision = torch.promote_types(features.dtype, torch.float32)
        graph = None if edges is None else normalised(edges, precision)[:, : sequences.shape[1]]
        for block in self.blocks:
            if attention is not None:
                assert isinstance(block, BatchGraphBlock)
                attention.append(block.visual.attention(block.norm1(sequences)))
            sequences = block(sequences, graph, dropout=dropout)
        return collect(sequences, order)

    def edges(self, rows: Tensor, order: Tensor | None, beside: Beside | None) -> Tensor | None:
        """(B, g, g) bool, or None without a graph; of all devices own rows first, then others."""
        count, group = rows.shape[:2]
        is_global = self.config.context == "global"
        if self.config.graph == "none":
            return None
        if self.config.graph == "instance":
            size = group * (num_shards() if is_global else 1)
            own = torch.eye(size, dtype=torch.bool, device=rows.device)
            return own.expand(count, -1, -1)
        assert beside is not None
        teacher = deal(beside.rows, order, self.config.context)
        if is_global:
            teacher = torch.cat([teacher, rows_of_others(teacher[0])[None]], dim=1)
        if self.config.graph in ("cluster", "label"):
            return edges_between_equals(teacher[..., 0])
        return edges_to_nearest(teacher, int(self.config.of_graph("graph_neighbours")))


class BatchGraphBlock(nn.Module):
    """X + lambda attention + (1 - lambda) graph, then a GELU network; each after a norm."""

    def __init__(self, config: BGFormerConfig, width: int) -> None:
        """Without a graph lambda is 1, and the semantic branch does not exist."""
        super().__init__()
        hidden = max(1, round(config.feedforward * width))
        self.is_global = config.context == "global"
        norm: Callable[[int], nn.Module] = nn.LayerNorm
        if config.graph_norm == "graphnorm":
            norm = partial(GraphNorm, over_devices=self.is_global)
        self.dropout = config.dropout
        self.norm1, self.norm2 = norm(width), norm(width)
        self.visual = TopKAttention(width, config.heads, config.top_k)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.visual_weight = 1.0
        if config.graph != "none":
            self.visual_weight = config.of_graph("visual_weight")
            self.semantic_in, self.semantic_out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, rows: Tensor, graph: Tensor | None, *, dropout: bool) -> Tensor:
        """(B, g, D) and their rows of a normalised graph, (B, g, g + others) -> (B, g, D)."""
        p = self.dropout if dropout else 0.0
        nodes = self.norm1(rows)
        others = rows_of_others(nodes[0])[None] if self.is_global else None
        mixed = functional.dropout(self.visual(nodes, p, others), p)
        if graph is not None:
            linked = nodes if others is None else torch.cat([nodes, others], dim=1)
            semantic = self.semantic_out(graph @ self.semantic_in(linked))
            semantic = functional.dropout(semantic, p)
            mixed = self.visual_weight * mixed + (1 - self.visual_weight) * semantic
        rows = rows + mixed
        hidden = functional.dropout(functional.gelu(self.linear1(self.norm2(rows))), p)
        out: Tensor = rows + functional.dropout(self.linear2(hidden), p)
        return out
