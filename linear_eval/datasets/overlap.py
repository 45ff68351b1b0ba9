"""Images that two splits share: a backbone judged on images it was fitted to looks too good.

Shapes: M images.
"""

from __future__ import annotations

from collections.abc import Sequence

from linear_eval.datasets.contents import DIGEST_BYTES, content_digest
from linear_eval.datasets.dataset import ImageSplit

TOLERATED = 0.01  # of the judged images: published data sets have as many
_NOTHING = bytes(DIGEST_BYTES)  # of a file that cannot be read


def overlap_note(
    learned: Sequence[ImageSplit], judged: ImageSplit, names: tuple[str, str]
) -> str | None:
    """A line that says how many test images are also in train; None if few are.

    Images are the same when their files have the same bytes. Splits whose files were not read are
    not looked at: nobody uses their images.

    Args:
        learned: from which the answers come.
        judged: another split of the same data set.
        names: of both sides, for the line.
    """
    before, now = [_digests(split) for split in learned], _digests(judged)
    if now is None or not len(judged) or any(each is None for each in before):
        return None
    known = {digest for each in before if each for digest in each} - {_NOTHING}
    shared = sum(digest in known for digest in now)
    if shared <= TOLERATED * len(now):
        return None
    first, second = names
    if shared == len(now) and set(now) >= known:
        return (
            f"data: {first} and {second} hold the same images ({len(now)} of them), so the numbers "
            "say nothing about others"
        )
    return (
        f"data: {shared} of {len(now)} {second} images ({100 * shared / len(now):.1f} %) are also "
        f"in {first}, byte for byte, so the numbers are too high"
    )


def _digests(split: ImageSplit) -> list[bytes] | None:
    """The digest of every image (M); None where files would have to be read for it."""
    if split.contents is not None:
        if not split.contents.are_known:
            return None
        return [bytes(row) for row in split.contents.digests().numpy()]
    if split.pixels is None:
        return None
    return [content_digest(image.numpy().tobytes()) for image in split.pixels]
