"""`linear-eval export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_parser
from linear_eval.system.errors import load_torch, require_backbone

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

EXAMPLE = """\
example:
  linear-eval export moco_v2.safetensors --format onnx --output moco_v2.onnx

torchvision: a state_dict of resnet18 to resnet101 for torch.load; timm: safetensors of those and of
ViTs; onnx: any architecture. The file is kept only if its features are the backbone's.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands, "export", says="write a backbone file for another tool", example=EXAMPLE
    )
    parser.add_argument("backbone", metavar="BACKBONE", type=Path, help="a backbone file")
    parser.add_argument("--format", choices=("torchvision", "timm", "onnx"), required=True)
    parser.add_argument("--output", metavar="FILE", type=Path, required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    parser.set_defaults(command=_export)


def _export(given: argparse.Namespace) -> None:
    require_backbone(given.backbone)
    load_torch(if_interrupted=given.if_interrupted)
    from linear_eval.backbones.backbone_file import backbone_notes, load_backbone
    from linear_eval.checkpoints.export import export
    from linear_eval.system.atomic_file import check_output

    reads = {"the backbone itself": [given.backbone]}
    check_output(given.output, "--output", overwrite=given.overwrite, reads=reads)
    network, info = load_backbone(given.backbone)
    export(network, info, file_format=given.format, output=given.output)
    for note in backbone_notes(given.backbone):
        print(f"note: {note}")
    print(f"written: {given.output}")
