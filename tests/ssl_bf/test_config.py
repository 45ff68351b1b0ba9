"""Tests of ssl_bf.config: the typed sections of a pretraining run."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
import yaml

from linear_eval.backbones.architectures import ARCHITECTURES
from linear_eval.backbones.configs import ResNetConfig, SmallConvConfig
from linear_eval.strict_config.reader import ConfigError, parse_config, to_yaml
from ssl_bf.config import (
    PLACES,
    PretrainConfig,
    RunConfig,
    TrainingSpeedConfig,
    config_to_share,
    decisive_settings,
)
from ssl_bf.relations.batchformer_v2 import BatchFormerV2Config
from ssl_bf.relations.no_relation import NoRelationConfig

# All that has no default: where the images are, how they look, and how long it runs.
SHORTEST: dict[str, Any] = {
    "data": {"name": "textures"},
    "views": {"recipe": "textures", "size": 32},
    "backbone": {"name": "small_conv"},
    "method": {"name": "simsiam"},
    "optimizer": {"name": "sgd"},
    "epochs": 2,
    "batch_size": 32,
    "run": {"directory": "runs/short"},
}


def parse(*overrides: str) -> PretrainConfig:
    return parse_config(PretrainConfig, SHORTEST, overrides).value


def test_the_shortest_config_is_complete_and_trains_without_a_relation() -> None:
    config = parse()
    assert config.relation == NoRelationConfig()
    assert config.precision == "auto"
    assert config.seed == 0
    assert config.speed == TrainingSpeedConfig()


@pytest.mark.parametrize("key", SHORTEST)
def test_what_has_no_default_must_be_given(key: str) -> None:
    shorter = {name: value for name, value in SHORTEST.items() if name != key}
    with pytest.raises(ConfigError, match=rf"^{key}(\.\w+)?: "):
        parse_config(PretrainConfig, shorter)


@pytest.mark.parametrize(
    "override",
    [
        "data.name=cifar10 data.root=/images",
        "data.name=imagenet_subset data.root=/images data.subset=imagenet100_cmc",
        "data.max_images=500",
        "data.holdout=0.2",
        "backbone.name=resnet50",
        "backbone.init=other.safetensors",
        "method.name=moco_v3",
        "relation.name=batchformer relation.insert_at=backbone relation.context=local",
        "relation.name=batchformer relation.pairs=[[1,0],[0.5,0]] relation.key_dropout=off",
        "optimizer.base_learning_rate=1e-4",
        "epochs=3",
        "batch_size=64",
        "precision=bf16",
        "seed=7",
        "speed.device=cpu",
        "run.directory=elsewhere",
        "run.overwrite=true",
    ],
)
def test_the_keys_that_scripts_rely_on_exist_and_survive_yaml(override: str) -> None:
    config = parse(*override.split())
    assert config != parse()
    assert parse_config(PretrainConfig, yaml.safe_load(to_yaml(config))).value == config


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_a_stem_and_a_name_make_an_architecture(name: Any) -> None:
    assert ResNetConfig(name=name).architecture == name
    assert ResNetConfig(name=name, stem="cifar").architecture == f"{name}_cifar"
    assert f"{name}_cifar" in ARCHITECTURES
    assert SmallConvConfig(name="small_conv").architecture == "small_conv"
    assert parse("backbone.name=timm", f"backbone.model={name}").backbone.architecture == (
        f"timm:{name}"
    )


def test_a_model_of_timm_is_named_by_its_own_key() -> None:
    with pytest.raises(ConfigError, match=r"backbone.name: 'timm:resnet50' .* mean 'timm'"):
        parse("backbone.name=timm:resnet50")
    with pytest.raises(ConfigError, match="backbone.model: missing, expected a model of timm such"):
        parse("backbone.name=timm")


@pytest.mark.parametrize("threads", ["auto", "adaptive", 3, None])
def test_threads_are_a_word_a_number_or_left_to_torch(threads: Any) -> None:
    given = "null" if threads is None else threads
    assert parse(f"speed.threads={given}").speed.threads == threads


def test_threads_that_change_contradict_equality_to_the_bit() -> None:
    parse("speed.threads=auto", "speed.deterministic=true")
    with pytest.raises(ConfigError, match=r"speed.threads: adaptive changes .* set auto or a num"):
        parse("speed.threads=adaptive", "speed.deterministic=true")


def test_another_backbone_drops_the_keys_it_lacks_and_says_so() -> None:
    resnet = SHORTEST | {"backbone": {"name": "resnet18", "stem": "cifar"}}
    loaded = parse_config(PretrainConfig, resnet, ["backbone.name=small_conv"])
    assert loaded.value.backbone == SmallConvConfig(name="small_conv")
    assert loaded.notes == [
        "backbone.name is now 'small_conv'; dropped from the file: backbone.stem"
    ]


def test_a_place_that_another_relation_cannot_have_is_dropped_with_its_name() -> None:
    mapping = {**SHORTEST, "relation": {"name": "batchformer", "insert_at": "backbone"}}
    loaded = parse_config(PretrainConfig, mapping, ["relation.name=batchformer_v2"])
    assert loaded.value.relation == BatchFormerV2Config()
    assert loaded.notes == [
        "relation.name is now 'batchformer_v2'; dropped from the file: relation.insert_at"
    ]
    for name in ("batchformer", "copy"):  # what is given stays strict
        given = [f"relation.name={name}", "relation.insert_at=tokens"]
        with pytest.raises(ConfigError, match="^relation.insert_at: "):
            parse_config(PretrainConfig, mapping, given)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=0", "epochs: must be >= 1, got 0"),
        ("batch_size=1", "batch_size: must be >= 2"),
        ("accumulate=0", "accumulate: must be >= 1, got 0"),
        ("seed=-1", "seed: must be >= 0, got -1"),
        ("speed.threads=0", "speed.threads: must be >= 1, got 0"),
        (
            "speed.threads=atuo",
            "speed.threads: expected one of ['auto', 'adaptive'] or a ",
        ),
        ("speed.image_memory_mib=-1", "speed.image_memory_mib: must be >= 0, got -1"),
        ("speed.device=tpu", "speed.device: 'tpu' is not one of "),
        ("precision=fp16", "precision: 'fp16' is not one of "),
        ("run.log_every=0", "run.log_every: must be >= 1, got 0"),
        ("run.monitor_every=-1", "run.monitor_every: must be >= 0, got -1"),
        ("run.monitor_images=0", "run.monitor_images: must be >= 1, got 0"),
        ("run.save_every=0epochs", "run.save_every: expected a number with its unit"),
        ("run.save_every=10", "run.save_every: expected a number with its unit"),
        ("run.keep_every=10min", "run.keep_every: expected steps or epochs, got '10min'"),
        ("run.keep_last=0", "run.keep_last: must be >= 1, got 0"),
        ("batch_size=32.5", "batch_size: expected "),
        ("run.directroy=x", "run.directroy: no such key. Did you mean 'directory'?"),
        ("backbone.stem=cifar", "backbone.stem: no such key"),
    ],
)
def test_a_wrong_value_names_its_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        parse(override)
    assert str(wrong.value).startswith(message)
    assert "\n" not in str(wrong.value)


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as wrong:
        parse("epochs=0", "batch_size=1", "speed.threads=0", "run.overwrite=maybe")
    for key in ("epochs:", "batch_size:", "speed.threads:", "run.overwrite:"):
        assert key in str(wrong.value)


def test_a_config_cannot_be_changed() -> None:
    config = parse()
    for section in (config, config.run, config.speed, config.backbone):
        with pytest.raises(FrozenInstanceError):
            setattr(section, fields(section)[0].name, None)


def test_the_monitor_can_be_switched_off() -> None:
    assert RunConfig(directory="x", monitor_every=0).monitor_every == 0


@pytest.mark.parametrize(
    ("override", "decides"),
    [
        (["epochs=3"], True),
        (["views.mean=[0.5, 0.5, 0.4]"], True),
        (["optimizer.momentum=0.8"], True),
        (["data.name=cifar10", "data.root=/here"], True),
        (["speed.channels_last=false"], False),
        (["run.directory=elsewhere"], False),
        (["data.on_bad_image=skip"], False),
    ],
)
def test_what_decides_the_result_is_told_from_what_does_not(
    override: list[str], decides: bool
) -> None:
    after = decisive_settings(parse(*override))
    assert (decisive_settings(parse()) != after) == decides
    assert json.loads(json.dumps(after)) == after


# What is passed on with the weights


def free_text(config_class: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of all fields, in any member of any union, that may hold any text."""
    for name, hint in typing.get_type_hints(config_class).items():
        for member in (hint, *typing.get_args(hint)):
            if member is str:
                yield prefix + name
            elif dataclasses.is_dataclass(member):
                yield from free_text(member, f"{prefix}{name}.")


