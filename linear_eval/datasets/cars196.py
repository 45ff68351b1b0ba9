"""Cars-196: models of cars; for retrieval the first half of the classes is train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from linear_eval.datasets.class_folders import file_split
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.divided_classes import DividedClassesSettings
from linear_eval.datasets.image_files import existing_folder
from linear_eval.datasets.listed_files import listed_images
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable

ANNOTATIONS = "cars_annos.mat"


class _Car(NamedTuple):
    path: str
    number: int  # of its class, from 1


@dataclass(frozen=True, kw_only=True)
class Cars196Config(DividedClassesSettings):
    """The layout of one archive: `cars_annos.mat` and `car_ims/`.

    Classes 1 to 98 are train, 99 to 196 test, as in all published retrieval results. The file of
    annotations is one of Matlab's, which scipy reads (extra `cars`).

    Attributes:
        root: the folder of both.

    Source: Krause et al. 2013; 16,185 images.
    """

    name: Literal["cars196"] = "cars196"
    root: str

    def _open(self, *, is_train: bool) -> ImageSplit:
        root = existing_folder(self.root)
        names, cars = _read(root / ANNOTATIONS)
        half = len(names) // 2
        first, last = (1, half) if is_train else (half + 1, len(names))
        kept = [car for car in cars if first <= car.number <= last]
        images = listed_images(root, [car.path for car in kept])
        labels = [car.number - first for car in kept]
        chosen = tuple(names[first - 1 : last])
        return file_split(self.name, root, images, labels, chosen, decoding=self.decoding)


def _read(path: Path) -> tuple[list[str], list[_Car]]:
    """Names of the classes, and the images."""
    expected = "expected the published cars_annos.mat"
    if not path.is_file():
        raise InputError(
            f"{printable(str(path))}: missing, {expected} beside car_ims; check data.root"
        )
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise InputError(
            "data.name: cars196 reads a file of Matlab's, expected scipy, which is not installed;"
            " pip install 'ssl-bf[cars]'"
        ) from error
    try:
        found: dict[str, Any] = loadmat(path, simplify_cells=True)
        names = [str(name) for name in found["class_names"]]
        cars = [
            _Car(str(each["relative_im_path"]), int(each["class"])) for each in found["annotations"]
        ]
    except (ValueError, KeyError, TypeError, IndexError, OSError, NotImplementedError) as error:
        raise InputError(
            f"{printable(str(path))}: cannot be read ({printable(str(error))}), {expected};"
            " extract the data set again"
        ) from error
    strange = [car for car in cars if not 1 <= car.number <= len(names)]
    if strange or len(names) < 2 or len({car.path for car in cars}) != len(cars):
        raise InputError(
            f"{printable(str(path))}: names an image twice or a class of {len(names)} that does not"
            f" exist, {expected}; extract the data set again"
        )
    return names, cars
