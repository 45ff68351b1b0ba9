"""What an evaluator is: its name, its configuration, and the function that turns it into numbers.

A new evaluator is one file with such a record, `EVALUATOR`, and one line in `evaluators/__init__`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from linear_eval.classifiers.whole_network import Pretrained
from linear_eval.datasets.splits import EvaluationSplits
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.headline import Headline
from linear_eval.features.table import FeatureTables
from linear_eval.images.batches import ImageBatches

if TYPE_CHECKING:
    import torch
    from torch import nn

Config = TypeVar("Config")


@dataclass(frozen=True, eq=False, kw_only=True)
class Planned(Generic[Config]):
    """What is known of an evaluation before anything is computed.

    Attributes:
        config: the evaluator's own.
        splits: of the data.
        prefix: of the protocol's metrics: "" for ours, or such as "moco/".
        backbone: that is judged; None for raw pixels.
        file: that it comes from; None where it comes from none.
    """

    config: Config
    splits: EvaluationSplits
    prefix: str = ""
    backbone: nn.Module | None = None
    file: Path | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Asked(Generic[Config]):
    """What an evaluator is asked: to judge one contestant by one configuration.

    Attributes:
        config: the evaluator's own.
        tables: features of the contestant.
        device: where to compute.
        batches: the images behind the tables, by the names of the parts.
        splits: of the data; None where there are tables alone.
        pretrained: gives the contestant's network, to be trained on; None for raw pixels.
        alike: configurations of the same evaluator that are asked of the same tables, this one
            among them: what they have in common is computed once.
        memo: where that is kept; one for all that is asked of the same tables.
        memory_mib: bound on the working memory of searches; changes nothing in the result.
    """

    config: Config
    tables: FeatureTables
    device: torch.device | str = "cpu"
    batches: Mapping[str, ImageBatches] = field(default_factory=dict)
    splits: EvaluationSplits | None = None
    pretrained: Callable[[], Pretrained] | None = None
    alike: tuple[Config, ...] = ()
    memo: dict[object, Any] = field(default_factory=dict)
    memory_mib: int = 512


def _nothing_to_check(planned: Planned[Any]) -> None:
    del planned


def _looks_at_train(planned: Planned[Any]) -> bool:
    del planned
    return True


def _never_augmented(config: Any) -> bool:
    del config
    return False


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluator(Generic[Config]):
    """One way to judge a frozen backbone.

    Attributes:
        name: in `evaluators`, of its section, and first in the keys of its metrics.
        config: class of its section; a dataclass with a default for every key.
        evaluate: the numbers.
        headline: which of these are printed, and where.
        rules: what it does, in words, for `results.json`.
        check: raises an `InputError` where the data cannot give what the config asks for.
        looks_at_train: whether it needs features of train (and hold-out), not of test alone.
        augmented: whether it needs features of augmented views of train.
        kept_by_protocols: keys whose user's value holds for every protocol: they change no result.
        needs_shared_classes: whether test must have the classes of train.
        predicts_classes: whether accuracy by frequency of the classes is added.
        trains_backbone: whether it needs a network; there is none for raw pixels.
        in_every_process: whether all processes take part; otherwise the main one works alone.
    """

    name: str
    config: type[Config]
    evaluate: Callable[[Asked[Config]], Evaluation]
    headline: Headline
    rules: str
    check: Callable[[Planned[Config]], None] = _nothing_to_check
    looks_at_train: Callable[[Planned[Config]], bool] = _looks_at_train
    augmented: Callable[[Config], bool] = _never_augmented
    kept_by_protocols: tuple[str, ...] = ()
    needs_shared_classes: bool = True
    predicts_classes: bool = False
    trains_backbone: bool = False
    in_every_process: bool = False
