"""Tests of ssl_bf.pixels.pack and what it writes: every fault is one line and loses nothing."""

import json
import os
import resource
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from linear_eval.datasets import ImageFolderConfig
from linear_eval.datasets.contents import FileContents
from linear_eval.datasets.decode import BadImageError
from linear_eval.system.errors import InputError
from ssl_bf.pixels import block_log
from ssl_bf.pixels.pack import pack
from ssl_bf.pixels.packed_store import DATA, INDEX, MANIFEST, PackedStore, open_store
from ssl_bf.pixels.preparation import Preparation
from ssl_bf.pixels.source import Source, open_source

MakeSource = Callable[..., Source]
AS_IS = Preparation()
PREPARATIONS = [AS_IS, Preparation(short_side=20), Preparation(short_side=20, jpeg_quality=80)]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_log, "BLOCK_BYTES", 8000)  # two or three images


def pixels(store: PackedStore, row: int) -> Tensor:
    if store.holds_jpegs:
        return store.decode(row)
    return store.packed(torch.tensor([row])).images()[0]


def assert_whole(store: PackedStore, source: Source) -> None:
    store.check()
    for row, name in enumerate(source.split.ids):
        expected = store.preparation.prepare(source.split.read(row))
        assert torch.equal(pixels(store, store.row_of[name]), expected)
    assert not store.place.with_name(f".{store.place.name}.partial").exists()
    assert sorted(path.name for path in store.place.iterdir()) == sorted([DATA, INDEX, MANIFEST])


@pytest.mark.parametrize("preparation", PREPARATIONS)
def test_a_store_gives_back_the_prepared_pixels(
    preparation: Preparation, tmp_path: Path, make_source: MakeSource
) -> None:
    source = make_source()
    pack(tmp_path / "store", source, preparation)
    store = open_store(tmp_path / "store", source, preparation)
    assert store is not None
    assert len(store.blocks) > 1 or store.holds_jpegs
    assert_whole(store, source)


def test_a_store_that_is_there_is_not_packed_again(tmp_path: Path, make_source: MakeSource) -> None:
    pack(tmp_path / "store", make_source(), AS_IS)
    again = make_source(draw=lambda _: pytest.fail("decoded"))
    pack(tmp_path / "store", again, AS_IS).check()


def test_a_packer_that_was_killed_goes_on_where_it_stopped(
    tmp_path: Path, make_source: MakeSource
) -> None:
    source = make_source()
    dies = [True]

    class Killed(BaseException):
        pass

    def draw(index: int) -> Tensor:
        if index == 9 and dies[0] and index in reads:  # the first time, for the estimate
            raise Killed
        reads.append(index)
        return source.split.read(index)

    reads: list[int] = []
    place = tmp_path / "store"
    with pytest.raises(Killed):
        pack(place, make_source(draw=draw), AS_IS)
    assert not place.exists()
    # What a kill may leave behind the last seal: bytes, and half a line.
    for name in (DATA, block_log.PROGRESS):
        with (tmp_path / ".store.partial" / name).open("ab") as file:
            file.write(b'{"torn')
    dies[0] = False
    reads.clear()
    assert_whole(pack(place, make_source(draw=draw), AS_IS), source)
    assert min(reads) >= 3
    assert set(reads) == set(range(min(reads), 12))


@pytest.mark.parametrize("name", [DATA, block_log.PROGRESS])
def test_what_was_damaged_meanwhile_is_packed_again(
    name: str, tmp_path: Path, make_source: MakeSource
) -> None:
    with pytest.raises(InputError, match="changed while"):
        pack(tmp_path / "store", make_source(look_again="second"), AS_IS)
    path = tmp_path / ".store.partial" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    source = make_source()
    assert_whole(pack(tmp_path / "store", source, AS_IS), source)


def test_a_source_that_changes_while_it_is_packed_never_becomes_a_store(
    tmp_path: Path, make_source: MakeSource
) -> None:
    place = tmp_path / "store"
    with pytest.raises(InputError, match=r"store: the images changed while they were packed"):
        pack(place, make_source(look_again="second"), AS_IS)
    assert not place.exists()
    changed = make_source(fingerprint="second", draw=lambda i: torch.full((3, 9, 9 + i), i).byte())
    assert_whole(pack(place, changed, AS_IS), changed)


