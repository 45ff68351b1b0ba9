"""Tests of ssl_bf.pixels.residency: the pixels are the same wherever they are kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.datasets.decode import BadImageError
from linear_eval.system.errors import InputError
from ssl_bf.pixels import residency
from ssl_bf.pixels.packed_store import DATA
from ssl_bf.pixels.preparation import Preparation
from ssl_bf.pixels.residency import Residency, default_place, open_images
from ssl_bf.pixels.source import Source
from ssl_bf.pixels.store import DecodedImages, HeldImages, ImageStore
from ssl_bf.samplers.sampler import EveryImage, Pool
from ssl_bf.views.loader import ViewLoader
from ssl_bf.views.recipes import ViewsConfig

MakeSource = Callable[..., Source]
PREPARATIONS = [
    Preparation(),
    Preparation(short_side=20),
    Preparation(short_side=20, jpeg_quality=80),
]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def opened(  # noqa: PLR0913 - what a run sets, each by its name
    source: Source,
    images: Any,
    *,
    store: Path | None = None,
    memory_mib: int = 1,
    preparation: Preparation = PREPARATIONS[0],
    on_bad_image: Any = "skip",
    rows: Tensor | None = None,
    device: torch.device = CPU,
) -> ImageStore:
    return open_images(
        source.split if rows is None else source.split.select(rows),
        source,
        preparation,
        residency=Residency(images=images, store=store, memory_mib=memory_mib),
        device=device,
        on_bad_image=on_bad_image,
    )


def batches(store: ImageStore, views: ViewsConfig) -> list[Tensor]:
    loader = ViewLoader(
        store,
        views,
        EveryImage(Pool(seed=1, batch_size=2, labels=torch.zeros(len(store)))),
        rank=0,
        world_size=1,
        device=CPU,
        channels_last=False,
    )
    with loader:
        return [x for step in range(5) for x in loader.batch(step).tensors()]


@pytest.mark.parametrize("preparation", PREPARATIONS)
@pytest.mark.parametrize("bad", [(), (3, 8)])
def test_views_do_not_depend_on_where_the_images_are(
    preparation: Preparation, bad: tuple[int, ...], tmp_path: Path, make_source: MakeSource
) -> None:
    source = make_source(14, bad=bad)
    rows = torch.tensor([0, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13])  # the others are held out
    views = ViewsConfig(recipe="moco_v2", size=16)
    found = {}
    for images, store in [
        ("files", None),
        ("memory", None),
        ("disk", tmp_path / "store"),
        ("memory", tmp_path / "store"),
        ("disk", None),
    ]:
        opening = opened(source, images, store=store, preparation=preparation, rows=rows)
        found[images, store] = batches(opening, views)
    expected = found["files", None]
    for other in found.values():
        assert all(torch.equal(a, b) for a, b in zip(expected, other, strict=True))


@pytest.mark.parametrize("images", ["auto", "memory"])
def test_without_a_gpu_images_are_in_memory_where_they_fit(
    images: str, make_source: MakeSource
) -> None:
    store = opened(make_source(), images)
    assert isinstance(store, HeldImages)
    assert not store.takes_time
    assert store.note == "images: in memory, 1 MiB"


def test_a_place_that_this_machine_lacks_is_refused_before_anything_is_packed(
    make_source: MakeSource, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="^speed.images: device needs a GPU, this run has a CPU"):
        opened(make_source(), "device", store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("images", "warning", "against"),
    [("auto", "", ""), ("memory", "warning: ", ", not as speed.images=memory asks")],
)
def test_what_does_not_fit_is_read_from_files_and_says_what_would_help(
    images: str, warning: str, against: str, make_source: MakeSource, tmp_path: Path
) -> None:
    store = opened(make_source(), images, memory_mib=0)
    assert isinstance(store, DecodedImages)
    assert store.note == (
        f"{warning}images: decoded from their files at every use{against} (memory: 1 MiB do not "
        "fit into 0 MiB); speed.store=FOLDER would decode them once"
    )
    assert not (tmp_path / "cache").exists()  # no disk is filled unasked
    store.close()


@pytest.mark.parametrize("images", ["auto", "memory"])
def test_what_does_not_fit_is_read_from_its_store(
    images: str, make_source: MakeSource, tmp_path: Path
) -> None:
    store = opened(make_source(), images, memory_mib=0, store=tmp_path / "store")
    assert isinstance(store, HeldImages)
    assert store.takes_time
    warning, against = (
        ("", "") if images == "auto" else ("warning: ", ", not as speed.images=memory asks")
    )
    assert store.note.startswith(
        f"{warning}images: in {tmp_path / 'store'}{against} (memory: 1 MiB do not fit"
    )
    store.close()


def test_jpegs_that_do_not_fit_are_decoded_at_use(make_source: MakeSource, tmp_path: Path) -> None:
    given: dict[str, Any] = {"store": tmp_path / "store", "preparation": PREPARATIONS[2]}
    store = opened(make_source(), "auto", memory_mib=0, **given)
    assert isinstance(store, DecodedImages)
    assert "decoded at every use from the JPEGs in" in store.note
    assert isinstance(opened(make_source(), "auto", **given), HeldImages)
    store.close()


@pytest.mark.parametrize("preparation", [PREPARATIONS[0], PREPARATIONS[2]])
def test_a_damaged_store_is_noticed_where_all_of_it_is_read(
    preparation: Preparation, make_source: MakeSource, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"store": tmp_path / "store", "preparation": preparation}
    opened(make_source(), "disk", **given).close()
    content = bytearray((tmp_path / "store" / DATA).read_bytes())
    content[-1] ^= 1  # a JPEG is decoded all the same
    (tmp_path / "store" / DATA).write_bytes(content)
    with pytest.raises(InputError, match=r"damaged in 1 of \d+ blocks"):
        opened(make_source(), "memory", **given)


def test_disk_without_a_folder_uses_the_cache_and_auto_finds_it_there(
    make_source: MakeSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_source()
    opened(source, "disk").close()
    assert default_place(source, PREPARATIONS[0]).parent == tmp_path / "cache/ssl-bf/images"
    assert default_place(source, PREPARATIONS[1]) != default_place(source, PREPARATIONS[0])
    assert capsys.readouterr().err.count("packing 12 of 12 images") == 1
    later = opened(make_source(draw=lambda _: pytest.fail("decoded")), "auto", memory_mib=0)
    assert isinstance(later, HeldImages)
    later.close()


def test_files_leave_a_store_alone(make_source: MakeSource, tmp_path: Path) -> None:
    store = opened(make_source(), "files", store=tmp_path / "store")
    assert store.note == "images: decoded from their files at every use"
    assert not (tmp_path / "store").exists()
    store.close()


def test_an_estimate_too_small_is_made_good(
    make_source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images behind the sample are larger."""
    monkeypatch.setattr(residency, "sample_rows", lambda _: [0])

    def draw(row: int) -> Tensor:
        return torch.full((3, 30 + 90 * row, 30), row, dtype=torch.uint8)

    store = opened(make_source(12, draw=draw), "memory")
    assert isinstance(store, HeldImages)
    images, ids = store.read(torch.arange(12))
    assert [int(one.float().mean()) for one in images.images()] == ids.tolist()
    larger = opened(make_source(40, draw=draw), "memory")  # 5 MiB
    assert isinstance(larger, DecodedImages)
    larger.close()


