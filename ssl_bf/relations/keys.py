"""What every relation with two streams is asked for, whichever it is."""

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

from ssl_bf.layers.attention_weights import Attention
from ssl_bf.relations.streams import StreamRules
from ssl_bf.relations.surroundings import Surroundings

Policy = Literal["ema", "shared", "frozen"]
Context = int | Literal["local", "global", "neighbours"]
Residual = Literal["published", "gate"]
OnOff = Literal["on", "off"]


class Relating(Protocol):
    """What a relation file builds: a module that makes the related stream.

    With `surroundings` it is also given `beside`: what they say of these rows.
    """

    def __call__(
        self,
        features: Tensor,
        order: Tensor | None,
        *,
        dropout: bool,
        attention: list[Attention] | None = None,
    ) -> Tensor:
        """(N, D) -> (N, D); `order` (N,) permutes rows into groups, None keeps them.

        Each layer adds its attention to the list, where there is one; nothing else changes by it.
        """


@dataclass(frozen=True, kw_only=True)
class TwoStreamKeys(StreamRules):
    """Keys of every relation with two streams, and what it is built from.

    A property stands for a key that acts in some relations only: those declare it as a field, all
    others have the value given here, which changes nothing.
    """

    name: str
    active: tuple[float, float] = (0.0, 1.0)  # share of training in which stream 1 exists

    def __post_init__(self) -> None:
        """Refuse a share of training that is reversed, empty or outside [0, 1]."""
        super().__post_init__()
        start, end = self.active
        if not 0 <= start < end <= 1:
            raise ValueError(
                f"active: must be [start, end] with 0 <= start < end <= 1, got {[start, end]}"
            )

    @property
    def title(self) -> str:
        """In a heading: with what a backbone was pretrained."""
        return f"with {self.name}"

    @property
    def without_attention(self) -> str:
        """Says what there is instead, where images do not attend to each other; else empty."""
        return ""

    @property
    def parameters(self) -> Policy:
        """Whose parameters make the keys, and what trains; see `Relation`."""
        return "shared"

    @property
    def lr_scale(self) -> float:
        """The relation's learning rate over that of the rest, > 0."""
        return 1.0

    @property
    def key_dropout(self) -> OnOff:
        """Whether the key side drops out, with its own masks."""
        return "on"

    @property
    def context(self) -> Context:
        """Rows that see each other: groups of so many, or `local`: all of this logical shard."""
        return "local"

    @property
    def residual(self) -> Residual:
        """Whether the related stream is mixed with the plain one by a gate."""
        return "published"

    @property
    def may_be_constant(self) -> bool:
        """Whether the related stream could satisfy SimSiam as a constant."""
        return True

    @property
    def keeps_tokens(self) -> bool:
        """Whether what a batch was inside the backbone is kept, which may be large."""
        return False

    def relating(self, width: int) -> nn.Module:
        """Make the `Relating` module for features of this width; each relation says how."""
        raise NotImplementedError

    def surroundings(self, width: int, *, has_key_side: bool) -> Surroundings | None:
        """Make what that module sees beside the rows of the batch, or None."""
        del width, has_key_side
        return None

    def check_rows(self, rows: int) -> None:
        """Refuse so many rows that see each other.

        Raises:
            InputError: naming the key and what would do.
        """
        del rows
