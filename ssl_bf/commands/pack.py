"""`ssl-bf pack`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from linear_eval.commands.subcommand import add_parser
from linear_eval.system.errors import InputError, load_torch
from ssl_bf.commands import before_torch

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands

EXAMPLE = """\
example:
  ssl-bf pack data/imagenet/train packed views.short_side=320
  ssl-bf pretrain ... views.short_side=320 speed.store=packed
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "pack",
        says="decode the training images once, for all runs: a packed store",
        example=EXAMPLE,
        if_interrupted="what is packed, but for its last 64 MiB at most, is kept in "
        "{output.parent}/.{output.name}.partial until it is complete; the same command goes on",
    )
    parser.add_argument("images", metavar="CONFIG|DATA_ROOT", help="a config, or a folder")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="folder of the store")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="of data.* and views.*, such as views.short_side=320 data.on_bad_image=skip",
    )
    parser.set_defaults(command=_pack)


def _pack(given: argparse.Namespace) -> None:
    before_torch.check_packing(given.images, given.output, given.overrides)
    load_torch(if_interrupted=given.if_interrupted)
    pack_images(given.images, given.output, given.overrides)


def pack_images(given: str, output: Path, overrides: Sequence[str]) -> None:
    """Pack the training images of a config or a folder, or check a store that is there.

    Args:
        given: a config (path or packaged name), or a folder of images.
        output: folder of the store.
        overrides: `key=value` texts.

    Raises:
        InputError: see `ssl_bf.pixels.pack.pack` and `PackedStore.check`.
    """
    from linear_eval.strict_config.reader import load_config, parse_config
    from ssl_bf.config import PretrainConfig
    from ssl_bf.pixels.pack import pack
    from ssl_bf.pixels.packed_store import NOT_CHECKED
    from ssl_bf.pixels.source import FolderConfig, open_source

    before_torch.check_packing(given, output, overrides)
    if Path(given).is_dir():
        of_folder = parse_config(FolderConfig, before_torch.folder_config(given), overrides).value
        data, preparation = of_folder.data, of_folder.views
    else:
        config = load_config(PretrainConfig, given, overrides, packaged="pretrain").value
        data, preparation = config.data, config.views.preparation
    store = pack(
        output,
        open_source(data),
        preparation,
        on_bad_image=data.on_bad_image,
        max_bad=data.max_bad,
    )
    if store.bad_images and data.on_bad_image == "error":
        raise InputError(
            f"{output}: was packed without {len(store.bad_images)} image(s) that cannot be "
            f"decoded, as data.on_bad_image=skip told ({next(iter(store.bad_images.values()))}); "
            "say so again, or mend them and pack into another folder"
        )
    store.check()
    bad = f", {len(store.bad_images)} bad ones skipped" if store.bad_images else ""
    if not store.is_checked:
        bad += f"; {NOT_CHECKED}"
    print(
        f"{output}: {len(store.row_of)} images, {len(store.data) / 2**30:.2f} GiB, every byte as "
        f"it was packed{bad}; train with speed.store={output}"
    )
