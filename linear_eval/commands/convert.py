"""`linear-eval convert`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_parser
from linear_eval.system.errors import InputError, load_torch

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

EXAMPLE = """\
example:
  linear-eval convert moco_v2_800ep_pretrain.pth.tar --architecture resnet50 \\
      --output moco_v2.safetensors
  linear-eval convert timm:resnet50.a1_in1k --output resnet50.safetensors  (timm's own weights)

Reads checkpoints of MoCo v1-v3, SimSiam, DINO, lightly, solo-learn, mmpretrain, torchvision and
timm, without running code that they may hold. Every tensor is used or belongs to a group that is
listed as dropped; anything else is refused. If a file is refused because it needs code to be read,
and you trust its source, take its tensors out yourself and convert what this writes:

  import safetensors.torch, torch
  checkpoint = torch.load("old.pth", map_location="cpu", weights_only=False)  # runs its code
  tensors = {k: v.clone().contiguous() for k, v in checkpoint["state_dict"].items()}
  safetensors.torch.save_file(tensors, "new.safetensors")
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands, "convert", says="make a backbone file of a foreign checkpoint", example=EXAMPLE
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="their file, or timm:NAME")
    parser.add_argument(
        "--architecture", metavar="NAME", help="of a file, e.g. resnet50 or timm:NAME"
    )
    parser.add_argument("--output", metavar="FILE", type=Path, required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    parser.add_argument(
        "--image-size", metavar="N", type=int, help="default: timm's; 32 for a CIFAR stem; 224"
    )
    parser.add_argument(
        "--mean", metavar="R,G,B", help="of its images in [0, 1]; default: timm's; ImageNet's"
    )
    parser.add_argument("--std", metavar="R,G,B", help="likewise")
    parser.set_defaults(command=_convert)


def _channels(option: str, text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        red, green, blue = (float(number) for number in text.split(","))
    except ValueError as error:
        raise InputError(
            f"{option}: '{text}', expected three numbers; give them as {option} 0.485,0.456,0.406"
        ) from error
    return red, green, blue


def _convert(given: argparse.Namespace) -> None:
    is_timm = given.checkpoint.startswith("timm:")
    if is_timm:
        _refuse_facts(given)
    elif given.architecture is None:
        raise InputError(
            "--architecture: missing, a checkpoint does not say what it holds; give it as "
            "--architecture resnet50 (names: linear-eval architectures)"
        )
    load_torch(if_interrupted=given.if_interrupted)
    from linear_eval.checkpoints.convert import ImageFacts, convert, convert_timm

    if is_timm:
        convert_timm(given.checkpoint, output=given.output, overwrite=given.overwrite)
        return
    convert(
        Path(given.checkpoint),
        architecture=given.architecture,
        output=given.output,
        images=ImageFacts(
            size=given.image_size,
            mean=_channels("--mean", given.mean),
            std=_channels("--std", given.std),
        ),
        overwrite=given.overwrite,
    )


def _refuse_facts(given: argparse.Namespace) -> None:
    for name in ("architecture", "image_size", "mean", "std"):
        if getattr(given, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')}: is what timm says of {given.checkpoint}; leave it out"
            )
