"""Images, labels and splits by a table: a CSV or TSV file with a line per image."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from linear_eval.datasets.class_folders import file_split
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decoding import ImageFileSettings, Orientation
from linear_eval.datasets.image_files import existing_folder, few, one_form
from linear_eval.datasets.listed_files import listed_images
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable
from linear_eval.system.user_text import TextError, read_text


@dataclass(frozen=True, kw_only=True)
class TableConfig(ImageFileSettings):
    """A CSV file (commas) or a TSV file (tabs), whose first line names its columns.

    Attributes:
        root: the folder that the paths of the images begin in.
        table: the file; a relative path begins in root.
        path: the column with the path of an image.
        label: the column with its class; null: there are no labels, for pretraining.
        split: the column that says train or test; null: all images are train.
        train: what the split column says for train.
        test: what it says for test; images of other splits are left out, and a line says so.
        classes: shared, train and test have the same classes; disjoint, they have none in common,
            as in retrieval (then only retrieval is evaluated).
        orientation: upright, as one sees them; see `ImageFileSettings`.
    """

    name: Literal["table"] = "table"
    root: str
    table: str
    path: str = "path"
    label: str | None = "label"
    split: str | None = "split"
    train: str = "train"
    test: str = "test"
    classes: Literal["shared", "disjoint"] = "shared"
    orientation: Orientation = "exif"

    @property
    def shares_classes(self) -> bool:
        """As `classes` says."""
        return self.classes == "shared"

    def open_train(self) -> ImageSplit:
        """The images of train, in the order of the table.

        Raises:
            InputError: the table cannot be read, lacks a column or a value, or names an image
                twice; an image is not there; or none is train.
        """
        return self._open(self.train)

    def open_test(self) -> ImageSplit:
        """The images of test; the label numbers are those of train, where classes are shared."""
        if self.split is None or self.label is None:
            key = "data.split" if self.split is None else "data.label"
            raise InputError(
                f"{key}: null, so the table is good for pretraining only, expected a column; set "
                f"{key}=COLUMN"
            )
        return self._open(self.test)

    def _open(self, wanted: str) -> ImageSplit:
        root = existing_folder(self.root)
        file = root / Path(self.table).expanduser()
        rows = _read(file, [key for key in (self.path, self.label, self.split) if key is not None])
        _refuse_repeated(file, [row[self.path] for row in rows])
        chosen = rows if self.split is None else [r for r in rows if r[self.split] == wanted]
        if not chosen:
            said = few({row[self.split] for row in rows}, 5) if self.split else ""
            raise InputError(
                f"{printable(str(file))}: no image is '{printable(wanted)}' in column"
                f" '{printable(str(self.split))}' (it says {said}), expected some; set data.train"
                " and data.test to what it says"
            )
        names, labels = self._labels(file, rows, chosen)
        images = listed_images(
            root,
            [row[self.path] for row in chosen],
            which=f"images of {printable(self.table)}",
            remedy="correct the table or data.root",
        )
        return file_split(
            self.name, root, images, labels, names, decoding=self.decoding, notes=self._notes(rows)
        )

    def _labels(
        self, file: Path, rows: list[dict[str, str]], chosen: list[dict[str, str]]
    ) -> tuple[tuple[str, ...], list[int]]:
        """Class names and the label of each chosen row."""
        if self.label is None:
            return (), [-1] * len(chosen)
        numbered = chosen
        if self.shares_classes and self.split is not None:
            numbered = [row for row in rows if row[self.split] == self.train]
        names = tuple(sorted({one_form(row[self.label]) for row in numbered}))
        number = {name: label for label, name in enumerate(names)}
        unknown = {one_form(row[self.label]) for row in chosen} - set(names)
        if unknown:
            raise InputError(
                f"{printable(str(file))}: {len(unknown)} classes of test are not in train"
                f" ({few(unknown)}), expected only classes of train; correct it, or, for retrieval"
                " of classes never seen, set data.classes=disjoint evaluators=[retrieval]"
            )
        return names, [number[one_form(row[self.label])] for row in chosen]

    def _notes(self, rows: list[dict[str, str]]) -> tuple[str, ...]:
        if self.split is None:
            return ()
        others = [row[self.split] for row in rows if row[self.split] not in (self.train, self.test)]
        if not others:
            return ()
        said = few(set(others))
        return (f"{printable(self.table)}: {len(others)} images of other splits ({said}) left out",)


def _read(file: Path, columns: list[str]) -> list[dict[str, str]]:
    """The rows; each has a value in each of the columns, of which the first is the path."""
    delimiter = "\t" if file.suffix.lower() in (".tsv", ".tab") else ","
    expected = f"expected a line per image with columns {', '.join(map(printable, columns))}"
    try:
        lines = read_text(file).split("\n")
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        header = [name.strip() for name in next(rows, [])]
        wrong = [name for name in columns if header.count(name) != 1]
        if wrong:
            has = "has twice the" if wrong[0] in header else "lacks the"
            raise InputError(
                f"{printable(str(file))}: {has} column '{printable(wrong[0])}' (its first line, at"
                f" each {'tab' if delimiter == chr(9) else 'comma'}: {_shown(header)}), {expected};"
                " correct it, or set data.path, data.label and data.split"
            )
        places = {name: header.index(name) for name in columns}
        found = []
        for row in rows:
            if not any(row):
                continue
            if len(row) != len(header) or not all(row[place].strip() for place in places.values()):
                raise InputError(
                    f"{printable(str(file))}: line {rows.line_num} has {len(row)} values for"
                    f" {len(header)} columns, or an empty one, {expected}; correct it"
                )
            found.append({name: row[place].strip() for name, place in places.items()})
            found[-1][columns[0]] = str(PurePosixPath(found[-1][columns[0]]))  # ./a//b is a/b
    except TextError as error:
        raise InputError(
            f"{printable(str(file))}: {error}, {expected}; correct data.table or the file"
        ) from error
    except csv.Error as error:
        raise InputError(
            f"{printable(str(file))}: line {rows.line_num} is damaged ({error}), {expected};"
            " correct it"
        ) from error
    if not found:
        raise InputError(f"{printable(str(file))}: lists no image, {expected}; correct data.table")
    return found


def _shown(header: list[str]) -> str:
    names = [printable(name) for name in header[:10]]
    return " | ".join([*names, "..."] if len(header) > 10 else names) or "nothing"


def _refuse_repeated(file: Path, paths: list[str]) -> None:
    times = Counter(map(one_form, paths))
    repeated = [path for path, count in times.items() if count > 1]
    if repeated:
        raise InputError(
            f"{printable(str(file))}: names {len(repeated)} images twice ({few(repeated)}),"
            " expected each once; remove all but one line of each"
        )
