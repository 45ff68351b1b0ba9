import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.datasets.decode import BadImageError
from linear_eval.system.errors import InputError
from ssl_bf.keyed_random import key, shuffled
from ssl_bf.methods.batch import Batch
from ssl_bf.pixels import store as store_module
from ssl_bf.pixels.fill import fill
from ssl_bf.pixels.packed_images import PackedImages
from ssl_bf.pixels.store import DecodedImages, HeldImages, ImageStore
from ssl_bf.samplers.sampler import Dealt, EveryImage, Pool
from ssl_bf.views import loader as loader_module
from ssl_bf.views.loader import ViewLoader
from ssl_bf.views.recipes import ViewsConfig, make_view, make_views
from ssl_bf.views.view_draws import ViewDraws

CONFIG = ViewsConfig(recipe="moco_v2", size=8)


def pixels_of(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 10, 10), generator=generator, dtype=torch.uint8)


def open_store(
    count: int, *, in_memory: bool = True, bad: Sequence[int] = (), on_bad_image: Any = "skip"
) -> ImageStore:
    pixels = pixels_of(count)

    def read(index: int) -> Tensor:
        if index in bad:
            raise BadImageError(f"{index}.jpg: cannot be decoded")
        return pixels[index]

    if not in_memory:
        return DecodedImages(read, count, on_bad_image=on_bad_image, note="")
    images, skipped = fill(
        read,
        count,
        where=torch.device("cpu"),
        budget=2**20,
        name="memory",
        expected=pixels.numel(),
        on_bad_image=on_bad_image,
    )
    return HeldImages(images, bad_images=skipped, note="")


def open_loader(
    images: ImageStore | int = 22, *, views: ViewsConfig = CONFIG, **changes: Any
) -> ViewLoader:
    settings: dict[str, Any] = {
        "rank": 0,
        "world_size": 1,
        "device": torch.device("cpu"),
        "channels_last": False,
    }
    store = open_store(images) if isinstance(images, int) else images
    labels = torch.zeros(len(store), dtype=torch.int64)
    pool = Pool(changes.pop("seed", 3), changes.pop("batch_size", 4), labels)
    sampler = changes.pop("sampler", EveryImage)(pool)
    return ViewLoader(store, views, sampler, **(settings | changes))


