"""The command `ssl-bf`; nothing heavy is imported before a command runs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from linear_eval import __version__
from linear_eval.commands.subcommand import add_config
from linear_eval.system.errors import EXIT_DONE, EXIT_FAILED, load_torch, one_line, run_command
from linear_eval.system.line_parser import LineParser, complete
from linear_eval.system.screen import say
from ssl_bf.commands import configs

CONFIG_HELP = (
    "path of a YAML file, or the name of a packaged config (ssl-bf configs lists them): "
    "quickstart, small_image_folder, moco_v3_image_folder, or METHOD_DATA or "
    "METHOD_batchformer_DATA with METHOD moco_v2, moco_v3 or simsiam and DATA cifar10, "
    "tiny_imagenet_40, imagenet100 or imagenet"
)
OVERRIDES_HELP = "settings that replace those of the file, such as epochs=10 method.temperature=0.2"


# Filled with the options. A run that makes steps is asked to stop, saves and says so itself.
IF_INTERRUPTED = {
    "pretrain": "run.directory is as it was, or the run is done; what is packed is kept, but for "
    "its last 64 MiB at most",
    "resume": "the run is as its newest checkpoint left it; the same command goes on",
    "export": "only files named above were written",
    "pack": "what is packed, but for its last 64 MiB at most, is kept in "
    "{output.parent}/.{output.name}.partial until it is complete; the same command goes on",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code, as `run_command` and, for a broken loss, 1."""
    parser = _parser()
    complete(parser)
    options = parser.parse_args(arguments)
    if callable(options.command):
        return run_command(lambda: options.command(options), if_interrupted=options.if_interrupted)
    codes: list[int] = []
    if_interrupted = one_line(IF_INTERRUPTED[options.command].format_map(vars(options)))
    ended = run_command(
        lambda: codes.append(_run(options, if_interrupted)), if_interrupted=if_interrupted
    )
    return ended or codes[0]


def _run(options: argparse.Namespace, if_interrupted: str) -> int:
    if options.command == "pretrain" and options.explain:
        from ssl_bf.pretrain import explain_key

        print(explain_key(options.config, options.overrides, options.explain))
        return EXIT_DONE
    if options.command == "pretrain":  # the name and the YAML are checked before torch is loaded
        from linear_eval.strict_config.source import read_config_file

        read_config_file(options.config, "pretrain")
    load_torch(if_interrupted=if_interrupted)
    from ssl_bf.pack_command import pack_images
    from ssl_bf.pretrain import export_backbone, pretrain, resume, whole_config
    from ssl_bf.run.log import NonFiniteLoss

    try:
        if options.command == "pretrain" and options.show:
            print(whole_config(options.config, options.overrides), end="")
        elif options.command == "pretrain":
            pretrain(options.config, options.overrides)
        elif options.command == "resume":
            resume(options.directory, options.overrides)
        elif options.command == "pack":
            pack_images(options.images, options.output, options.overrides)
        else:
            export_backbone(
                options.directory, options.output, options.format, overwrite=options.overwrite
            )
    except NonFiniteLoss as stop:
        say(f"error: {stop}")
        return EXIT_FAILED
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = LineParser(
        prog="ssl-bf",
        description="Pretrain image backbones with MoCo-v2, MoCo-v3 or SimSiam and BatchFormer.",
        epilog="example: ssl-bf pretrain quickstart run.directory=runs/mine seed=1",
    )
    parser.add_argument("--version", action="version", version=f"ssl-bf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "pretrain",
        help="train a backbone",
        epilog="example: ssl-bf pretrain moco_v3_batchformer_cifar10 data.root=data/cifar10 "
        "epochs=20; on several devices: torchrun --nproc-per-node 8 -m ssl_bf pretrain ...",
    )
    add_config(command, "pretrain", CONFIG_HELP)
    command.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES_HELP)
    command.add_argument(
        "--show",
        action="store_true",
        help="print the whole config and stop; ??? stands for what must be given",
    )

    command = commands.add_parser(
        "resume",
        help="go on exactly where a run stopped",
        epilog="example: ssl-bf resume runs/quickstart/with_batchformer",
    )
    command.add_argument("directory", type=Path, help="the run's directory")
    command.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="of speed.*, run.*, data.root and data.on_bad_image, for this time",
    )

    command = commands.add_parser(
        "export",
        help="write the stripped backbone of a run's newest checkpoint",
        epilog="example: ssl-bf export runs/mine --format onnx --output backbone.onnx",
    )
    command.add_argument("directory", type=Path, help="the run's directory")
    command.add_argument(
        "--format",
        choices=["safetensors", "torchvision", "timm", "onnx"],
        default="safetensors",
        help="file format; each is compared with the backbone before it is kept",
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="default: backbone.* in the run's directory, replaced where it exists",
    )
    command.add_argument("--overwrite", action="store_true", help="replace a FILE that exists")

    command = commands.add_parser(
        "pack",
        help="decode the training images once, for all runs: a packed store",
        epilog="example: ssl-bf pack data/imagenet/train packed views.short_side=320; "
        "then ssl-bf pretrain ... views.short_side=320 speed.store=packed",
    )
    command.add_argument("images", metavar="CONFIG|DATA_ROOT", help="a config, or a folder")
    command.add_argument("output", metavar="OUTPUT", type=Path, help="folder of the store")
    command.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="of data.* and views.*, such as views.short_side=320 data.on_bad_image=skip",
    )
    configs.add(commands)
    return parser
