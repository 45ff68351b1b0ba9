"""Every shipped config loads, builds its network, and says where it comes from."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from linear_eval.backbones.architectures import feature_dim
from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.strict_config.reader import load_config, parse_config, to_yaml
from linear_eval.system.errors import ConfigError
from ssl_bf.config import PretrainConfig
from ssl_bf.methods import MethodConfig
from ssl_bf.methods.classes import Classes
from ssl_bf.methods.method import Start
from ssl_bf.study.arms import open_arms
from ssl_bf.study.judging import open_judge
from ssl_bf.study.study_file import load_study
from tests.unions import members_of

CONFIGS = Path(__file__).parents[1] / "configs"
PRETRAIN = sorted((CONFIGS / "pretrain").glob("*.yaml"))
EVALUATE = sorted((CONFIGS / "evaluate").glob("*.yaml"))
STUDY = sorted((CONFIGS / "study").glob("*.yaml"))


def name_of(path: Path) -> str:
    return path.stem


def load(path: Path) -> PretrainConfig:
    return load_config(PretrainConfig, str(path), [], packaged="pretrain").value


@pytest.mark.parametrize("path", PRETRAIN, ids=name_of)
def test_every_pretraining_config_loads_and_survives_a_round_trip(path: Path) -> None:
    loaded = load_config(PretrainConfig, str(path), [], packaged="pretrain")
    assert not loaded.notes
    again = parse_config(PretrainConfig, yaml.safe_load(to_yaml(loaded.value)))
    assert again.value == loaded.value


@pytest.mark.parametrize("path", PRETRAIN, ids=name_of)
def test_every_pretraining_config_builds_its_method_and_accepts_its_batch(path: Path) -> None:
    config = load(path)
    width = feature_dim(config.backbone.architecture)
    is_inside = config.relation.name == "batchformer_v2"
    if is_inside:
        pytest.importorskip("timm", reason="vision transformers need the extra timm")
    with torch.device("meta"):  # shapes only: the ImageNet configs would take gigabytes
        backbone = config.backbone.build() if is_inside else torch.nn.Identity()
        classes = Classes(("cat", "dog"), (2, 1))
        method = config.method.build(Start(backbone, width, config.relation, config.seed, classes))
    method.check_batch(config.batch_size, 1)


@pytest.mark.parametrize("path", PRETRAIN, ids=name_of)
def test_a_pretraining_config_is_named_after_its_content(path: Path) -> None:
    config = load(path)
    if path.stem in ("small_image_folder", "finetune_image_folder"):
        assert config.run.directory == f"runs/{path.stem}"
    elif path.stem != "quickstart":
        assert path.stem.startswith(config.method.name)
        found = re.search("batchformer(_v2)?|bgformer", path.stem)
        assert config.relation.name == (found.group() if found else "none")
        assert config.run.directory == f"runs/{path.stem}"


@pytest.mark.parametrize("path", PRETRAIN + EVALUATE + STUDY, ids=name_of)
def test_a_config_says_how_to_run_it_and_is_short(path: Path) -> None:
    lines = path.read_text().splitlines()
    header = [line for line in lines if line.startswith("# ")]
    commands = {"pretrain": "ssl-bf pretrain", "evaluate": "linear-eval run"}
    command = commands.get(path.parent.name, "ssl-bf ablate")
    assert any("Run:" in line and f"{command} {path.stem}" in line for line in header)
    assert path not in PRETRAIN or any(line.startswith("# Source:") for line in header)
    assert len(lines) <= 50


@pytest.mark.parametrize("path", PRETRAIN, ids=name_of)
def test_a_pretraining_config_says_what_was_measured_with_it(path: Path) -> None:
    header = path.read_text().partition("\n\n")[0].splitlines()
    [line] = [line for line in header if line.startswith("# Measured: ")]
    said = line.removeprefix("# Measured: ")
    assert said.startswith("not measured") or re.search(r"[0-9] %", said), said
    assert max(map(len, header)) <= 100


@pytest.mark.parametrize("path", EVALUATE, ids=name_of)
def test_every_evaluation_config_loads(path: Path) -> None:
    given = ["backbone=random", *(["data.test_domain=one"] if path.stem == "domains" else [])]
    loaded = load_config(EvaluateConfig, str(path), given, packaged="evaluate")
    assert not loaded.notes


def test_a_judge_of_domains_is_told_which_one() -> None:
    with pytest.raises(ConfigError, match="data.test_domain: missing"):
        load_config(EvaluateConfig, "domains", ["backbone=random"], packaged="evaluate")


def test_a_loss_of_another_name_has_its_own_temperature() -> None:
    for name, temperature in (("pairs", 0.2), ("info_nce", 0.1)):
        given = [f"method.loss.name={name}", "data.root=x"]
        loaded = load_config(PretrainConfig, "metric_grocery", given, packaged="pretrain")
        assert loaded.value.method.loss.temperature == temperature  # type: ignore[union-attr]


@pytest.mark.parametrize("path", STUDY, ids=name_of)
def test_every_study_loads_and_has_an_arm_that_must_equal_another(path: Path) -> None:
    study = load_study(str(path), []).value
    arms = {arm.name: arm.config for arm in open_arms(study)}
    open_judge(study)
    assert len(study.seeds) >= 5
    controls = {name for name, config in arms.items() if config.relation.name == "copy"}
    assert any(each.arm in controls for each in study.contrasts)
    assert study.directory == f"runs/study/{path.stem}"


def test_every_method_is_shipped_and_the_compared_ones_in_both_arms_for_each_data_set() -> None:
    names = {path.stem for path in PRETRAIN}
    for data in ("cifar10", "tiny_imagenet_40", "imagenet100", "imagenet"):
        for method in ("moco_v2", "moco_v3", "simsiam"):
            assert f"{method}_{data}" in names
            assert f"{method}_batchformer_{data}" in names
    for method in members_of(MethodConfig):
        assert any(name.startswith(method) for name in names), method


def test_a_folder_of_ones_own_has_a_config_for_a_gpu_and_one_for_a_cpu() -> None:
    for name in ("moco_v3_image_folder", "small_image_folder"):
        config = load(CONFIGS / "pretrain" / f"{name}.yaml")
        assert (config.data.name, config.relation.name) == ("image_folder", "none")
    assert (config.backbone.name, config.views.size) == ("small_conv", 64)


def test_the_two_arms_of_a_comparison_differ_in_the_relation_only() -> None:
    for path in PRETRAIN:
        partner = path.with_name(re.sub("_batchformer(_v2)?|_bgformer", "", path.name))
        if partner == path or re.search("batchformer_imagenet$", path.stem):
            continue  # V1's ImageNet configs are each as published
        with_relation, without = load(path), load(partner)
        assert replace(with_relation, relation=without.relation, run=without.run) == without
