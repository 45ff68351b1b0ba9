"""What the chosen evaluators need of the data: checked, and named, before anything is computed."""

from __future__ import annotations

import torch

from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.evaluation.splits import EvaluationSplits
from linear_eval.evaluation.stages import choices_of, knn_settings
from linear_eval.evaluators.choosing import FEW_PER_CLASS
from linear_eval.evaluators.fine_tune import check_fine_tune
from linear_eval.evaluators.label_draws import check_draws
from linear_eval.system.errors import InputError


def check_sizes(config: EvaluateConfig, splits: EvaluationSplits) -> None:
    """Compare what the evaluators need with what the data have, before anything is computed.

    Raises:
        InputError: an evaluator needs classes that train and test share, k is larger than the
            gallery, a recall rank than what is searched, there is no hold-out to choose a learning
            rate on, or there are too few images for a draw of labels.
    """
    if not splits.shares_classes and set(config.evaluators) != {"retrieval"}:
        raise InputError(
            f"evaluators: {list(config.evaluators)}, expected [retrieval] alone for data whose "
            "test classes are not those of train; set evaluators=[retrieval]"
        )
    for prefix, knn in knn_settings(config).items():
        largest = max(knn.k)
        gallery = splits.gallery_size if knn.gallery == "train" else len(splits.test) - 1
        if largest > gallery:
            way_out = f"leave protocol '{prefix[:-1]}' out" if prefix else "lower knn.k"
            if knn.gallery == "train" and config.data.max_images is not None:
                way_out += " or raise data.max_images"
            raise InputError(
                f"{prefix}knn.k: {largest} neighbours out of a gallery of {gallery} {knn.gallery} "
                f"images; {way_out}"
            )
    few = splits.gallery_size < FEW_PER_CLASS * len(splits.test.class_names)
    for name, choices in choices_of(config).items():
        if splits.holdout is None and choices > 1 and not few:
            raise InputError(
                f"data.holdout: {config.data.holdout:g} leaves no images to choose one of "
                f"{choices} settings of {name} on; set data.holdout=0.1, or give a single one"
            )
    train_labels = torch.cat([part.labels for part in (splits.train, splits.holdout) if part])
    if "low_shot" in config.evaluators:
        check_draws("low_shot", config.low_shot, train_labels)
    if "fine_tune" in config.evaluators:
        check_fine_tune(config.fine_tune, train_labels)
    _check_retrieval_sizes(config, splits)


def _check_retrieval_sizes(config: EvaluateConfig, splits: EvaluationSplits) -> None:
    if "retrieval" not in config.evaluators or splits.is_judged:
        return  # a ground truth has its own ranks
    furthest = max(config.retrieval.recall_at, default=1)
    if config.retrieval.gallery == "train":
        if not splits.shares_classes:
            raise InputError(
                "retrieval.gallery: train, but no test image has a class of train, expected test; "
                "leave retrieval.gallery out"
            )
        found, size = "train images", splits.gallery_size
    elif splits.retrieval is not None:
        found, size = "gallery images", len(splits.retrieval.gallery)
    else:
        found, size = "other test images", len(splits.test) - 1
    if furthest > size:
        raise InputError(
            f"retrieval.recall_at: rank {furthest} among {size} {found}; lower retrieval.recall_at"
        )


def needed_parts(config: EvaluateConfig, splits: EvaluationSplits) -> tuple[str, ...]:
    """The parts of the data whose features some evaluator looks at."""
    in_train = set(config.evaluators) != {"retrieval"} or config.retrieval.gallery == "train"
    unused = () if in_train and not splits.is_judged else ("train", "holdout")
    return tuple(name for name in splits.parts if name not in unused)
