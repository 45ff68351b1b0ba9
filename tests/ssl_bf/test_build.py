"""Tests of ssl_bf.build: from the configuration to objects, nothing written."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from linear_eval.backbones.backbone_file import load_backbone, save_backbone
from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.selection import open_selected_train, split_holdout
from linear_eval.datasets.textures import TexturesConfig
from linear_eval.strict_config.reader import parse_config
from linear_eval.system.errors import InputError
from ssl_bf.build import Run, build_run
from ssl_bf.config import PretrainConfig
from ssl_bf.keyed_random import StepContext
from ssl_bf.methods import moco_v2
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.method import Start
from ssl_bf.methods.simsiam import SimSiam, SimSiamConfig
from ssl_bf.parts.batch_shuffle import shuffle_rows
from ssl_bf.ranks import shards_of_run
from ssl_bf.run.hand_over import backbone_info
from ssl_bf.schedules import Momentum

TINY: dict[str, Any] = {
    "data": {"name": "textures", "train_images": 64},
    "views": {"recipe": "moco_v2", "size": 16},
    "backbone": {"name": "small_conv"},
    "method": {"projection_dim": 16, "hidden_dim": 16},
    "optimizer": {"name": "sgd"},
    "epochs": 2,
    "batch_size": 16,
    "precision": "float32",
    "seed": 3,
    "speed": {"device": "cpu"},
    "run": {"directory": "never written"},
}
METHODS = {
    "moco_v2": ["method.queue_size=32", "method.batch_norm=groups:2"],
    "moco_v3": [],
    "simsiam": ["method.predictor_hidden_dim=8"],
}
RELATED = ["relation.name=batchformer", "relation.context=8"]


def config(method: str, *overrides: str) -> PretrainConfig:
    given = [f"method.name={method}", *METHODS[method], *overrides]
    return parse_config(PretrainConfig, TINY, given).value


def build(method: str, *overrides: str) -> Run:
    return build_run(config(method, *overrides))


def assert_equal_batches(ours: Batch, theirs: Batch) -> None:
    for one, other in zip(ours.tensors(), theirs.tensors(), strict=True):
        assert torch.equal(one, other)


# Paired arms: adding a relation changes nothing else.


@pytest.mark.parametrize("place", ["projection", "backbone"])
@pytest.mark.parametrize("method", METHODS)
def test_a_relation_changes_nothing_of_initial_values_order_and_views(
    method: str, place: str
) -> None:
    without = build(method, "relation.name=none")
    related = build(method, *RELATED, f"relation.insert_at={place}", "relation.pairs=all")
    plain, more = without.method.state_dict(), related.method.state_dict()
    added = {name.split(".")[0] for name in more.keys() - plain.keys()}
    assert "relation" in added
    assert added <= {"relation", "queues", "recentre"}
    assert plain.keys() <= more.keys()
    for name, value in plain.items():
        assert torch.equal(value, more[name]), name
    assert without.plan == related.plan
    for step in (0, 1, 2, 3):  # the second epoch begins at step 3
        assert_equal_batches(without.loader.batch(step), related.loader.batch(step))


def test_a_relation_changes_nothing_of_the_shuffle(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[Tensor] = []

    def record(rows: Tensor, order: Tensor) -> Tensor:
        if rows.ndim > 1:  # of images; what a relation knows of them is dealt likewise
            orders.append(order)
        return shuffle_rows(rows, order)

    monkeypatch.setattr(moco_v2, "shuffle_rows", record)
    used = []
    for relation in (["relation.name=none"], [*RELATED, "relation.pairs=all"]):
        run = build("moco_v2", *relation)
        for step in (0, 1):
            run.method(run.loader.batch(step), StepContext(3, step, 0))
        used.append(orders.copy())
        orders.clear()
    assert len(used[0]) == 2
    assert all(torch.equal(a, b) for a, b in zip(*used, strict=True))
    assert not torch.equal(*used[0])  # each step its own


def test_the_seed_changes_initial_values_order_and_views() -> None:
    ours, theirs = build("moco_v2"), build("moco_v2", "seed=4")
    weight = "backbone.layers.0.0.weight"
    assert not torch.equal(ours.method.state_dict()[weight], theirs.method.state_dict()[weight])
    a, b = ours.loader.batch(0), theirs.loader.batch(0)
    assert not torch.equal(a.image_ids, b.image_ids)
    common = set(a.image_ids.tolist()) & set(b.image_ids.tolist())
    for image in common:
        views = [batch.views[0][batch.image_ids == image] for batch in (a, b)]
        assert not torch.equal(*views)


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    build("moco_v3", *RELATED)
    assert torch.equal(torch.get_rng_state(), before)


# Data


def trap(self: object) -> ImageSplit:
    raise AssertionError("pretraining opened a test split")


@pytest.mark.parametrize("method", METHODS)
def test_no_test_split_is_opened(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TexturesConfig, "open_test", trap)
    run = build(method)
    assert run.monitor is not None
    run.monitor(run.method.backbone)
    run.loader.batch(0)


def test_the_monitor_looks_at_train_and_its_hold_out_only() -> None:
    run = build("simsiam", "data.max_images=40")
    assert run.monitor is not None
    gallery, holdout = set(run.monitor.gallery.ids), set(run.monitor.holdout.ids)
    trained = {
        int(image)
        for step in range(run.plan.steps_per_epoch)
        for image in run.loader.batch(step).image_ids
    }
    assert len(gallery) + len(holdout) == 40
    assert not gallery & holdout
    assert all(name.startswith("textures/train/") for name in gallery | holdout)
    assert max(trained) < len(gallery)  # indices of the gallery's images, none held out


def test_the_long_tail_is_the_judges() -> None:
    run = build("simsiam", "data.long_tail=5")
    data = TexturesConfig(train_images=64, long_tail=5)
    train, holdout = split_holdout(open_selected_train(data), data.holdout)
    assert len(train) + len(holdout) < 40
    assert run.monitor is not None
    assert run.monitor.gallery.ids == train.ids
    assert run.monitor.holdout.ids == holdout.ids


def test_the_hold_out_is_the_judges() -> None:
    run = build("simsiam", "data.holdout=0.3")
    _, holdout = split_holdout(TexturesConfig(train_images=64).open_train(), 0.3)
    assert run.monitor is not None
    assert run.monitor.holdout.ids == holdout.ids


def test_the_monitor_looks_at_a_bounded_number_of_images() -> None:
    monitor = build("simsiam", "run.monitor_images=20", "data.holdout=0.5").monitor
    assert monitor is not None
    assert (len(monitor.gallery), len(monitor.holdout)) == (20, 20)


@pytest.mark.parametrize("off", ["data.holdout=0", "run.monitor_every=0"])
def test_without_a_hold_out_or_a_wish_there_is_no_monitor(off: str) -> None:
    run = build("simsiam", off)
    assert run.monitor is None
    assert any("no k-NN monitor" in note for note in run.notes) == (off == "data.holdout=0")


def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the labels of the images away."""
    relabelled(monkeypatch, torch.full((32,), -1), ())


