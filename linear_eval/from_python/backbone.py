"""A backbone that a Python program holds, and what it makes of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from linear_eval.backbones.backbone_file import (
    backbone_notes,
    file_sha256,
    load_backbone,
)
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.backbones.opened import OpenedBackbone, open_backbone
from linear_eval.backbones.own_module import expected_of, info_of_module
from linear_eval.backbones.tensors_digest import tensors_sha256
from linear_eval.backbones.timm_models import is_timm
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.given_images import kind_of, require
from linear_eval.datasets.given_labels import class_names_of
from linear_eval.datasets.given_split import Images, split_on_demand
from linear_eval.datasets.image_folder import ImageFolderConfig
from linear_eval.datasets.selection import open_selected_train
from linear_eval.evaluation.config import SpeedConfig
from linear_eval.features.store import NONE, FeatureStoreConfig
from linear_eval.features.table import Embed, frozen
from linear_eval.from_python.features import Features
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.system.cores import torch_threads
from linear_eval.system.errors import InputError, require_backbone

SplitName = Literal["train", "test"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network without a head, and how it wants its images.

    Attributes:
        network: normalised images (N, 3, H, W) -> features (N, D); it is never trained here.
        info: its architecture, width D, image size, mean and std.
        name: its file, `timm:NAME`, or the class of the module.
        path: of its file; None where it comes from elsewhere.
    """

    network: nn.Module
    info: BackboneInfo
    name: str
    path: Path | None = None

    @property
    def width(self) -> int:
        """D."""
        return self.info.feature_dim

    @property
    def opened(self) -> OpenedBackbone:
        """The same for the evaluation."""
        if self.path is None:
            sha256, notes = tensors_sha256(expected_of(self.network)), []
        else:
            sha256, notes = file_sha256(self.path), backbone_notes(self.path)
        return OpenedBackbone(
            network=self.network, info=self.info, sha256=sha256, path=self.path, notes=tuple(notes)
        )

    @property
    def transform(self) -> EvalImages:
        """What is done to an image: the short side becomes the backbone's size, then the centre."""
        return EvalImages(resize=self.info.image_size, crop=self.info.image_size)

    def features(
        self,
        images: str | Path | Images,
        *,
        split: SplitName = "train",
        views: int = 0,
        batch_size: int = 256,
        device: Device = "auto",
        on_bad_image: Literal["error", "skip"] = "error",
    ) -> Features:
        """Features of all images, in their order; nothing is kept on disk.

        Args:
            images: a folder of images; or a map-style torch Dataset (or a sequence) of images or
                (image, label) pairs, an image being a PIL image, or a tensor (3, H, W) of uint8 or
                of floats in [0, 1]; or a tensor (M, 3, H, W) of these.
            split: of a folder that has train/ and val/ or test/.
            views: so many random crops of each image besides, for `quality`.
            batch_size: images at a time; changes results by rounding at most.
            device: where to compute; auto: a GPU if there is one.
            on_bad_image: skip leaves out files that cannot be decoded.

        Raises:
            InputError: the images cannot be read, or features are not finite.
        """
        for name, value, least in (("views", views, 0), ("batch_size", batch_size, 1)):
            require(name, value, int, f"a whole number >= {least}")
            if value < least:
                raise InputError(f"{name}: {value}, expected a whole number >= {least}")
        opened = open_images(images, split)
        batches = ImageBatches(
            split=opened,
            images=self.transform,
            batch_size=batch_size,
            on_bad_image=on_bad_image,
        )
        store = FeatureStoreConfig(folder=NONE).open(None)
        with self.embedding(device) as embed:
            table = store.table("", embed, batches)
            size = self.info.image_size
            crops = store.view_tables("", embed, batches, size=size, passes=views) if views else ()
        return Features(
            x=table.features,
            labels=table.labels,
            ids=table.ids,
            class_names=_class_names(images, opened),
            views=tuple(each.features for each in crops),
        )

    @contextmanager
    def embedding(self, device: Device = "auto") -> Iterator[Embed]:
        """The backbone as a function: images (N, 3, H, W) uint8 -> features (N, D)."""
        speed = SpeedConfig(device=device)
        with torch_threads(torch.get_num_threads()):
            where = speed.open_device()
            mean, std = self.info.mean, self.info.std
            with frozen(self.network, mean=mean, std=std, device=where) as embed:
                yield speed.fastest(embed, where)


def load(
    source: str | Path | nn.Module,
    *,
    module: nn.Module | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
) -> Backbone:
    """A backbone to be judged.

    Args:
        source: a backbone file; or `timm:NAME`, a pretrained network of timm; or any module that
            maps normalised images (N, 3, H, W) to features (N, D).
        module: for a file of a module of one's own: one like it, which is copied and filled.
        mean: per channel, of images in [0, 1]; only a module needs it, files and timm say theirs.
        std: likewise.
        size: of its images in pixels, likewise.

    Raises:
        InputError: the file is no sound backbone file, or an argument is missing or too much.
    """
    said = {"mean": mean, "std": std, "size": size}
    if isinstance(source, str | Path):
        if given := [name for name, value in said.items() if value is not None]:
            raise InputError(f"{given[0]}: {source} says its own; leave {', '.join(given)} out")
        if is_timm(str(source)):
            return _of_timm(str(source), module)
        path = Path(source).expanduser()
        require_backbone(path)
        network, info = load_backbone(path, module)
        return Backbone(network, info, str(path), path)
    if module is not None:
        raise InputError("module: goes with a backbone file; leave it out")
    if not isinstance(source, nn.Module):
        raise InputError(
            f"backbone: is {kind_of(source)}, expected a backbone file, timm:NAME or a torch module"
        )
    if mean is None or std is None or size is None:
        missing = [name for name, value in said.items() if value is None]
        raise InputError(
            f"{missing[0]}: missing, a module does not say how it wants its images; give mean=, "
            "std= (per channel, of images in [0, 1]) and size= (pixels)"
        )
    info = info_of_module(source, mean=mean, std=std, size=size)
    return Backbone(source, info, info.architecture)


def _of_timm(name: str, module: nn.Module | None) -> Backbone:
    if module is not None:
        raise InputError(f"module: timm makes {name} itself; leave it out")
    opened = open_backbone(name)
    return Backbone(opened.network, opened.info, name)


def open_images(images: str | Path | Images, split: SplitName) -> ImageSplit:
    """A folder, or what is at hand, as a split.

    Raises:
        InputError: there are no images.
    """
    if not isinstance(images, str | Path):
        return split_on_demand(images)
    data = ImageFolderConfig(root=str(images))
    return data.open_test() if split == "test" else open_selected_train(data)


def _class_names(images: str | Path | Images, opened: ImageSplit) -> tuple[str, ...]:
    """Known where the images were looked at."""
    if isinstance(images, str | Path):
        return opened.class_names
    return class_names_of(images, opened.labels, "dataset")
