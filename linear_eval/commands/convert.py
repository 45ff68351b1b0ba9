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
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="their file")
    parser.add_argument("--architecture", metavar="NAME", required=True, help="e.g. resnet50")
    parser.add_argument("--output", metavar="FILE", type=Path, required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    parser.add_argument(
        "--image-size", metavar="N", type=int, help="default: 224; 32 for a CIFAR stem"
    )
    parser.add_argument(
        "--mean", metavar="R,G,B", help="of its images in [0, 1]; default: ImageNet"
    )
    parser.add_argument("--std", metavar="R,G,B", help="default: ImageNet")
    parser.set_defaults(command=_convert)


def _channels(option: str, text: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(number) for number in text.split(","))
    except ValueError as error:
        raise InputError(
            f"{option}: '{text}', expected three numbers; give them as {option} 0.485,0.456,0.406"
        ) from error
    return red, green, blue


def _convert(given: argparse.Namespace) -> None:
    load_torch(if_interrupted=given.if_interrupted)
    from linear_eval.checkpoints.convert import ImageFacts, convert
    from linear_eval.evaluation.contestants import IMAGENET_MEAN, IMAGENET_STD

    convert(
        given.checkpoint,
        architecture=given.architecture,
        output=given.output,
        images=ImageFacts(
            size=given.image_size,
            mean=_channels("--mean", given.mean) if given.mean else IMAGENET_MEAN,
            std=_channels("--std", given.std) if given.std else IMAGENET_STD,
        ),
        overwrite=given.overwrite,
    )
