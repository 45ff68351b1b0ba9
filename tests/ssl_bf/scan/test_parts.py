"""Parts, copies and duplicates. Run: pytest tests/ssl_bf/scan."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from linear_eval.system.errors import InputError
from ssl_bf.scan.duplicates import same_images, thumbnail
from ssl_bf.scan.parts import divide
from ssl_bf.scan.scan import scan_folder
from tests.ssl_bf.worth.conftest import save_folder

PARTS = ("train", "holdout", "test")


@given(
    groups=st.lists(st.integers(0, 30), min_size=40, max_size=80),
    given_parts=st.sampled_from([("",), ("train", "test"), PARTS]),
    seed=st.integers(0, 3),
)
def test_no_photograph_lies_on_two_sides(
    groups: list[int], given_parts: tuple[str, ...], seed: int
) -> None:
    count = len(groups)
    parts = [given_parts[(row * 7 + seed) % len(given_parts)] for row in range(count)]
    classes = ["ab"[row % 2] for row in range(count)]
    found, leaked = divide(parts, classes, groups, [f"{row}.jpg" for row in range(count)])
    sides: dict[int, set[str]] = {}
    for group, part in zip(groups, found, strict=True):
        if part:
            sides.setdefault(group, set()).add(part)
    assert all(len(each) == 1 for each in sides.values())
    assert leaked == found.count("")
    for before, after in zip(parts, found, strict=True):
        assert after in (before, "") or before == "" or (before, after) == ("train", "holdout")


def test_the_draw_depends_on_names_alone() -> None:
    names = [f"{row}.jpg" for row in range(100)]
    classes = ["ab"[row % 2] for row in range(100)]
    found, _ = divide([""] * 100, classes, range(100), names)
    backwards, _ = divide([""] * 100, classes[::-1], range(100), names[::-1])
    assert found == backwards[::-1]
    assert [found.count(part) for part in PARTS] == [64, 16, 20]  # 7.5 of 50 are 8


def image(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (1, 3, 6, 6), generator=generator).float()
    big = torch.nn.functional.interpolate(coarse, size=(64, 48), mode="bilinear")
    return big[0].to(torch.uint8)


def test_near_copies_are_found_and_others_are_not() -> None:
    first, other = image(0), image(1)
    smaller = torch.nn.functional.interpolate(first[None].float(), size=(40, 30), mode="area")[0]
    noisy = smaller + torch.randn(smaller.shape, generator=torch.Generator().manual_seed(0)) * 2
    flat = torch.full((3, 20, 20), 255, dtype=torch.uint8)
    images = [first, other, noisy.clamp(0, 255).to(torch.uint8), first, flat, flat + 0 - 1]
    digests = [b"a", b"b", b"c", b"a", b"d", b"e"]
    thumbnails = torch.stack([thumbnail(each) for each in images])
    groups, exact, near = same_images(thumbnails, digests)
    assert groups == [0, 1, 0, 0, 4, 5]  # images of one colour are not copies of each other
    assert (exact, near) == (1, 1)


def test_a_scan_names_leaks_damage_and_rare_classes(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "photos" / "train", images=60)
    test = save_folder(tmp_path / "photos" / "test", images=10)  # the first class is drawn alike
    for path in test.rglob("[5-9].png"):
        Image.effect_noise((16, 16), 90).convert("RGB").save(path)
    (folder / "rare").mkdir()
    Image.effect_noise((16, 16), 90).save(folder / "rare" / "a.png")
    (folder / "plain" / "0.png").write_bytes(b"no image")
    big = Image.effect_noise((300, 200), 90).convert("RGB")
    big.save(folder / "plain" / "1.png")
    scan = scan_folder(tmp_path / "photos", tmp_path, labels=True, side=32)
    assert scan.leaked == 5
    assert scan.unreadable == 1
    said = " ".join(scan.notes)
    assert "leakage: " in said
    assert "1 of 141 files cannot be read" in said
    assert "1 classes with fewer than 5 images are left out (rare)" in said
    assert scan.sides == (16, 16, 200)
    copies = list((tmp_path / "images").rglob("*.jpg"))
    assert [Image.open(path).size for path in copies] == [(48, 32)]
    links = list((tmp_path / "images").rglob("*.png"))
    assert all(path.is_symlink() for path in links)
    assert sum(scan.parts.values()) == scan.images == len(links) + 1
    assert scan_folder(tmp_path / "gone", tmp_path, labels=True, side=32) == scan


def test_a_test_part_that_was_all_trained_on_is_refused(tmp_path: Path) -> None:
    save_folder(tmp_path / "photos" / "train")
    save_folder(tmp_path / "photos" / "test")
    with pytest.raises(InputError, match="no image is left for test .120 are also in an earlier"):
        scan_folder(tmp_path / "photos", tmp_path, labels=True, side=32)
    assert not (tmp_path / "images").exists()
