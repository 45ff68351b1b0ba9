"""What is looked at in the images: which data set, what cannot be read, what is there twice."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.decode import BadImageError
from linear_eval.datasets.imagenet_subset import read_subset
from linear_eval.system.printable import printable
from ssl_bf.doctor.finding import Finding

IMAGENET_100 = "imagenet100_cmc"
SAMPLE = 500  # images that are decoded


def fingerprint(name: str, split: ImageSplit) -> Finding:
    """What the images are, as others can compare it."""
    says = f"{name}, {len(split)} images, {len(split.class_names)} classes, fingerprint "
    says += split.fingerprint[:12]
    listed = set(read_subset(IMAGENET_100).classes or ())
    classes = set(split.class_names)
    if classes == listed:
        return Finding("fine", "data", f"{says}; the ImageNet-100 of CMC ({IMAGENET_100})")
    if len(classes) == 100 and all(each.startswith("n0") or each[:1] == "n" for each in classes):
        return Finding(
            "look",
            "data",
            f"{says}; 100 classes of ImageNet, {len(classes & listed)} of which are in "
            f"{IMAGENET_100}: another ImageNet-100, numbers do not compare with those of CMC's",
        )
    return Finding("fine", "data", says)


def tiny_imagenet_layout(root: Path) -> Finding:
    """Whether `val` is as published, restructured, or neither."""
    val = root / "val"
    folders = [each for each in val.iterdir() if each.is_dir()] if val.is_dir() else []
    classes = [each for each in folders if each.name != "images"]
    published = (val / "images").is_dir() and any((val / "images").iterdir())
    if classes and published:
        return Finding("wrong", "val", "half restructured; finish sorting, or remove one layout")
    if classes:
        return Finding("fine", "val", f"restructured, {len(classes)} class folders")
    if published and (val / "val_annotations.txt").is_file():
        return Finding("fine", "val", "as published, with val_annotations.txt")
    return Finding(
        "wrong", "val", "neither class folders nor val_annotations.txt; extract the archive again"
    )


def unreadable(split: ImageSplit, max_bad: float, *, skips: bool) -> Finding:
    """Decode evenly spread images, all of a small data set."""
    count = len(split)
    rows = range(0, count, max(1, count // SAMPLE))
    bad = []
    for row in rows:
        try:
            split.read(row)
        except BadImageError:
            bad.append(printable(split.ids[row]))
    says = f"{len(bad)} of {len(rows)} decoded images cannot be read"
    if not bad:
        return Finding("fine", "images", says)
    says += f" ({', '.join(bad[:5])})"
    if skips and len(bad) <= max_bad * len(rows):
        return Finding("look", "images", f"{says}; they are skipped")
    remedy = "raise data.max_bad" if skips else "set data.on_bad_image=skip"
    return Finding("wrong", "images", f"{says}; repair or remove them, or {remedy}")


def duplicates(train: ImageSplit, test: ImageSplit) -> Finding:
    """Files that are in train and in test, by content; only files of equal size are read."""
    if train.folder is None or test.folder is None:
        return Finding("fine", "duplicates", "the images are no files, nothing was compared")
    by_size: dict[int, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for side, split in enumerate((train, test)):
        assert split.folder is not None
        for name in split.ids:
            path = split.folder / name
            if path.is_file():
                by_size[path.stat().st_size][side].append(path)
    twice = []
    for ours, theirs in by_size.values():
        if ours and theirs:
            known = {_digest(path) for path in ours}
            twice += [path.name for path in theirs if _digest(path) in known]
    if not twice:
        return Finding("fine", "duplicates", f"no test image of {len(test)} is in train")
    shown = ", ".join(printable(name) for name in sorted(twice)[:5])
    return Finding(
        "wrong",
        "duplicates",
        f"{len(twice)} of {len(test)} test images are in train as well ({shown}); remove them "
        "from one side",
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
