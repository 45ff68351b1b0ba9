"""Where the splits of a data set lie, and which folder was meant where they do not."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from pathlib import Path

from linear_eval.datasets.image_files import few, folder_names, one_form
from linear_eval.system.errors import InputError
from linear_eval.system.printable import printable

_MEANS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_LEVELS = 4  # ImageNet's archive: root/ILSVRC/Data/CLS-LOC/train
_MAX_LISTED = 200


def meaning(split: str, names: Collection[str]) -> list[str]:
    """The names that stand for a split, in any case: "val" also stands as Valid or validation."""
    words = _MEANS.get(split, (split,))
    return sorted(name for name in names if one_form(name).casefold() in words)


def judged_names(names: Collection[str]) -> list[str]:
    """The names of a test split."""
    return [*meaning("val", names), *meaning("test", names)]


def find_train(root: Path, names: Collection[str] | None = None) -> Path | None:
    """`root/train`, or the one folder of that meaning; None where there is none.

    Args:
        root: the data set's folder.
        names: its first-level folders, where they are known.

    Raises:
        InputError: there are several, none of them called train.
    """
    if (root / "train").is_dir():
        return root / "train"
    found = meaning("train", folder_names(root) if names is None else names)
    if len(found) > 1:
        raise InputError(
            f"{printable(str(root))}: holds {few(found)}, expected one train; rename one of them"
        )
    return root / found[0] if found else None


def taken_as(folder: Path, split: str) -> tuple[str, ...]:
    """A note for the user where a split's folder has another name."""
    if folder.name == split:
        return ()
    return (f"{printable(str(folder))}: is taken for {split}",)


def missing_split(folder: Path) -> InputError:
    """The error for a missing split folder; it names what would work, if anything."""
    root = folder.parent
    names = folder_names(root) if root.is_dir() else ()
    other = meaning(folder.name, names)
    better = better_root(root)
    if other:
        link = f"ln -s '{printable(other[0])}' '{printable(str(folder))}'"
        advice = f"rename '{printable(other[0])}' to {folder.name}, or link it: {link}"
    elif better is not None:
        advice = f"set data.root={printable(str(better))}"
    else:
        advice = "check data.root and data.name"
    return InputError(
        f"{printable(str(folder))}: missing, expected a folder with one folder per class; {advice}"
    )


def better_root(root: Path) -> Path | None:
    """The folder with `train` in it that is near `root`: the one above, or one a few levels below.

    None where `root` itself has one, or where no single folder has.
    """
    if not root.is_dir() or meaning("train", folder_names(root)):
        return None
    above = root.absolute().parent
    if any(meaning(split, (root.absolute().name,)) for split in _MEANS) and (
        meaning("train", folder_names(above))
    ):
        return above
    waiting, found, listed = deque([(root, 0)]), [], 0
    while waiting and listed < _MAX_LISTED:
        folder, level = waiting.popleft()
        names = folder_names(folder)
        listed += 1
        if meaning("train", names):
            found.append(folder)
        elif level < _LEVELS:
            waiting.extend((folder / name, level + 1) for name in names)
    return found[0] if len(found) == 1 else None


def inner_splits(places: Collection[str]) -> list[str]:
    """Of the folders found below a root, those that hold a train and a test split."""
    children: dict[str, list[str]] = {}
    for place in places:
        above, _, name = place.rpartition("/")
        if meaning("train", (name,)) or judged_names((name,)):
            children.setdefault(above, []).append(name)
    return sorted(
        above
        for above, names in children.items()
        if above and meaning("train", names) and judged_names(names)
    )
