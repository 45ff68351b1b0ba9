"""How a study judges its backbones: the evaluation config, and the metrics that count."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.evaluation.plan import Stage, stages
from linear_eval.evaluators.frequency import GROUPS
from linear_eval.evaluators.headline import matched
from linear_eval.strict_config.reader import load_config
from linear_eval.strict_config.types import nearest
from linear_eval.system.errors import ConfigError
from ssl_bf.study.study_file import StudyConfig

_SET_BY_STUDY = ("backbone", "output", "data.seed", "evaluators")
_NO_RESULT = ("backbone", "output", "batch_size", "speed", "features")  # rounding at most
_NO_DATA = ("root", "download", "on_bad_image", "seed", "ground_truth")
_STAND_IN = "backbone.safetensors"


@dataclass(frozen=True, kw_only=True)
class Judge:
    """The evaluation of every run.

    Attributes:
        config: but for the backbone.
        metrics: that count.
    """

    config: EvaluateConfig
    metrics: tuple[str, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the numbers, nested."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self.config)))
        data = {key: value for key, value in found["data"].items() if key not in _NO_DATA}
        kept = {key: value for key, value in found.items() if key not in _NO_RESULT}
        return {**kept, "data": data}


def open_judge(study: StudyConfig) -> Judge:
    """The evaluation config, and whether it makes the metrics that count.

    Raises:
        ConfigError: it is not valid, or makes no such metric.
    """
    asked = study.judge
    for text in asked.overrides:
        key = text.partition("=")[0].strip()
        if key in _SET_BY_STUDY:
            raise ConfigError(f"judge.overrides: {key} is set by the study; leave it out")
    texts = [each for each in study.base_overrides if each.startswith("data.")]
    texts += [*asked.overrides, f"backbone={_STAND_IN}"]
    if asked.evaluators:
        texts.append(f"evaluators=[{', '.join(asked.evaluators)}]")
    try:
        config = load_config(EvaluateConfig, asked.config, texts, packaged="evaluate").value
    except ConfigError as error:
        raise ConfigError(f"judge: {error}") from error
    for metric in asked.metrics:
        _check_metric(metric, config)
    return Judge(config=replace(config, output=None), metrics=asked.metrics)


def _check_metric(metric: str, config: EvaluateConfig) -> None:
    asked = stages(config)
    if not any(_makes(stage, metric) for stage in asked):
        names = [each for stage in asked for each in _patterns(stage)]
        hint = nearest(metric, names) or f" Known, with * for a setting: {', '.join(names)}"
        raise ConfigError(f"judge.metrics: the judge makes no {metric}.{hint}")


def _makes(stage: Stage, metric: str) -> bool:
    """Whether an evaluation yields a metric, so far as its config tells before it runs."""
    for pattern in _patterns(stage):
        found = matched(pattern, metric)
        numbers = {number for part in found.groups() for number in _numbers(part)} if found else {}
        if found and all(
            number in _numbers(json.dumps(asdict(stage.config))) for number in numbers
        ):
            return True
    return False


def _numbers(text: str) -> set[float]:
    """Those in a text; a percentage also as the fraction it is."""
    found = re.findall(r"(\d+(?:\.\d+)?(?:e-?\d+)?)(%?)", text)
    return {float(number) / (100 if percent else 1) for number, percent in found}


def _patterns(stage: Stage) -> list[str]:
    headline, prefix = stage.evaluator.headline, stage.protocol.metric_prefix
    columns = [each.metric for each in headline.columns]
    groups = [
        f"{column.removesuffix('/top1')}/{group}"
        for column in columns
        if stage.evaluator.predicts_classes
        for group in GROUPS
    ]
    names = [*columns, *groups, *headline.details, *headline.in_results_only]
    return [prefix + name for name in dict.fromkeys(names)]