def assert_same(first: Batch, second: Batch) -> None:
    assert torch.equal(first.image_ids, second.image_ids)
    torch.testing.assert_close(first.views[0], second.views[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(first.views[1], second.views[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_batch_is_the_keyed_views_of_the_keyed_order(in_memory: bool) -> None:
    with open_loader(open_store(22, in_memory=in_memory)) as loader:
        assert loader.steps_per_epoch == 5
        for step in (0, 4, 5, 13):
            epoch, number = divmod(step, 5)
            order = shuffled(key(3, "order", epoch), torch.arange(22), 22)
            ids = order[4 * number : 4 * number + 4]
            batch = loader.batch(step)
            assert torch.equal(batch.image_ids, ids)
            for view, made in enumerate(batch.views, start=1):
                expected = make_view(pixels_of(22)[ids], ViewDraws(3, epoch, view, ids), CONFIG)
                assert torch.equal(made, expected)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_batch_does_not_depend_on_the_batches_asked_for_before(in_memory: bool) -> None:
    def batch_after(*steps: int) -> Batch:
        with open_loader(open_store(22, in_memory=in_memory)) as loader:
            for step in steps:
                loader.batch(step)
            return loader.batch(7)

    expected = batch_after()
    for steps in ((0, 1, 2), (6,), (6, 9, 7), (7, 7)):
        again = batch_after(*steps)
        assert torch.equal(again.views[0], expected.views[0])
        assert torch.equal(again.views[1], expected.views[1])
        assert torch.equal(again.image_ids, expected.image_ids)


def test_an_epoch_shows_every_image_at_most_once_and_epochs_differ() -> None:
    with open_loader() as loader:
        epochs = [
            torch.cat([loader.batch(5 * epoch + b).image_ids for b in range(5)])
            for epoch in range(2)
        ]
        again = loader.batch(0), loader.batch(5)
    for ids in epochs:
        assert len(ids.unique()) == 20
    assert not torch.equal(epochs[0], epochs[1])
    shared = set(again[0].image_ids.tolist()) | set(again[1].image_ids.tolist())
    assert shared <= set(range(22))


def test_the_two_views_of_an_image_differ_and_change_with_the_epoch() -> None:
    with open_loader(4) as loader:
        first, second = loader.batch(0), loader.batch(1)
    assert (first.views[0] - first.views[1]).abs().mean() > 0.1
    rows = [second.image_ids.tolist().index(i) for i in first.image_ids.tolist()]
    assert (first.views[0] - second.views[0][rows]).abs().mean() > 0.1


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("in_memory", [True, False])
def test_the_ranks_together_get_the_batch_of_one_process(world_size: int, in_memory: bool) -> None:
    with open_loader(open_store(22, in_memory=in_memory)) as loader:
        expected = loader.batch(6)
    shares = []
    for rank in range(world_size):
        store = open_store(22, in_memory=in_memory)
        with open_loader(store, rank=rank, world_size=world_size) as loader:
            shares.append(loader.batch(6))
    assert_same(
        Batch(
            tuple(torch.cat([share.views[v] for share in shares]) for v in range(2)),
            torch.cat([share.image_ids for share in shares]),
        ),
        expected,
    )


def test_the_seed_changes_order_and_views() -> None:
    with open_loader(4) as first, open_loader(4, seed=4) as second:
        batches = first.batch(0), second.batch(0)
    order = [batch.image_ids.argsort() for batch in batches]
    assert (batches[0].views[0][order[0]] - batches[1].views[0][order[1]]).abs().mean() > 0.1
    assert not torch.equal(batches[0].image_ids, batches[1].image_ids)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_bad_image_is_replaced_by_the_one_a_batch_further_on(in_memory: bool) -> None:
    order = shuffled(key(3, "order", 0), torch.arange(22), 22).tolist()
    bad = [order[5], order[6], order[10], order[20]]
    with open_loader(open_store(22, in_memory=in_memory, bad=bad)) as loader:
        batch = loader.batch(1)
        assert batch.image_ids.tolist() == [order[4], order[9], order[14], order[7]]
        ids = batch.image_ids
        expected = make_view(pixels_of(22)[ids], ViewDraws(3, 0, 1, ids), CONFIG)
        assert torch.equal(batch.views[0], expected)
        assert loader.batch(4).image_ids.tolist() == [order[i] for i in (16, 17, 18, 19)]
        for step in range(10):
            assert len(loader.batch(step).image_ids.unique()) == 4


def test_what_fails_in_the_thread_is_raised_in_the_caller() -> None:
    order = shuffled(key(3, "order", 0), torch.arange(22), 22).tolist()
    store = open_store(22, in_memory=False, bad=[order[5]], on_bad_image="error")
    with open_loader(store) as loader:
        loader.batch(0)
        for _ in range(2):
            with pytest.raises(BadImageError, match=rf"^{order[5]}.jpg: "):
                loader.batch(1)
        assert len(loader.batch(2).image_ids) == 4


def test_the_next_images_are_read_while_a_step_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(22, in_memory=False)
    monkeypatch.setattr(loader_module, "decode_threads", lambda: 2)
    read_in: list[str] = []
    next_was_read = threading.Event()
    read = store.read

    def spy(*arguments: Any, **keywords: Any) -> Any:
        read_in.append(threading.current_thread().name)
        if len(read_in) == 2:
            next_was_read.set()
        return read(*arguments, **keywords)

    monkeypatch.setattr(store, "read", spy)
    with open_loader(store) as loader:
        loader.batch(0)
        assert next_was_read.wait(10)  # without asking for it
        loader.batch(1)
    assert all(name.startswith("next-batch") for name in read_in)


def test_views_are_made_in_the_callers_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    made_in: list[str] = []

    def spy(*arguments: Any, **keywords: Any) -> list[Tensor]:
        made_in.append(threading.current_thread().name)
        return make_views(*arguments, **keywords)

    monkeypatch.setattr(loader_module, "make_views", spy)
    with open_loader(open_store(22, in_memory=False)) as loader:
        loader.batch(0)
    assert made_in == [threading.current_thread().name]


def test_a_single_core_reads_and_makes_views_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_loader(open_store(22, in_memory=False)) as loader:
        expected = loader.batch(6)
    for module in (loader_module, store_module):
        monkeypatch.setattr(module, "decode_threads", lambda: 1)
    before = set(threading.enumerate())
    with open_loader(open_store(22, in_memory=False)) as loader:
        assert_same(loader.batch(6), expected)
        assert set(threading.enumerate()) == before


def test_closing_stops_every_thread() -> None:
    before = set(threading.enumerate())
    with open_loader(open_store(22, in_memory=False)) as loader:
        loader.batch(0)
        assert set(threading.enumerate()) - before
    assert not set(threading.enumerate()) - before


@pytest.mark.parametrize("engine", ["batched", "lightly"])
def test_channels_last_is_a_matter_of_layout(engine: Any) -> None:
    views = ViewsConfig(recipe="moco_v3", size=8, engine=engine)
    with open_loader(views=views) as loader, open_loader(views=views, channels_last=True) as other:
        plain, reordered = loader.batch(2), other.batch(2)
    for view in reordered.views:
        assert view.is_contiguous(memory_format=torch.channels_last)
    assert plain.views[0].is_contiguous()
    assert torch.equal(plain.views[0], reordered.views[0])
    assert torch.equal(plain.views[1], reordered.views[1])


def test_the_lightly_engine_is_as_reproducible() -> None:
    views = ViewsConfig(recipe="moco_v2", size=8, engine="lightly")
    state = torch.get_rng_state()
    with open_loader(views=views) as loader:
        loader.batch(0)
        expected = loader.batch(6)
    shares = []
    for rank in range(2):
        with open_loader(views=views, rank=rank, world_size=2) as loader:
            shares.append(loader.batch(6))
    assert torch.equal(torch.cat([share.views[0] for share in shares]), expected.views[0])
    assert torch.equal(torch.cat([share.views[1] for share in shares]), expected.views[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_fewer_images_than_a_batch_are_refused_with_both_numbers() -> None:
    with pytest.raises(InputError, match=r"^batch_size: 4 is more than the 3 training images"):
        open_loader(3)
    with pytest.raises(InputError, match=r"^batch_size: 4 is more than the 3 .* can be decoded"):
        open_loader(open_store(5, bad=[1, 2]))


def test_a_batch_that_the_processes_cannot_share_is_refused() -> None:
    with pytest.raises(InputError, match=r"^batch_size: 4 cannot be shared by 3 processes"):
        open_loader(world_size=3)


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_are_read_on_one_core_each_so_that_training_keeps_its_own(
    in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "decode_threads", lambda: 2)
    monkeypatch.setattr(loader_module, "decode_threads", lambda: 2)
    cores: list[int] = []
    pixels = pixels_of(22)

    def read(index: int) -> Tensor:
        cores.append(torch.get_num_threads())
        return pixels[index]

    every = torch.get_num_threads()
    torch.set_num_threads(2)
    images: ImageStore = DecodedImages(read, 22, on_bad_image="error", note="")
    if in_memory:
        packed = PackedImages.of(list(pixels))
        images = HeldImages(packed, bad_images={}, note="", is_mapped=True)
        compact = PackedImages.compact

        def compact_and_tell(self: PackedImages, **keywords: Any) -> PackedImages:
            keywords["threads"].submit(lambda: cores.append(torch.get_num_threads())).result()
            cores.append(torch.get_num_threads())
            return compact(self, **keywords)

        monkeypatch.setattr(PackedImages, "compact", compact_and_tell)
    with open_loader(images) as loader:
        loader.batch(0)
        assert torch.get_num_threads() == 2
    torch.set_num_threads(every)
    assert set(cores) == {1}


@pytest.mark.parametrize("engine", ["batched", "lightly"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_has_as_many_views_as_are_asked_for_and_they_are_the_first(
    engine: Any, count: int
) -> None:
    views = ViewsConfig(recipe="moco_v2", size=8, engine=engine)
    with open_loader(views=views) as loader, open_loader(views=views, views_per_image=count) as few:
        both, some = loader.batch(6), few.batch(6)
    assert len(some.views) == count
    assert all(torch.equal(a, b) for a, b in zip(some.views, both.views, strict=False))


def test_a_third_view_is_one_of_its_own() -> None:
    with open_loader(views_per_image=3) as loader:
        first, second, third = loader.batch(6).views
    assert min((third - view).abs().mean() for view in (first, second)) > 0.1
    lightly = ViewsConfig(recipe="moco_v2", size=8, engine="lightly")
    with pytest.raises(InputError, match=r"^views\.engine: lightly makes 2 views.*takes 3"):
        open_loader(views=lightly, views_per_image=3)


@pytest.mark.parametrize("in_memory", [True, False])
def test_labels_are_those_of_the_images_and_absent_unless_asked_for(in_memory: bool) -> None:
    labels = torch.arange(22) * 7
    store = open_store(22, in_memory=in_memory, bad=[3, 4, 5])  # others take their places
    with open_loader(store, labels=labels) as loader:
        for step in range(6):
            batch = loader.batch(step)
            assert batch.labels is not None
            assert torch.equal(batch.labels, batch.image_ids * 7)
    with open_loader() as loader:
        assert loader.batch(0).labels is None


def test_images_that_a_small_class_repeats_in_a_batch_have_views_of_their_own() -> None:
    with open_loader(4, batch_size=4, sampler=RepeatsTheFirst) as loader:
        batch = loader.batch(0)
    assert batch.image_ids.tolist() == [0, 0, 0, 0]
    assert len({str(view.flatten().tolist()) for view in batch.views[0]}) == 4


class RepeatsTheFirst(EveryImage):
    def deal(self, epoch: int, number: int, places: Tensor) -> Dealt:
        return Dealt(torch.zeros_like(places), places)
