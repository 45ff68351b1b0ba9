"""Which evaluations a configuration asks for: every evaluator under every protocol.

All but fine-tuning look at the same features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from linear_eval.config import EvaluateConfig, Evaluator
from linear_eval.evaluators.choosing import whole_of
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.frequency import FrequencyConfig, with_frequency
from linear_eval.evaluators.knn import KnnConfig, evaluate_knn
from linear_eval.evaluators.linear_probe import LinearProbeConfig, evaluate_linear_probe
from linear_eval.evaluators.logistic_probe import evaluate_logistic_probe
from linear_eval.evaluators.low_shot import evaluate_low_shot
from linear_eval.evaluators.retrieval import evaluate_retrieval
from linear_eval.features import FeatureTable
from linear_eval.protocols import PROTOCOLS, Protocol


@dataclass(frozen=True, eq=False)
class Tables:
    """A contestant's features.

    Attributes:
        train: without its hold-out.
        holdout: None if there is none.
        test: the whole split.
        augmented_train: (P, M, D) of augmented views; None if no evaluation wants them.
        augmented_holdout: likewise.
    """

    train: FeatureTable
    holdout: FeatureTable | None
    test: FeatureTable
    augmented_train: FeatureTable | None = None
    augmented_holdout: FeatureTable | None = None


Stage = Callable[[Tables, torch.device], Evaluation]


def stages(config: EvaluateConfig) -> dict[str, Stage]:
    """Name of every evaluation, such as `knn` or `moco/knn`, and what carries it out."""
    found: dict[str, Stage] = {}
    for name in config.protocols:
        protocol = PROTOCOLS[name]
        for evaluator in config.evaluators:
            if stage := _stage(evaluator, protocol, config):
                stage = _by_frequency(stage, config.frequency)
                found[protocol.metric_prefix + evaluator] = _prefixed(stage, protocol)
    return found


def wants_augmented_views(config: EvaluateConfig) -> bool:
    """Whether any probe is fitted on augmented views."""
    probes = [_linear_probe(PROTOCOLS[name], config) for name in config.protocols]
    return "linear_probe" in config.evaluators and any(p.augmented for p in probes if p)


def knn_settings(config: EvaluateConfig) -> dict[str, KnnConfig]:
    """Metric prefix of every protocol with a k-NN -> its settings."""
    if "knn" not in config.evaluators:
        return {}
    protocols = [PROTOCOLS[name] for name in config.protocols]
    return {p.metric_prefix: knn for p in protocols if (knn := _knn(p, config))}


def wants_fine_tuning(config: EvaluateConfig) -> bool:
    """Whether the backbones are fine-tuned, which takes images, not features."""
    return "fine_tune" in config.evaluators and "ours" in config.protocols


def choices_of(config: EvaluateConfig) -> dict[str, int]:
    """Evaluators that choose hyper-parameters on train, and among how many settings."""
    found = {
        "linear_probe": len(config.linear_probe.problems),
        "logistic_probe": len(config.logistic_probe.weight_decays),
    }
    asked = config.evaluators if "ours" in config.protocols else ()
    return {name: choices for name, choices in found.items() if name in asked}


def _knn(protocol: Protocol, config: EvaluateConfig) -> KnnConfig | None:
    if protocol.name == "ours":
        return config.knn
    # the back end changes nothing in the result, so the user's holds for every protocol
    return replace(protocol.knn, backend=config.knn.backend) if protocol.knn else None


def _linear_probe(protocol: Protocol, config: EvaluateConfig) -> LinearProbeConfig | None:
    return config.linear_probe if protocol.name == "ours" else protocol.linear_probe


def _stage(evaluator: Evaluator, protocol: Protocol, config: EvaluateConfig) -> Stage | None:
    if evaluator == "knn" and (knn := _knn(protocol, config)):
        return lambda tables, device: evaluate_knn(
            tables.train, tables.holdout, tables.test, knn, device=device
        )
    if evaluator == "linear_probe" and (probe := _linear_probe(protocol, config)):
        return lambda tables, device: _evaluate_linear_probe(tables, probe, device)
    if evaluator == "logistic_probe" and protocol.name == "ours":
        return lambda tables, device: evaluate_logistic_probe(
            tables.train, tables.holdout, tables.test, config.logistic_probe, device=device
        )
    if evaluator == "retrieval" and protocol.name == "ours":
        return lambda tables, device: evaluate_retrieval(
            tables.train, tables.holdout, tables.test, config.retrieval, device=device
        )
    if evaluator == "low_shot" and protocol.name == "ours":
        return lambda tables, device: evaluate_low_shot(
            tables.train, tables.holdout, tables.test, config.low_shot, device=device
        )
    return None


def _evaluate_linear_probe(
    tables: Tables, config: LinearProbeConfig, device: torch.device
) -> Evaluation:
    train, holdout = tables.train, tables.holdout
    if config.augmented:
        assert tables.augmented_train is not None
        train, holdout = tables.augmented_train, tables.augmented_holdout
    return evaluate_linear_probe(train, holdout, tables.test, config, device=device)


def _by_frequency(stage: Stage, config: FrequencyConfig) -> Stage:
    def run(tables: Tables, device: torch.device) -> Evaluation:
        train = torch.cat([table.labels for table in whole_of(tables.train, tables.holdout)])
        return with_frequency(stage(tables, device), train, tables.test.labels, config)

    return run


def _prefixed(stage: Stage, protocol: Protocol) -> Stage:
    def run(tables: Tables, device: torch.device) -> Evaluation:
        found, prefix = stage(tables, device), protocol.metric_prefix
        return Evaluation(
            metrics={prefix + key: value for key, value in found.metrics.items()},
            scores={prefix + key: value for key, value in found.scores.items()},
            predictions={prefix + key: value for key, value in found.predictions.items()},
            notes={prefix + key: value for key, value in found.notes.items()},
        )

    return run
