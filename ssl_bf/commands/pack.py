"""What the command `pack` does: a packed store for a config, or for a folder of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from linear_eval.datasets import DatasetConfig
from linear_eval.strict_config.reader import load_config, parse_config
from linear_eval.system.errors import InputError
from ssl_bf.config import PretrainConfig
from ssl_bf.pixels.pack import pack
from ssl_bf.pixels.packed_store import NOT_CHECKED
from ssl_bf.pixels.preparation import Preparation
from ssl_bf.pixels.source import open_source

CONFIG_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """What is to be said about a folder of images that no config names."""

    data: DatasetConfig
    views: Preparation = field(default_factory=Preparation)


def pack_images(given: str, output: Path, overrides: Sequence[str]) -> None:
    """Pack the training images of a config or a folder, or check a store that is there.

    Args:
        given: a config (path or packaged name), or a folder of images.
        output: folder of the store.
        overrides: `key=value` texts.

    Raises:
        InputError: see `ssl_bf.pixels.pack.pack` and `PackedStore.check`.
    """
    if output.name in ("", ".."):
        raise InputError(f"{output}: expected a folder of its own for the store; give it a name")
    if Path(given).is_dir():
        folder = {"data": {"name": "image_folder", "root": given}}
        of_folder = parse_config(FolderConfig, folder, overrides).value
        data, preparation = of_folder.data, of_folder.views
    elif os.sep in given and not Path(given).exists() and Path(given).suffix not in CONFIG_ENDINGS:
        raise InputError(
            f"{given}: no such folder, expected one of images, or a config; look at it"
        )
    else:
        config = load_config(PretrainConfig, given, overrides, packaged="pretrain").value
        data, preparation = config.data, config.views.preparation
    store = pack(output, open_source(data), preparation, on_bad_image=data.on_bad_image)
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