def relabelled(monkeypatch: pytest.MonkeyPatch, labels: Tensor, names: tuple[str, ...]) -> None:
    """Give the images other labels."""
    labelled = TexturesConfig(train_images=32).open_train()
    without = ImageSplit(
        ids=labelled.ids,
        labels=labels,
        class_names=names,
        read=labelled.read,
        fingerprint="0",
        pixels=labelled.pixels,
    )
    monkeypatch.setattr(TexturesConfig, "open_train", lambda self: without)


def test_images_without_labels_are_all_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    nameless(monkeypatch)
    run = build("simsiam")
    assert run.monitor is None
    assert run.loader.steps_per_epoch == 2
    assert run.notes[0].startswith("32 training images, 0 held out")


def test_a_batch_has_the_views_and_labels_that_the_method_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = build("simsiam").loader.batch(0)
    assert len(batch.views) == 2
    assert batch.labels is None
    monkeypatch.setattr(SimSiam, "needs_labels", True)
    monkeypatch.setattr(SimSiam, "views_per_image", 1)
    run = build("simsiam")
    batch = run.loader.batch(0)
    assert len(batch.views) == 1
    assert batch.labels is not None
    assert torch.equal(batch.labels, run.images.labels[batch.image_ids])


def test_a_method_is_told_what_it_is_built_around(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[Start] = []

    def record(config: SimSiamConfig, start: Start) -> SimSiam:
        starts.append(start)
        return SimSiam(config, start)

    monkeypatch.setattr(SimSiamConfig, "build", record)
    run = build("simsiam", *RELATED)
    (start,) = starts
    assert (start.backbone, start.relation) == (run.method.backbone, run.config.relation)
    assert (start.width, start.seed) == (128, 3)
    assert start.classes.names == run.images.class_names
    assert start.classes.counts == tuple(run.images.labels.bincount(minlength=10).tolist())
    assert sum(start.classes.counts) == len(run.images)  # the hold-out is not counted


def test_a_method_that_needs_labels_refuses_images_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimSiam, "needs_labels", True)
    build("simsiam")
    nameless(monkeypatch)
    with pytest.raises(InputError, match=r"^data: the images of textures have no labels.*simsiam"):
        build("simsiam")


