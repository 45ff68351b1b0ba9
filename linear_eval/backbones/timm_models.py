"""Any model of timm as the architecture `timm:NAME`: made by timm itself, without its classifier.

NAME may end in the tag of pretrained weights (`timm:resnet50.a1_in1k`). The tag decides mean, std
and size of the images, so it stays part of the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

PREFIX = "timm:"
Channels = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class TimmModel:
    """What timm says about one of its models.

    Attributes:
        name: with the tag of its pretrained weights, where it has some.
        width: D of its features.
        image_size: side of the images that its weights were trained on, in pixels.
        mean: per channel, of images in [0, 1].
        std: per channel, > 0.
        state: name -> tensor without values, of every weight and buffer.
    """

    name: str
    width: int
    image_size: int
    mean: Channels
    std: Channels
    state: dict[str, Tensor]


def is_timm(architecture: str) -> bool:
    """Whether a name is one of timm's."""
    return architecture.startswith(PREFIX)


def build_timm(architecture: str, *, pretrained: bool = False) -> nn.Module:
    """A model of timm without its classifier: (N, 3, H, W) -> (N, D).

    Args:
        architecture: `timm:NAME`.
        pretrained: with timm's weights, which may have to be downloaded; else they are drawn from
            torch's global generator.

    Raises:
        InputError: timm is missing, has no such model, or cannot get its weights.
    """
    timm = import_timm(f"architecture: '{architecture}' needs timm")
    name = _known_name(timm, architecture)
    if pretrained and not timm.models.is_model_pretrained(name):
        raise InputError(
            f"architecture: timm has no weights for '{architecture}', expected a model with some; "
            "give a backbone file, or another name"
        )
    try:
        network: nn.Module = timm.create_model(name, num_classes=0, pretrained=pretrained)
    except OSError as error:  # those of networks and of the Hugging Face hub are
        raise InputError(
            f"architecture: the weights of '{architecture}' could not be downloaded ({error}); "
            "try again with a network, or give a backbone file"
        ) from error
    facts = _pretrained_cfg(network)
    if facts.get("fixed_input_size"):
        # of a vision transformer it is where its stages begin
        is_vit = isinstance(network, timm.models.VisionTransformer)
        first = network.get_submodule("patch_embed") if is_vit else network
        first.register_forward_pre_hook(_SizeCheck(architecture, *facts["input_size"][1:]))
    return network


@lru_cache(maxsize=8)
def timm_model(architecture: str) -> TimmModel:
    """What timm says about `timm:NAME`; no weights are drawn, no generator moves.

    Raises:
        InputError: timm is missing, has no such model, or it gives no single row per RGB image.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = build_timm(architecture).eval()
    facts = _pretrained_cfg(network)
    channels, height, width = facts["input_size"]
    # not `num_features`: many models end in a hidden layer of another width
    with torch.inference_mode():
        features = network(torch.zeros(1, channels, height, width, device="meta"))
    if channels != 3 or height != width or features.ndim != 2:
        raise InputError(
            f"architecture: '{architecture}' gives {tuple(features.shape)} of an image of "
            f"{tuple(facts['input_size'])}, expected one row of features of a square RGB image; "
            "take another model"
        )
    tag = facts.get("tag")
    bare = architecture.partition(".")[0]
    return TimmModel(
        name=f"{bare}.{tag}" if tag else bare,
        width=features.shape[1],
        image_size=height,
        mean=_three(facts["mean"]),
        std=_three(facts["std"]),
        state=network.state_dict(),
    )


def import_timm(asked: str) -> Any:
    """The package; `asked` says in the message who needs it.

    Raises:
        InputError: it is missing, or does not load.
    """
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another build
        raise InputError(
            f"{asked}, which cannot be imported ({error}); install the extra: "
            "pip install 'ssl-bf[timm]'"
        ) from error
    return timm


class _SizeCheck:
    """A forward pre-hook: images of the one size that a model takes."""

    def __init__(self, architecture: str, height: int, width: int) -> None:
        self.architecture = architecture
        self.size = (height, width)

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        del network
        height, width = inputs[0].shape[-2:]
        if (height, width) != self.size:
            raise InputError(
                f"images: {width} x {height} pixels, but {self.architecture} takes "
                f"{self.size[1]} x {self.size[0]} only; set image_size={self.size[0]} "
                f"(pretraining: views.size={self.size[0]}), or take another model"
            )


def _known_name(timm: Any, architecture: str) -> str:
    """The name as timm has it."""
    name = architecture.removeprefix(PREFIX)
    bare, _, tag = name.partition(".")
    if not timm.models.is_model(bare):
        near = get_close_matches(bare, timm.list_models(), n=1)
        hint = f"did you mean '{PREFIX}{near[0]}'?" if near else "timm.list_models() has all names"
        raise InputError(f"architecture: timm has no model '{bare}'; {hint}")
    if tag:
        known = [each.partition(".")[2] for each in timm.list_pretrained(f"{bare}.*")]
        if tag not in known:
            near = get_close_matches(tag, known, n=1)
            hint = (
                f"did you mean '{PREFIX}{bare}.{near[0]}'?"
                if near
                else f"known: {', '.join(known) or 'none'}"
            )
            raise InputError(f"architecture: timm's {bare} has no weights '{tag}'; {hint}")
    return name


def _pretrained_cfg(network: Any) -> dict[str, Any]:
    facts: dict[str, Any] = network.pretrained_cfg
    return facts


def _three(values: Any) -> Channels:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