def test_every_key_that_may_hold_a_path_is_known_as_one() -> None:
    # groups:G; a name beside train; timm's name
    words = {"method.batch_norm", "data.test_folder", "backbone.model"}
    words |= {"run.save_every", "run.keep_every"}  # 10min
    words |= {"data.fingerprint", "backbone.architecture"}  # of what a Python program hands in
    assert {*free_text(PretrainConfig)} == {*PLACES} | words


@pytest.mark.parametrize(
    "overrides",
    [
        ("data={name: cifar10, root: SECRET}",),
        ("data={name: cifar10, root: /home/SECRET/images}",),
        ("data={name: image_folder, root: ~/SECRET}",),
        ("data={name: imagenet_subset, root: SECRET, subset: SECRET.txt}",),
        ("data={name: imagenet_subset, root: SECRET, subset: lists/SECRET.txt}",),
        ("backbone.init=../SECRET/b.safetensors",),
        ("speed.store=SECRET",),
        ("run.directory=runs/SECRET",),
        ("run.directory=SECRET", "speed.store=C:\\\\SECRET"),
    ],
)
def test_no_place_of_the_machine_is_passed_on(overrides: tuple[str, ...]) -> None:
    config = parse(*overrides)
    assert "SECRET" in to_yaml(config)
    shared = config_to_share(config)
    assert "SECRET" not in shared
    again = parse_config(PretrainConfig, yaml.safe_load(shared)).value
    assert decisive_settings(again).keys() == decisive_settings(config).keys()
    assert (again.method, again.optimizer, again.views) == (
        config.method,
        config.optimizer,
        config.views,
    )


def test_the_name_of_a_packaged_list_is_passed_on() -> None:
    config = parse("data={name: imagenet_subset, root: x, subset: imagenet100_cmc}")
    assert "subset: imagenet100_cmc" in config_to_share(config)