def test_a_method_that_needs_labels_refuses_a_single_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimSiam, "needs_labels", True)
    relabelled(monkeypatch, torch.zeros(32, dtype=torch.int64), ("wool", "silk"))
    with pytest.raises(InputError, match=r"^data: all \d+ training images are of one class"):
        build("simsiam")


# Objects


@pytest.mark.parametrize("method", METHODS)
def test_every_trainable_parameter_is_in_the_optimizer_once(method: str) -> None:
    run = build(method, *RELATED, "relation.lr_scale=0.5")
    named = [name for group in run.optimizer.param_groups for name in group["param_names"]]
    wanted = [name for name, p in run.method.named_parameters() if p.requires_grad]
    assert sorted(named) == sorted(wanted)
    scales = {g["name"]: g["learning_rate_scale"] for g in run.optimizer.param_groups}
    assert scales["relation"] == 0.5
    assert scales["network"] == 1.0


def test_the_plan_follows_from_images_batch_and_config_and_is_reported() -> None:
    run = build("moco_v3", "optimizer.base_learning_rate=0.8", "method.momentum=0.9", "epochs=3")
    assert run.plan.steps_per_epoch == 3  # 54 images in batches of 16, the rest dropped
    assert run.plan.total_steps == 9
    assert run.plan.peak_learning_rate == pytest.approx(0.8 * 16 / 256)
    assert run.method.momentum == Momentum(0.9, "cosine")
    assert run.notes[0] == (
        "54 training images, 10 held out; 3 steps per epoch, 9 in all; peak learning rate 0.05; "
        "1 process(es) on cpu"
    )
    assert run.config == config(
        "moco_v3", "optimizer.base_learning_rate=0.8", "method.momentum=0.9", "epochs=3"
    )


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_format_is_as_configured(channels_last: bool) -> None:
    run = build("simsiam", f"speed.channels_last={str(channels_last).lower()}")
    weight = run.method.state_dict()["backbone.layers.1.0.weight"]
    for tensor in (weight, run.loader.batch(0).views[0]):
        assert tensor.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_a_backbone_file_to_start_from_fills_the_backbone_and_its_slow_copy(
    tmp_path: Path,
) -> None:
    file = tmp_path / "other.safetensors"
    other = build("moco_v2", "seed=9")
    save_backbone(
        file,
        other.method.backbone,
        backbone_info(other.config, commit=None, step=0, precision="float32"),
    )
    run = build("moco_v2", f"backbone.init={file}", *RELATED)
    given, _ = load_backbone(file)
    state = run.method.state_dict()
    for name, value in given.state_dict().items():
        assert torch.equal(state[f"backbone.{name}"], value)
        assert torch.equal(state[f"slow_backbone.{name}"], value)
    assert all(p.requires_grad for p in run.method.backbone.parameters())
    plain = build("moco_v2").method.state_dict()
    assert torch.equal(state["projector.0.weight"], plain["projector.0.weight"])


