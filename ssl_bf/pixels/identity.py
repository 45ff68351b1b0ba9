"""What a checkpoint knows about the training images, so that `resume` can refuse others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from linear_eval.datasets.contents import NO_TIME
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.system.errors import InputError

_NAMES, _STAMPS, _CONTENTS = "images", "image_stamps", "image_contents"
_REMEDY = "put these back, say where they are by data.root=FOLDER, or start a new run"


def image_identity(split: ImageSplit) -> dict[str, str | None]:
    """JSON: by names, labels and sizes; by stamps; and by content where all files were read."""
    known = split.contents is None or split.contents.are_known
    return {
        _NAMES: split.fingerprint,
        _STAMPS: _stamps(split),
        _CONTENTS: split.content_fingerprint() if known else None,
    }


def check_identity(saved: Mapping[str, Any], split: ImageSplit) -> str | None:
    """Compare the images of a run with those that it began with.

    Files are read where their stamps are others by now and their contents were known then.

    Args:
        saved: what a checkpoint has of `image_identity`; earlier versions kept less, or nothing.
        split: the images that there are.

    Returns:
        A line that says what cannot be known, if anything.

    Raises:
        InputError: the images are others; the message lacks the name of the run.
    """
    if saved.get(_NAMES, split.fingerprint) != split.fingerprint:
        raise InputError(
            "the training images are not those that it began with (others in number, name, label "
            f"or file size); {_REMEDY}"
        )
    if split.contents is None:
        return None
    stamps = saved.get(_STAMPS)
    if stamps is not None and stamps == _stamps(split):
        return None
    contents = saved.get(_CONTENTS)
    if contents is None:
        return (
            "images: it is not known whether they still hold what they held when the run began "
            "(their files have other times, and were not read as a whole then); taken as the same"
        )
    if contents != split.content_fingerprint():
        raise InputError(
            "the training images are not those that it began with (the same names, labels and "
            f"sizes, but other contents); {_REMEDY}"
        )
    return None


def _stamps(split: ImageSplit) -> str | None:
    """Digest of all stamps; None where one of them tells nothing."""
    if split.contents is None or bool((split.contents.stamps[:, 1] == NO_TIME).any()):
        return None
    return hashlib.sha256(split.contents.stamps.numpy().tobytes()).hexdigest()
