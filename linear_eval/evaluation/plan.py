"""Which evaluations a configuration asks for: every evaluator under every protocol that has it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from linear_eval.datasets.splits import EvaluationSplits
from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.evaluation.contestants import Contestant
from linear_eval.evaluation.protocols import PROTOCOLS, Protocol
from linear_eval.evaluators import EVALUATORS
from linear_eval.evaluators.evaluator import Evaluator, Planned
from linear_eval.system.errors import InputError


@dataclass(frozen=True, eq=False)
class Stage:
    """One evaluator under one protocol.

    Attributes:
        evaluator: of the list.
        protocol: whose rules hold.
        config: of the evaluator, as the protocol has it.
    """

    evaluator: Evaluator[Any]
    protocol: Protocol
    config: Any

    @property
    def name(self) -> str:
        """Such as `knn` or `moco/knn`."""
        return self.protocol.metric_prefix + self.evaluator.name

    def planned(self, splits: EvaluationSplits) -> Planned[Any]:
        """What the evaluator may check before anything is computed."""
        return Planned(config=self.config, splits=splits, prefix=self.protocol.metric_prefix)

    def check(self, splits: EvaluationSplits, judged: Contestant) -> None:
        """Ask the evaluator whether it can judge that backbone on these data.

        Raises:
            InputError: it cannot.
        """
        planned = replace(self.planned(splits), backbone=judged.backbone, file=judged.path)
        self.evaluator.check(planned)


def stages(config: EvaluateConfig) -> list[Stage]:
    """The evaluations, protocol by protocol."""
    by_name = {evaluator.name: evaluator for evaluator in EVALUATORS}
    return [
        Stage(by_name[name], PROTOCOLS[protocol], settings)
        for protocol in config.protocols
        for name in config.evaluators
        if (settings := _settings(by_name[name], PROTOCOLS[protocol], config)) is not None
    ]


def _settings(evaluator: Evaluator[Any], protocol: Protocol, config: EvaluateConfig) -> Any:
    """Of an evaluator under a protocol; None where the protocol does not have it."""
    own = config.section(evaluator)
    if protocol.name == "ours":
        return own
    published = protocol.settings.get(evaluator.name)
    if published is None:
        return None
    return replace(published, **{key: getattr(own, key) for key in evaluator.kept_by_protocols})


def check_stages(config: EvaluateConfig, splits: EvaluationSplits, judged: Contestant) -> None:
    """Check that the evaluators have what they need, before anything is computed.

    Raises:
        InputError: an evaluator needs classes that train and test share, more images, or a file
            that the judged backbone lacks.
    """
    asked = stages(config)
    if not splits.shares_classes and any(each.evaluator.needs_shared_classes for each in asked):
        able = ", ".join(each.name for each in EVALUATORS if not each.needs_shared_classes)
        raise InputError(
            f"evaluators: {list(config.evaluators)}, expected [{able}] alone for data whose "
            f"test classes are not those of train; set evaluators=[{able}]"
        )
    for stage in asked:
        stage.check(splits, judged)


def needed_parts(config: EvaluateConfig, splits: EvaluationSplits) -> tuple[str, ...]:
    """The parts of the data whose features some evaluator looks at."""
    asked = stages(config)
    in_train = any(each.evaluator.looks_at_train(each.planned(splits)) for each in asked)
    unused = () if in_train else ("train", "holdout")
    return tuple(name for name in splits.parts if name not in unused)


def wants_views(config: EvaluateConfig) -> bool:
    """Whether any evaluator looks at augmented views of train."""
    return any(each.evaluator.augmented(each.config) for each in stages(config))