def test_a_file_of_another_architecture_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "small.safetensors"
    run = build("simsiam")
    save_backbone(
        file,
        run.method.backbone,
        backbone_info(run.config, commit=None, step=0, precision="float32"),
    )
    with pytest.raises(InputError, match="holds a small_conv, the run trains a resnet18_cifar"):
        build("simsiam", "backbone.name=resnet18", "backbone.stem=cifar", f"backbone.init={file}")


def test_the_header_of_the_file_says_how_to_use_it_and_where_it_is_from() -> None:
    made = config("moco_v2", *RELATED, "views.mean=[0.1,0.2,0.3]", "views.std=[0.4,0.5,0.6]")
    info = asdict(backbone_info(made, commit="abc", step=7, precision="bf16"))
    provenance = info.pop("provenance")
    assert info == {
        "architecture": "small_conv",
        "feature_dim": 128,
        "image_size": 16,
        "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6),
        "format_version": 1,
    }
    again = parse_config(PretrainConfig, yaml.safe_load(provenance.pop("config"))).value
    assert again == replace(made, run=replace(made.run, directory="???"))  # a place
    assert provenance == {
        "title": "pretrained with BatchFormer",
        "method": "moco_v2",
        "relation": "batchformer",
        "step": 7,
        "commit": "abc",
        "seed": 3,
        "precision": "bf16",
    }


def test_cuda_is_refused_where_there_is_none_and_auto_does_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="speed.device: 'cuda' is not available here"):
        build("simsiam", "speed.device=cuda")
    assert build("simsiam", "speed.device=auto").device.type == "cpu"


def test_a_batch_that_the_devices_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_of_run, "world_size", lambda: 3)
    with pytest.raises(InputError, match="^batch_size: 16 is not divisible by 3 devices"):
        build("simsiam")


def test_the_batch_is_checked_per_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_of_run, "world_size", lambda: 4)
    with pytest.raises(InputError, match="relation.context: groups of 8 .* the 4 images per"):
        build("simsiam", *RELATED)


# Speed.


