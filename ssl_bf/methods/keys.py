"""What the config of every method says, besides its keys, to those who have no method at hand."""

from dataclasses import dataclass
from typing import ClassVar, Protocol


class MethodSettings(Protocol):
    """What other rooms ask of the config of a method, whichever it is; `build` makes the method."""

    needs_labels: ClassVar[bool]

    @property
    def name(self) -> str:
        """As `method.name` gives it."""

    @property
    def title(self) -> str:
        """In a heading."""

    @property
    def kept_backbone(self) -> str:
        """Name of a submodule."""


@dataclass(frozen=True, kw_only=True)
class MethodKeys:
    """The name, and what follows from the keys; these are the answers of most methods."""

    needs_labels: ClassVar[bool] = False  # an unlabelled data set is then refused

    name: str

    @property
    def title(self) -> str:
        """In a heading: how a backbone was trained; a relation's title follows."""
        return f"supervised ({self.name})" if self.needs_labels else "pretrained"

    @property
    def kept_backbone(self) -> str:
        """Name of the submodule that is judged and handed over."""
        return "backbone"
