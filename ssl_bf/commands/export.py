"""`ssl-bf export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_parser
from linear_eval.system.errors import InputError, load_torch
from ssl_bf.commands import before_torch

if TYPE_CHECKING:
    from linear_eval.checkpoints.export import Format
    from linear_eval.commands.subcommand import Commands

DEFAULT_OUTPUTS: dict[Format, str] = {
    "safetensors": "backbone.safetensors",
    "torchvision": "backbone.torchvision.pth",
    "timm": "backbone.timm.safetensors",
    "onnx": "backbone.onnx",
}
EXAMPLE = """\
example:
  ssl-bf export runs/mine --format onnx --output backbone.onnx

Needs no data.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "export",
        says="write the stripped backbone of a run's newest checkpoint",
        example=EXAMPLE,
    )
    parser.add_argument("directory", type=Path, help="the run's directory")
    parser.add_argument(
        "--format",
        choices=[*DEFAULT_OUTPUTS],
        default="safetensors",
        help="file format; each is compared with the backbone before it is kept",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="default: backbone.* in the run's directory, replaced where it exists",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a FILE that exists")
    parser.set_defaults(command=_export)


def _export(given: argparse.Namespace) -> None:
    before_torch.check_run(given.directory)
    load_torch(if_interrupted=given.if_interrupted)
    export_backbone(given.directory, given.output, given.format, overwrite=given.overwrite)


def export_backbone(
    directory: Path,
    output: Path | None,
    file_format: Format = "safetensors",
    *,
    overwrite: bool = False,
) -> None:
    """Write the stripped backbone of a run's newest checkpoint; needs no data.

    Args:
        directory: of the run.
        output: None: in the run's directory, under the name of `DEFAULT_OUTPUTS`.
        file_format: for whom.
        overwrite: whether an `output` that exists is replaced; the default is in any case.
    """
    from linear_eval.backbones.architectures import expected_tensors
    from linear_eval.backbones.backbone_file import assemble_backbone
    from linear_eval.checkpoints.export import export
    from linear_eval.system.atomic_file import check_output
    from ssl_bf.run.checkpoint import load_newest
    from ssl_bf.run.directory import CONFIG_FILE
    from ssl_bf.run.environment import git_commit
    from ssl_bf.run.hand_over import backbone_info
    from ssl_bf.run.saved_config import saved_config

    config = saved_config(directory)
    if output is None:
        output, overwrite = directory / DEFAULT_OUTPUTS[file_format], True
    reads = {"part of the run": [directory / CONFIG_FILE, *directory.glob("checkpoints/*/*")]}
    check_output(output, "--output", overwrite=overwrite, reads=reads)
    saved = load_newest(directory)
    prefix = f"method/{config.method.kept_backbone}."
    tensors = {k.removeprefix(prefix): v for k, v in saved.tensors.items() if k.startswith(prefix)}
    architecture = config.backbone.architecture
    if {name: tuple(value.shape) for name, value in tensors.items()} != expected_tensors(
        architecture
    ):
        raise InputError(
            f"{directory}: its newest checkpoint holds no {architecture}, as {CONFIG_FILE} names "
            f"it; put back the {CONFIG_FILE} that the run was started with"
        )
    backbone = assemble_backbone(architecture, tensors)
    precision = saved.state.get("precision", config.precision)  # earlier versions saved none
    info = backbone_info(config, commit=git_commit(), step=saved.step, precision=precision)
    export(backbone, info, file_format=file_format, output=output)
    print(f"backbone after step {saved.step}: {output}")