def test_a_full_disk_is_one_line_and_packing_goes_on_afterwards(
    tmp_path: Path, make_source: MakeSource
) -> None:
    source, place = make_source(), tmp_path / "store"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"store: images cannot be packed \(File too large\)"):
            pack(place, source, AS_IS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not place.exists()
    assert 0 < (tmp_path / ".store.partial" / DATA).stat().st_size < 20_000  # only sealed blocks
    assert_whole(pack(place, source, AS_IS), source)


def test_images_that_cannot_fit_are_refused_before_any_is_written(
    tmp_path: Path, make_source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(InputError, match=r"needs room for 12 of 12 images, about 0.00 GiB"):
        pack(tmp_path / "place" / "store", make_source(), AS_IS)
    assert not list((tmp_path / "place").iterdir())


def test_a_place_that_cannot_be_written_is_one_line(
    tmp_path: Path, make_source: MakeSource
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"store: images cannot be packed \(Not a directory\)"):
        pack(tmp_path / "file" / "store", make_source(), AS_IS)


def cut_data(place: Path) -> None:
    (place / DATA).write_bytes((place / DATA).read_bytes()[:-1])


def damage_index(place: Path) -> None:
    content = bytearray((place / INDEX).read_bytes())
    content[-1] ^= 1
    (place / INDEX).write_bytes(content)


def drop(name: str) -> Callable[[Path], None]:
    return lambda place: (place / name).unlink()


def other_format(place: Path) -> None:
    (place / MANIFEST).write_text(json.dumps({"format": "something else"}))


def change_manifest(key: str, value: Any) -> Callable[[Path], None]:
    def damage(place: Path) -> None:
        manifest = json.loads((place / MANIFEST).read_text())
        (place / MANIFEST).write_text(json.dumps(manifest | {key: value}))

    return damage


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut_data, "images.bin has .* bytes, expected .*, so it was cut off"),
        (damage_index, "index.safetensors is damaged"),
        (drop(MANIFEST), "is no packed store"),
        (drop(DATA), "is no packed store"),
        (other_format, "is no store of the format"),
        (change_manifest("bytes", "many"), "manifest.json is damaged"),
        (change_manifest("blocks", None), "manifest.json is damaged"),
        (change_manifest("blocks", [3.5]), "manifest.json is damaged"),
        (change_manifest("blocks", [["a", 1]]), "manifest.json is damaged"),
        (change_manifest("bad_images", {"folder/1.jpg": "is bad"}), "manifest.json is damaged"),
    ],
)
def test_a_damaged_or_foreign_store_is_refused_and_left_alone(
    damage: Callable[[Path], None], says: str, tmp_path: Path, make_source: MakeSource
) -> None:
    place = tmp_path / "store"
    pack(place, make_source(), AS_IS)
    damage(place)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    with pytest.raises(InputError, match=says):
        pack(place, make_source(), AS_IS)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_a_flipped_bit_is_found_by_a_check(tmp_path: Path, make_source: MakeSource) -> None:
    place = tmp_path / "store"
    pack(place, make_source(), AS_IS)
    content = bytearray((place / DATA).read_bytes())
    content[-5] ^= 1
    (place / DATA).write_bytes(content)
    with pytest.raises(InputError, match=r"damaged in 1 of \d+ blocks"):
        pack(place, make_source(), AS_IS).check()


def test_images_that_a_store_lacks_are_named(tmp_path: Path, make_source: MakeSource) -> None:
    pack(tmp_path / "store", make_source(9), AS_IS)
    with pytest.raises(InputError, match=r"data\.root, it lacks folder/10\.jpg, folder/9\.jpg; "):
        pack(tmp_path / "store", make_source(11, fingerprint="second"), AS_IS)


@pytest.mark.parametrize(
    ("changes", "preparation", "says"),
    [
        ({"fingerprint": "second"}, AS_IS, "from other images .* in number, name, label or file"),
        ({}, PREPARATIONS[1], "with views.short_side=null, expected 20"),
        ({}, Preparation(jpeg_quality=90), "with views.jpeg_quality=null, expected 90"),
    ],
)
def test_a_store_of_other_images_or_another_size_is_refused(
    changes: dict[str, Any],
    preparation: Preparation,
    says: str,
    tmp_path: Path,
    make_source: MakeSource,
) -> None:
    pack(tmp_path / "store", make_source(), AS_IS)
    with pytest.raises(InputError, match=says):
        pack(tmp_path / "store", make_source(**changes), preparation)


def test_a_store_serves_every_part_of_its_source_but_no_more(
    tmp_path: Path, make_source: MakeSource
) -> None:
    store = pack(tmp_path / "store", make_source(9), AS_IS)
    part = make_source(9).split.select(torch.tensor([8, 2, 5]))
    assert store.rows(part).tolist() == [8, 2, 5]
    with pytest.raises(InputError, match=r"holds 9 images and lacks 3 that are trained on"):
        store.rows(make_source(12).split)


def test_bad_images_are_noted_or_end_the_packing(tmp_path: Path, make_source: MakeSource) -> None:
    source = make_source(bad=[4, 7])
    with pytest.raises(BadImageError, match=r"folder/4.jpg"):
        pack(tmp_path / "store", source, AS_IS)
    assert not (tmp_path / "store").exists()
    store = pack(tmp_path / "store", source, AS_IS, on_bad_image="skip")
    assert sorted(store.bad_images) == ["folder/4.jpg", "folder/7.jpg"]
    assert torch.equal(pixels(store, 11), source.split.read(11))
    with pytest.raises(InputError, match="none of the 3 images can be decoded"):
        pack(tmp_path / "x", make_source(3, bad=[0, 1, 2]), AS_IS, on_bad_image="skip")