def test_a_bad_image_ends_the_run_where_it_is_not_skipped(
    make_source: MakeSource, tmp_path: Path
) -> None:
    source = make_source(bad=[5])
    opened(source, "disk", store=tmp_path / "store").close()
    for store in (None, tmp_path / "store"):
        with pytest.raises(BadImageError, match=r"folder/5.jpg"):
            opened(source, "memory", store=store, on_bad_image="error")


def test_of_only_bad_images_nothing_can_be_learned(make_source: MakeSource) -> None:
    with pytest.raises(InputError, match="none of the 3 images can be decoded"):
        opened(make_source(3, bad=[0, 1, 2]), "memory")


class FullGpu:
    """A GPU whose memory can be asked for, but not had."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, free: int) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, free))
        empty = torch.empty

        def refuse(*arguments: Any, **keywords: Any) -> Tensor:
            if keywords.get("device") == torch.device("cuda:0"):
                raise torch.OutOfMemoryError("CUDA out of memory")
            keywords.pop("pin_memory", None)
            return empty(*arguments, **keywords)

        monkeypatch.setattr(torch, "empty", refuse)


@pytest.mark.parametrize(
    ("free", "says"),
    [(1000, "GPU memory: 1 MiB do not fit into 0 MiB"), (2**30, "GPU memory: 1 MiB could not be")],
)
@pytest.mark.parametrize("in_store", [False, True])
def test_a_gpu_with_less_memory_than_planned_leaves_the_images_in_memory(
    free: int,
    says: str,
    in_store: bool,
    make_source: MakeSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = make_source()
    place = tmp_path / "store" if in_store else None
    if in_store:
        opened(source, "disk", store=place).close()
    FullGpu(monkeypatch, free=free)
    store = opened(source, "auto", store=place, device=torch.device("cuda:0"))
    assert isinstance(store, HeldImages)
    assert store.images.data.device == CPU
    assert store.takes_time  # copied to pinned memory, ahead
    assert store.note.startswith(f"images: in memory, 1 MiB ({says}")


def test_a_gpu_without_the_room_that_was_asked_for_is_warned_of(
    make_source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source()
    FullGpu(monkeypatch, free=1000)
    store = opened(source, "device", device=torch.device("cuda:0"))
    assert store.note == (
        "warning: images: in memory, 1 MiB, not as speed.images=device asks "
        "(GPU memory: 1 MiB do not fit into 0 MiB)"
    )
