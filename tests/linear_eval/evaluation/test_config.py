from typing import Any

import pytest
import torch
import yaml

from linear_eval.evaluation.config import EvaluateConfig, SpeedConfig
from linear_eval.evaluators import knn
from linear_eval.images.batches import EvalImages
from linear_eval.strict_config.reader import parse_config, to_yaml
from linear_eval.system.errors import InputError

TINY: dict[str, Any] = {"data": {"name": "textures"}, "backbone": "b.safetensors"}


def _error(mapping: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_config(EvaluateConfig, mapping, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_backbone_and_the_data_have_no_default() -> None:
    message = _error({})
    assert "backbone: missing" in message
    assert "data" in message


def test_everything_else_has_one() -> None:
    config = parse_config(EvaluateConfig, TINY).value
    assert config.evaluators == ("knn", "linear_probe", "retrieval")
    assert 20 in config.section(knn.EVALUATOR).k
    assert config.baselines == ()


def test_a_config_survives_the_way_through_yaml() -> None:
    config = parse_config(
        EvaluateConfig, TINY, ["knn.k=[1, 5]", "images.resize=40", "baselines=[pixels, random]"]
    ).value
    assert parse_config(EvaluateConfig, yaml.safe_load(to_yaml(config))).value == config


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("basline=[pixels]", "Did you mean 'baselines'"),
        ("batch_size=0", "batch_size: must be >= 1"),
        ("image_size=0", "image_size: must be >= 1"),
        ("seed=-1", "seed: must be between"),
        ("evaluators=[knn, knn]", "evaluators: expected at least one name, each once"),
        ("evaluators=[]", "evaluators: expected at least one name, each once"),
        ("evaluators=[kmn]", "evaluators"),
        ("low_shot.draws=0", "low_shot.draws: must be >= 1"),
        ("low_shot.fractions=[2]", "low_shot.fractions: must be in"),
        ("low_shot.probe.weight_decays=[0]", "low_shot.probe.weight_decays: must be"),
        ("fine_tune.recipe.epochs=0", "fine_tune.recipe.epochs: must be >= 1"),
        ("frequency.few_below=200", "frequency.many_above: must be"),
        ("baselines=[pixels, pixels]", "'pixels' would be judged twice"),
        ("baselines=[b.safetensors]", "'b.safetensors' would be judged twice"),
        ("images.crop=0", "images.crop: must be >= 1"),
        ("speed.device=gpu", "speed.device"),
        ("protocols=[dinoo]", "protocols"),
        ("protocols=[]", "protocols"),
        ("protocols=[moco, moco]", "protocols"),
        ("augmented_passes=0", "augmented_passes"),
    ],
)
def test_impossible_values_name_the_key(override: str, said: str) -> None:
    assert said in _error(TINY, override)


def test_image_size_is_short_for_resize_and_crop_and_excludes_them() -> None:
    config = parse_config(EvaluateConfig, TINY, ["image_size=24"]).value
    assert config.transform() == EvalImages(resize=24, crop=24)
    config = parse_config(EvaluateConfig, TINY, ["images.resize=24"]).value
    assert config.transform() == EvalImages(resize=24)
    assert "set images.resize and images.crop instead" in _error(
        TINY, "image_size=24", "images.resize=24"
    )


def test_threads_are_one_per_core_a_wish_or_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        for given, wish, expected in (("auto", "3", 3), ("auto", "", 5), (2, "3", 2)):
            monkeypatch.setenv("OMP_NUM_THREADS", wish)
            monkeypatch.setattr("linear_eval.evaluation.config.usable_cores", lambda: 5)
            SpeedConfig(threads=given).open_device()  # type: ignore[arg-type]
            assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
    assert "speed.threads: must be >= 1, got 0" in _error(TINY, "speed.threads=0")


def test_the_cpu_is_always_there_and_a_missing_gpu_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert SpeedConfig(device="cpu").open_device() == torch.device("cpu")
    assert SpeedConfig().open_device() == torch.device("cpu")
    with pytest.raises(InputError, match="speed.device: 'cuda' is not available"):
        SpeedConfig(device="cuda").open_device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert SpeedConfig().open_device() == torch.device("cuda")