def test_of_two_packers_one_waits_for_the_other(
    tmp_path: Path, make_source: MakeSource, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_source()
    entered, go_on = threading.Event(), threading.Event()

    def draw(index: int) -> Tensor:
        entered.set()
        assert go_on.wait(10)
        return source.split.read(index)

    first = threading.Thread(target=pack, args=(tmp_path / "store", make_source(draw=draw), AS_IS))
    first.start()
    assert entered.wait(10)
    waiting = make_source(draw=lambda _: pytest.fail("packed twice"))
    second = threading.Thread(target=pack, args=(tmp_path / "store", waiting, AS_IS))
    second.start()
    while "waiting for the process" not in capsys.readouterr().err:
        second.join(0.01)
        assert second.is_alive()
    go_on.set()
    first.join()
    second.join()
    store = open_store(tmp_path / "store", source, AS_IS)
    assert store is not None
    assert_whole(store, source)


@pytest.fixture
def bitmaps(tmp_path: Path) -> ImageFolderConfig:
    """Twelve files of one size, of long ago."""
    for number in range(12):
        write_bitmap(tmp_path / "images" / "a" / f"{number:02d}.bmp", number)
    return ImageFolderConfig(root=str(tmp_path / "images"))


def write_bitmap(path: Path, colour: int, time_ns: int = 10**18) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 30), (colour, 0, 0)).save(path)
    os.utime(path, ns=(time_ns, time_ns))


def test_a_store_of_pictures_that_were_replaced_is_refused(
    tmp_path: Path, bitmaps: ImageFolderConfig
) -> None:
    pack(tmp_path / "store", open_source(bitmaps), AS_IS)
    write_bitmap(tmp_path / "images" / "a" / "05.bmp", 200, 10**18 + 1)
    with pytest.raises(InputError, match=r"1 of 12 images have other contents now \(a/05.bmp\)"):
        pack(tmp_path / "store", open_source(bitmaps), AS_IS)
    few = replace(bitmaps, max_images=4)  # another order and number of images than the store's
    kept = open_source(few).split.ids
    if "a/05.bmp" not in kept:
        assert_same_pixels(pack(tmp_path / "store", open_source(few), AS_IS), open_source(few))


def assert_same_pixels(store: PackedStore, source: Source) -> None:
    for row, name in enumerate(source.split.ids):
        assert torch.equal(pixels(store, store.row_of[name]), source.split.read(row))


def test_a_store_of_pictures_copied_over_with_their_times_is_refused(
    tmp_path: Path, bitmaps: ImageFolderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linear_eval.datasets.contents._YOUNG_NS", 0)
    pack(tmp_path / "store", open_source(bitmaps), AS_IS)
    images = tmp_path / "images" / "a"
    shutil.copy2(images / "06.bmp", images / "05.bmp")  # the same size, time and file on the disk
    with pytest.raises(InputError, match=r"1 of 12 images have other contents now \(a/05.bmp\)"):
        pack(tmp_path / "store", open_source(bitmaps), AS_IS)


def test_a_store_stays_good_for_a_copy_of_its_images_which_is_read_once(
    tmp_path: Path, bitmaps: ImageFolderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linear_eval.datasets.contents._YOUNG_NS", 0)  # nobody can set ctime back
    pack(tmp_path / "store", open_source(bitmaps), AS_IS)
    shutil.copytree(tmp_path / "images", tmp_path / "copy")
    copied = replace(bitmaps, root=str(tmp_path / "copy"))
    assert_same_pixels(pack(tmp_path / "store", open_source(copied), AS_IS), open_source(copied))
    monkeypatch.setattr(FileContents, "_read_digest", None)
    assert pack(tmp_path / "store", open_source(copied), AS_IS).is_checked


def test_a_store_of_an_earlier_version_is_read_and_said_to_be_so(
    tmp_path: Path, bitmaps: ImageFolderConfig
) -> None:
    source = open_source(bitmaps)
    pack(tmp_path / "store", replace(source, split=replace(source.split, contents=None)), AS_IS)
    store = pack(tmp_path / "store", source, AS_IS)
    assert not store.is_checked
    assert_same_pixels(store, source)


def test_packing_goes_on_behind_the_last_image_that_is_still_the_same(
    tmp_path: Path, bitmaps: ImageFolderConfig
) -> None:
    source = open_source(bitmaps)
    changing = replace(source, look_again=lambda: replace(source, fingerprint="other"))
    with pytest.raises(InputError, match="changed while"):
        pack(tmp_path / "store", changing, AS_IS)  # all is packed, and kept to go on from
    write_bitmap(tmp_path / "images" / "a" / "07.bmp", 200, 10**18 + 1)
    again = open_source(bitmaps)
    assert_same_pixels(pack(tmp_path / "store", again, AS_IS), again)


def test_an_image_replaced_while_it_is_packed_is_noticed(
    tmp_path: Path, bitmaps: ImageFolderConfig
) -> None:
    source = open_source(bitmaps)

    def later() -> Source:
        write_bitmap(tmp_path / "images" / "a" / "02.bmp", 99, 10**18 + 1)
        return open_source(bitmaps)

    with pytest.raises(InputError, match="the images changed while they were packed"):
        pack(tmp_path / "store", replace(source, look_again=later), AS_IS)