@pytest.mark.parametrize("place", ["accumulate=2", "speed.compile=true"])
def test_a_relation_inside_the_backbone_needs_it_stage_by_stage(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_bf.choices.setting_checks.check_compiler", lambda *_: None)
    inside = ["relation.name=batchformer_v2", "relation.context=4"]
    key = place.split("=", maxsplit=1)[0]
    with pytest.raises(InputError, match=rf"^{key}: is .*insert_at=tokens.* set {key}=") as refused:
        build("moco_v3", *inside, place)
    assert "\n" not in str(refused.value)
    build("moco_v3", *inside)


def test_accumulate_reaches_the_method_and_is_checked_per_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = build("moco_v3", "accumulate=4")
    assert run.method.accumulate == 4
    assert any(note.startswith("accumulate=4: BatchNorm") for note in run.notes)
    assert build("moco_v2", "accumulate=2").notes[1:] == build("moco_v2").notes[1:]  # groups:2
    with pytest.raises(InputError, match="accumulate: 5 does not cut the 16 images"):
        build("moco_v3", "accumulate=5")
    with pytest.raises(InputError, match=r"^accumulate: 4 .*groups:2; set accumulate=2$"):
        build("moco_v2", "accumulate=4")
    with pytest.raises(InputError, match="^method.batch_norm: groups:3 does not cut the 16"):
        build("moco_v2", "method.batch_norm=groups:3", "accumulate=2")
    monkeypatch.setattr(shards_of_run, "world_size", lambda: 4)
    with pytest.raises(InputError, match="accumulate: 4 does not cut the 4 images"):
        build("moco_v3", "accumulate=4")


@pytest.mark.parametrize(
    ("method", "more", "works"),
    [
        ("moco_v3", "seed=1", True),
        ("moco_v2", "method.symmetric=true", True),
        ("moco_v2", "method.symmetric=false", False),
        ("simsiam", "seed=1", False),
    ],
)
def test_backward_per_view_says_where_it_does_nothing(method: str, more: str, works: bool) -> None:
    run = build(method, more, "speed.per_view_backward=true")
    assert run.method.backward_per_view
    assert any("speed.per_view_backward does nothing" in note for note in run.notes) != works
    assert not build(method, more).method.backward_per_view


def test_compile_is_asked_of_the_method_and_warned_of_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(moco_v2.MoCoV2, "compile_backbones", lambda self: asked.append("compile"))
    monkeypatch.setattr("ssl_bf.choices.setting_checks.compiler_fault", lambda device: None)
    assert not any("speed.compile" in note for note in build("moco_v2").notes)
    assert asked == []
    notes = build("moco_v2", "speed.compile=true").notes
    assert any(note.startswith("warning: speed.compile") for note in notes)
    assert asked == ["compile"]


def test_a_compiler_that_does_not_work_is_noticed_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(graph: object, inputs: object) -> None:
        raise FileNotFoundError("no working C++ compiler found\nin these places")

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    with pytest.raises(InputError, match=r"speed\.compile: .*no working C\+\+ .*=false$"):
        build("moco_v2", "speed.compile=true")
    build("moco_v2")
    torch.compiler.reset()


@pytest.mark.parametrize(("short_side", "warned"), [("15", True), ("16", False), ("null", False)])
def test_images_smaller_than_their_views_are_warned_of(short_side: str, warned: bool) -> None:
    given = ["views.size=16", f"views.short_side={short_side}"]
    notes = build("moco_v2", *given).notes
    line = "warning: views.short_side=15 is less than views.size=16: even whole images are enlarged"
    assert sum(note.startswith(line) for note in notes) == warned


@pytest.mark.parametrize("method", METHODS)
def test_a_model_of_timm_is_trained_and_handed_over(method: str, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="models of timm need the extra timm")
    run = build(method, "backbone.name=timm", "backbone.model=test_efficientnet", "views.size=32")
    run.model(run.loader.batch(0), StepContext(seed=3)).backward()
    for name, parameter in run.method.backbone.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().sum() > 0), name
    info = backbone_info(run.config, commit=None, step=1, precision="float32")
    assert (info.architecture, info.feature_dim) == ("timm:test_efficientnet", 256)
    save_backbone(tmp_path / "b.safetensors", run.method.backbone, info)
    again = build(
        method,
        *("backbone.name=timm", "backbone.model=test_efficientnet", "views.size=32"),
        f"backbone.init={tmp_path / 'b.safetensors'}",
    )
    trained = run.method.backbone.state_dict()
    for name, value in again.method.backbone.state_dict().items():
        assert torch.equal(value, trained[name]), name


def test_timms_own_weights_come_by_explicit_wish_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm", reason="models of timm need the extra timm")
    create, wishes = timm.create_model, []

    def offline(name: str, *, num_classes: int, pretrained: bool = False) -> Any:
        wishes.append(pretrained)
        return create(name, num_classes=num_classes)

    monkeypatch.setattr(timm, "create_model", offline)
    name = ["backbone.name=timm", "backbone.model=test_resnet.r160_in1k"]
    build("simsiam", *name)
    assert not any(wishes)
    build("simsiam", *name, "backbone.init=timm:test_resnet")
    assert wishes.count(True) == 1
    with pytest.raises(InputError, match=r"backbone.model of timm's\) to match"):
        build(
            "simsiam",
            "backbone.name=timm",
            "backbone.model=test_vit",
            "backbone.init=timm:test_resnet",
        )
