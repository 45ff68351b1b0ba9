"""Which evaluations a configuration asks for: every evaluator under every protocol.

All of them look at the same features. Where several processes judge together, they share the
searches of k-NN and retrieval; the main process fits the probes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch

from linear_eval.evaluation.config import EvaluateConfig, Evaluator
from linear_eval.evaluation.feature_tables import FeatureTables
from linear_eval.evaluation.protocols import PROTOCOLS, Protocol
from linear_eval.evaluation.splits import EvaluationSplits
from linear_eval.evaluators.choosing import whole_of
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.frequency import FrequencyConfig, with_frequency
from linear_eval.evaluators.judged_retrieval import evaluate_judged_retrieval
from linear_eval.evaluators.knn import evaluate_knn, search_gallery
from linear_eval.evaluators.linear_probe import LinearProbeConfig, evaluate_linear_probe
from linear_eval.evaluators.logistic_probe import evaluate_logistic_probe
from linear_eval.evaluators.low_shot import evaluate_low_shot
from linear_eval.evaluators.neighbour_votes import KnnConfig, Neighbours
from linear_eval.evaluators.retrieval import evaluate_retrieval
from linear_eval.search.sharded import nearest_neighbours_by_all
from linear_eval.system.distributed import is_main

_CLASSIFIERS = ("knn", "linear_probe", "logistic_probe")

_SHARED = ("knn", "retrieval")

Stage = Callable[[FeatureTables, torch.device], Evaluation]
Find = Callable[[FeatureTables, KnnConfig, torch.device], Neighbours]


def stages(config: EvaluateConfig, splits: EvaluationSplits) -> dict[str, Stage]:
    """Name of every evaluation, such as `knn` or `moco/knn`, and what carries it out."""
    found: dict[str, Stage] = {}
    find = _one_search(list(knn_settings(config).values()))
    for name in config.protocols:
        protocol = PROTOCOLS[name]
        for evaluator in config.evaluators:
            if stage := _stage(evaluator, protocol, config, splits, find):
                if evaluator in _CLASSIFIERS:
                    stage = _by_frequency(stage, config.frequency)
                if evaluator not in _SHARED:
                    stage = _by_main(stage)
                found[protocol.metric_prefix + evaluator] = _prefixed(stage, protocol)
    return found


def wants_views(config: EvaluateConfig) -> bool:
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


def _stage(
    evaluator: Evaluator,
    protocol: Protocol,
    config: EvaluateConfig,
    splits: EvaluationSplits,
    find: Find,
) -> Stage | None:
    if evaluator == "knn" and (knn := _knn(protocol, config)):
        return lambda tables, device: evaluate_knn(
            tables.train, tables.holdout, tables.test, knn, neighbours=find(tables, knn, device)
        )
    if evaluator == "linear_probe" and (probe := _linear_probe(protocol, config)):
        return lambda tables, device: evaluate_linear_probe(
            tables.train, tables.holdout, tables.test, probe, device=device
        )
    if evaluator == "logistic_probe" and protocol.name == "ours":
        return lambda tables, device: evaluate_logistic_probe(
            tables.train, tables.holdout, tables.test, config.logistic_probe, device=device
        )
    if evaluator == "low_shot" and protocol.name == "ours":
        return lambda tables, device: evaluate_low_shot(
            tables.train, tables.holdout, tables.test, config.low_shot, device=device
        )
    if evaluator == "retrieval" and protocol.name == "ours":
        return _retrieval(config, splits)
    return None


def _retrieval(config: EvaluateConfig, splits: EvaluationSplits) -> Stage:
    judgements = splits.retrieval.judgements if splits.retrieval else None

    def run(tables: FeatureTables, device: torch.device) -> Evaluation:
        if judgements is not None:
            assert tables.gallery is not None
            return evaluate_judged_retrieval(tables.test, tables.gallery, judgements, device=device)
        return evaluate_retrieval(
            tables.by_name.get("train"),
            tables.holdout,
            tables.test,
            config.retrieval,
            own_gallery=tables.gallery,
            device=device,
        )

    return run


def _one_search(asked: list[KnnConfig]) -> Find:
    """The neighbours for any of `asked`: those that look in one way share one search."""

    @lru_cache(maxsize=1)  # the protocols that share it follow one another
    def search(tables: FeatureTables, config: KnnConfig, device: torch.device) -> Neighbours:
        return search_gallery(
            tables.train,
            tables.holdout,
            tables.test,
            config,
            device=device,
            search=nearest_neighbours_by_all,
        )

    def way(config: KnnConfig) -> KnnConfig:
        return KnnConfig(distance=config.distance, gallery=config.gallery, backend=config.backend)

    def find(tables: FeatureTables, config: KnnConfig, device: torch.device) -> Neighbours:
        # an approximate index may find others where more are asked for
        alike = [config] if config.is_approximate else [c for c in asked if way(c) == way(config)]
        furthest = max(max(each.k) for each in alike)
        return search(tables, replace(way(config), k=(furthest,)), device)

    return find


def _by_main(stage: Stage) -> Stage:
    return lambda tables, device: stage(tables, device) if is_main() else Evaluation(metrics={})


def _by_frequency(stage: Stage, config: FrequencyConfig) -> Stage:
    def run(tables: FeatureTables, device: torch.device) -> Evaluation:
        train = torch.cat([table.labels for table in whole_of(tables.train, tables.holdout)])
        return with_frequency(stage(tables, device), train, tables.test.labels, config)

    return run


def _prefixed(stage: Stage, protocol: Protocol) -> Stage:
    def run(tables: FeatureTables, device: torch.device) -> Evaluation:
        found, prefix = stage(tables, device), protocol.metric_prefix
        return Evaluation(
            metrics={prefix + key: value for key, value in found.metrics.items()},
            scores={prefix + key: value for key, value in found.scores.items()},
            predictions={prefix + key: value for key, value in found.predictions.items()},
            notes={prefix + key: value for key, value in found.notes.items()},
        )

    return run
