"""Images that can be searched by another image, from a Python program."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from linear_eval.backbones.backbone_file import file_sha256
from linear_eval.datasets.decoding import Decoding
from linear_eval.datasets.given_images import as_pixels, require
from linear_eval.datasets.given_split import Images
from linear_eval.features.table import FeatureTable
from linear_eval.from_python.backbone import Backbone, SplitName, load, open_images
from linear_eval.own_images.answers import Neighbour, neighbours_of
from linear_eval.own_images.image_index import (
    ImageIndex,
    check_index_output,
    read_index,
    write_index,
)
from linear_eval.own_images.index_images import indexed
from linear_eval.own_images.query import find_backbone
from linear_eval.own_images.query_features import query_features, read_query
from linear_eval.search.faiss_index import Kind
from linear_eval.search.faiss_library import open_faiss
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Index:
    """Images by the features of a backbone; `build` or `open` makes one.

    Attributes:
        backbone: that made the features.
        images: the index itself.
    """

    backbone: Backbone
    images: ImageIndex

    @classmethod
    def build(
        cls,
        backbone: Backbone,
        images: str | Path | Images,
        *,
        kind: Kind = "flat",
        split: SplitName = "train",
    ) -> Index:
        """Index images in memory, by cosine similarity (needs faiss).

        Args:
            backbone: makes the features.
            images: see `Backbone.features`; likewise `split`.
            kind: flat is exact; ivf and hnsw are faster on many images.

        Raises:
            InputError: the images cannot be read, or faiss is missing.
        """
        require("backbone", backbone, Backbone, "what linear_eval.load(FILE) gives")
        open_faiss()  # missing, this should not be found out after an hour of features
        opened = open_images(images, split)
        found = backbone.features(opened)
        table = FeatureTable(found.x, found.labels, tuple(found.ids))
        size, path = backbone.info.image_size, backbone.path
        made = indexed(
            table,
            opened,
            kind=kind,
            backbone={
                "path": "" if path is None else str(path.absolute()),
                "sha256": "" if path is None else file_sha256(path),
                "architecture": backbone.info.architecture,
            },
            images=asdict(backbone.transform)
            | {"pixels": [size, size], "decoding": asdict(Decoding(orientation="exif"))},
            data={
                "name": "given" if opened.folder is None else "image_folder",
                "split": split,
                "fingerprint": opened.fingerprint,
            },
        )
        return cls(backbone, made)

    @classmethod
    def open(cls, folder: str | Path, backbone: Backbone | None = None) -> Index:
        """Open a folder that `save` or `linear-eval index` wrote.

        Args:
            folder: the index.
            backbone: that it was made with; None: from where it was then.

        Raises:
            InputError: one of both is missing, damaged, or does not belong to the other.
        """
        folder = Path(folder)
        made = read_index(folder)
        if backbone is None:
            return cls(load(find_backbone(folder, None)), made)
        if backbone.path is None:
            raise InputError("backbone: has no file to compare with the index; load it from one")
        find_backbone(folder, backbone.path)
        return cls(backbone, made)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the index to a folder, for `Index.open` and `linear-eval query`.

        Raises:
            InputError: it cannot be written, or the backbone has no file that could be found again.
        """
        if self.backbone.path is None:
            raise InputError("index: its backbone has no file to be found again; save that first")
        check_index_output(Path(folder), overwrite)
        write_index(Path(folder), self.images)

    def query(self, image: str | Path | Image.Image | Tensor, k: int = 10) -> list[Neighbour]:
        """The k indexed images that are most like an image, the nearest first.

        Args:
            image: a path, a PIL image, or a tensor (3, H, W) of uint8 or of floats in [0, 1].
            k: at least 1, at most the number of indexed images.

        Returns:
            Each with `rank` (from 1), `score` (cosine), `name` and `path` (None if it has none).

        Raises:
            InputError: the image cannot be read, or k is out of range.
        """
        manifest = self.images.manifest
        if isinstance(image, str | Path):
            named = str(image), read_query(Path(image), manifest.decoding)
        else:
            named = "image", as_pixels(image, "image")
        with self.backbone.embedding() as embed:
            rows = query_features([named], manifest, embed, [])
        scores, found = self.images.search(rows, k)
        return neighbours_of(self.images, scores[0], found[0])
