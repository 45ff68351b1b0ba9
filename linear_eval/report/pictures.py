"""The images of an evaluation, found again, as small pictures that a page can hold.

Shapes: H x W pixels of an image.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import BadImageError
from linear_eval.datasets.splits import EvaluationSplits, open_splits
from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.report.run_files import Run
from linear_eval.results.results_file import Results
from linear_eval.strict_config.places import LEFT_OUT
from linear_eval.strict_config.reader import parse_config
from linear_eval.system.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

SIDE = 96  # of a picture: twice what the page shows it at, for screens of two dots per pixel
SPRITE_SIDE = 56
SPRITE_COLUMNS = 32
_QUALITY = 82
_SPRITE_QUALITY = 70
_TINY = 48  # images below are enlarged by whole dots, so that they stay sharp
_GREY = (128, 128, 128)
_HINT = "give the folder of the images as --data-root FOLDER"


class AbsentImagesError(Exception):
    """The images cannot be shown; the message says why, and what would help.

    It stands on the page, which names no place; `detail` may, and is for the terminal.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


@dataclass(frozen=True)
class Picture:
    """An image on the page.

    Attributes:
        source: `data:` address.
        name: of the image, in its split.
        label: name of its class.
        is_tiny: whether it is to be enlarged by whole dots.
    """

    source: str
    name: str
    label: str
    is_tiny: bool


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images of an evaluation: `config` as it was judged with, `splits` opened."""

    config: EvaluateConfig
    splits: EvaluationSplits

    @cached_property
    def rows_of_test(self) -> dict[str, int]:
        """Name -> row of every test image."""
        return {name: row for row, name in enumerate(self.splits.test.ids)}

    def gallery_rows(self, tables: Sequence[Sequence[str]]) -> list[tuple[str, int]]:
        """Part and row of every image that a gallery of train and hold-out has, given their names.

        A table lacks the images that could not be read.
        """
        found = []
        for part, names in zip(("train", "holdout"), tables, strict=False):
            rows = {name: row for row, name in enumerate(self.splits.parts[part].ids)}
            found += [(part, rows[name]) for name in names]
        return found

    def of(self, split: ImageSplit, row: int) -> Picture:
        """A small picture of one image; a grey one if it cannot be read."""
        image = _read(split, row)
        is_tiny = max(image.size) < _TINY
        label = int(split.labels[row])
        return Picture(
            source=_as_source(image if is_tiny else _fitted(image, SIDE), _QUALITY),
            name=split.ids[row],
            label=split.class_names[label] if label >= 0 else "",
            is_tiny=is_tiny,
        )

    def sprite(self, split: ImageSplit, rows: Sequence[int]) -> tuple[str, int]:
        """These images in one picture, `SPRITE_COLUMNS` in a line; and the side of a tile."""
        from PIL import Image

        images = [_read(split, row) for row in rows]
        side = min(SPRITE_SIDE, max(max(image.size) for image in images))
        lines = -(-len(rows) // SPRITE_COLUMNS)
        sheet = Image.new("RGB", (side * SPRITE_COLUMNS, side * lines), _GREY)
        for number, image in enumerate(images):
            fitted = _fitted(image, side)
            line, column = divmod(number, SPRITE_COLUMNS)
            inset = ((side - fitted.width) // 2, (side - fitted.height) // 2)
            sheet.paste(fitted, (column * side + inset[0], line * side + inset[1]))
        return _as_source(sheet, _SPRITE_QUALITY), side


def open_pictures(results: Results, runs: Sequence[Run], data_root: Path | None) -> Pictures:
    """Find the images again that an evaluation judged on.

    Where they lie is no part of the results: a run that is named and learned from the same data set
    says it in its config, or the user does.

    Args:
        results: of the evaluation.
        runs: whose configs may say where the images are.
        data_root: where the user says they are; None: not said.

    Raises:
        AbsentImagesError: they are not found, or are not those that were judged.
        InputError: `data_root` is no folder.
    """
    said = results.whole.get("config")
    if not isinstance(said, dict):
        raise AbsentImagesError(
            f"{results.path.name} is of an earlier version and does not say how the images were "
            "read; judge again with `linear-eval run`"
        )
    if data_root is not None and not data_root.is_dir():
        raise InputError(f"--data-root: {data_root} is no folder, expected that of the images")
    places = [{"root": str(data_root)}] if data_root else []
    data = dict(said.get("data") or {})
    same = [run.config.get("data") or {} for run in runs]
    places += [{}, *(each for each in same if each.get("name") == data.get("name"))]
    problem, detail = f"where they lie is not known; {_HINT}", ""
    for place in places:
        found = {
            key: place.get(key, value) if value == LEFT_OUT else value
            for key, value in data.items()
        }
        if LEFT_OUT in found.values():
            continue
        try:
            pictures = _opened(said | {"data": found})
        except InputError as error:
            problem, detail = f"they are not where they were; {_HINT}", str(error)
        else:
            if pictures.splits.fingerprint == results.data["fingerprint"]:
                return pictures
            problem = (
                "the images that are there now are others than those judged (names, labels or "
                f"sizes differ); {_HINT}"
            )
    raise AbsentImagesError(problem, detail)


def _opened(config: dict[str, Any]) -> Pictures:
    # its own name for the backbone stays unknown: the features are found by their digest
    loaded = parse_config(EvaluateConfig, config | {"baselines": []})
    return Pictures(loaded.value, open_splits(loaded.value.data))


def _read(split: ImageSplit, row: int) -> Image.Image:
    from PIL import Image

    try:
        pixels = split.read(row)
    except BadImageError:  # it was judged without, or is damaged now
        return Image.new("RGB", (SIDE, SIDE), _GREY)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def _fitted(image: Image.Image, side: int) -> Image.Image:
    """The whole image, its long side at most `side`."""
    from PIL import Image

    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def _as_source(image: Image.Image, quality: int) -> str:
    file = io.BytesIO()
    image.save(
        file,
        "JPEG",
        quality=quality,
        subsampling=0 if max(image.size) < _TINY else 2,
        optimize=True,
    )
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
