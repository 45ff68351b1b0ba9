"""In-Shop Clothes Retrieval: train, query and gallery images named by one list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from linear_eval.datasets.class_folders import file_split
from linear_eval.datasets.dataset import ImageSplit, RetrievalTask
from linear_eval.datasets.decoding import ImageFileSettings
from linear_eval.datasets.image_files import existing_folder, one_form
from linear_eval.datasets.listed_files import damaged_line, list_lines, listed_images
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable

LIST = "list_eval_partition.txt"
_HEADER = "image_name item_id evaluation_status"
_Status = Literal["train", "query", "gallery"]


class _Line(NamedTuple):
    image: str
    item: str
    status: str


@dataclass(frozen=True, kw_only=True)
class InShopConfig(ImageFileSettings):
    """In-Shop, or one's own images under a list of the same form.

    The list is `Eval/list_eval_partition.txt` or `list_eval_partition.txt` below root: the number
    of images, the heading "image_name item_id evaluation_status", then a line per image with train,
    query or gallery as its status. Names are paths below `root/Img`, or below root where that is
    missing. The items are the classes; those of query and gallery are not in train.

    Attributes:
        root: the folder.

    Source: Liu et al. 2016 (DeepFashion); 25,882 train, 14,218 query and 12,612 gallery images.
    """

    name: Literal["in_shop"] = "in_shop"
    root: str

    @property
    def shares_classes(self) -> bool:
        """Never: queries show items that train does not."""
        return False

    def open_train(self) -> ImageSplit:
        """The images listed as train.

        Raises:
            InputError: the list is missing or damaged, or an image it names is not there.
        """
        return self._split(("train",), "train")

    def open_test(self) -> ImageSplit:
        """The query images; their label numbers are those of the gallery."""
        return self._split(("query", "gallery"), "query")

    def open_retrieval(self) -> RetrievalTask:
        """The gallery images."""
        return RetrievalTask(gallery=self._split(("query", "gallery"), "gallery"))

    def _split(self, numbered: tuple[_Status, ...], status: _Status) -> ImageSplit:
        """Images of one status; the items of all those `numbered` are its classes."""
        root = existing_folder(self.root)
        path = root / "Eval" / LIST
        lines = read_partition(path if path.is_file() else root / LIST)
        names = tuple(sorted({line.item for line in lines if line.status in numbered}))
        number = {item: label for label, item in enumerate(names)}
        lines = [line for line in lines if line.status == status]
        folder = root / "Img" if (root / "Img").is_dir() else root
        images = listed_images(folder, [line.image for line in lines])
        return file_split(
            self.name,
            folder,
            images,
            [number[line.item] for line in lines],
            names,
            decoding=self.decoding,
        )


def read_partition(path: Path) -> list[_Line]:
    """Lines of a `list_eval_partition.txt`, in its order.

    Raises:
        InputError: it cannot be read, is not of that form, is cut off, or names an image twice.
    """
    expected = f"expected the number of images, '{_HEADER}', and a line per image"
    lines = list_lines(path, expected, "check data.root, or the file")
    if len(lines) < 2:
        raise InputError(
            f"{printable(str(path))}: has fewer than two lines, {expected}; check data.root"
        )
    (_, count), (_, header), *rest = lines
    fields = [line.split() for _, line in rest]
    seen: set[str] = set()
    for (number, _), line in zip(rest, fields, strict=True):
        if len(line) != 3 or line[2] not in get_args(_Status) or one_form(line[0]) in seen:
            expected = f"expected '{_HEADER}' with train, query or gallery"
            raise damaged_line(path, number, expected)
        seen.add(one_form(line[0]))
    if header.split() != _HEADER.split() or count.strip() != str(len(fields)):
        raise InputError(
            f"{printable(str(path))}: begins with '{printable(count)}', '{printable(header)}' and"
            f" lists {len(fields)} images, expected their number and '{_HEADER}'; the list may be"
            " cut off, extract the data set again"
        )
    return [_Line(image, one_form(item), status) for image, item, status in fields]
