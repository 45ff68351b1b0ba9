"""What a finished evaluation leaves, of the rows of its table: `results.json`, and the answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
import yaml
from numpy.typing import NDArray

from linear_eval.datasets.decoding import ImageFileSettings
from linear_eval.datasets.imagenet_subset import PACKAGED
from linear_eval.datasets.splits import EvaluationSplits
from linear_eval.evaluation.config import PIXELS, RANDOM, EvaluateConfig
from linear_eval.evaluation.contestants import Contestant
from linear_eval.evaluation.protocols import PROTOCOLS
from linear_eval.evaluation.row import Row
from linear_eval.results.intervals import INTERVAL_MEANING
from linear_eval.results.own_results import Judged
from linear_eval.results.per_image import PerImage
from linear_eval.strict_config.places import without_places
from linear_eval.strict_config.reader import to_yaml

# Keys that say where something lies on the machine that judged, and values of them that are names.
PLACES = ("data.root", "data.ground_truth", "data.subset", "backbone", "baselines")
_NO_PLACES = ("all", *PACKAGED, PIXELS, RANDOM)
_NOT_OF_THE_NUMBERS = ("batch_size", "speed", "output")


def judged_of(main: Contestant, config: EvaluateConfig) -> Judged:
    """What identifies the backbone whose results they are."""
    seed = config.seed if main.key == RANDOM else None
    return Judged(main.architecture, main.sha256, seed)


def config_to_share(config: EvaluateConfig) -> dict[str, Any]:
    """What the numbers depend on, as YAML has it: `???` for every place on this machine."""
    plain = yaml.safe_load(to_yaml(config))
    plain["features"].pop("folder")
    kept = {key: value for key, value in plain.items() if key not in _NOT_OF_THE_NUMBERS}
    return without_places(kept, PLACES, _NO_PLACES)


def _identity(contestant: Contestant) -> dict[str, Any]:
    seed = contestant.pretraining_seed
    said = {"architecture": contestant.architecture, "sha256": contestant.sha256}
    return said if seed is None else {**said, "seed": seed}


def answers_of(config: EvaluateConfig, rows: list[Row], splits: EvaluationSplits) -> PerImage:
    """The answers to every test image; the judged backbone's row is the last."""
    main = rows[-1]
    return PerImage(
        ids=main.test_ids,
        labels=main.test_labels.numpy(),
        class_names=splits.test.class_names,
        judged=main.contestant.key,
        scores={row.contestant.key: _arrays(row.scores) for row in rows},
        predictions={row.contestant.key: _arrays(row.predictions) for row in rows},
        by_class=main.by_class,
        backbone=asdict(judged_of(main.contestant, config)),
    )


def _arrays(columns: dict[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    return {name: column.cpu().numpy() for name, column in columns.items()}


def results_of(config: EvaluateConfig, rows: list[Row], splits: EvaluationSplits) -> dict[str, Any]:
    """`results.json` but for notes, versions and seconds; the judged backbone's row is the last."""
    *others, main = rows
    # without a prefix, a number is one of ours; a results file without ours says so
    protocol = PROTOCOLS["ours" if "ours" in config.protocols else config.protocols[0]]
    settings = yaml.safe_load(to_yaml(config)) | {"images": asdict(config.transform())}
    if isinstance(config.data, ImageFileSettings):
        read = asdict(config.data.decoding)
        settings["images"] |= {key: read[key] for key in ("orientation", "white_level")}
    settings["features"].pop("folder")  # a place, not a setting of the numbers
    return {
        "metrics": main.metrics,
        "intervals": main.intervals,
        "interval_meaning": INTERVAL_MEANING,
        "baselines": {row.contestant.key: row.metrics for row in others},
        "baseline_intervals": {row.contestant.key: row.intervals for row in others},
        "protocol": protocol.name,
        "protocol_rules": {name: PROTOCOLS[name].rules for name in config.protocols},
        "settings": {
            name: settings[name]
            for name in ("images", "features", "seed", "frequency", *config.evaluators)
        },
        "backbone": _identity(main.contestant),
        "baseline_backbones": {row.contestant.key: _identity(row.contestant) for row in others},
        "data": {
            "name": config.data.name,
            "classes": len(splits.test.class_names),
            "train_images": sum(main.num_images.get(part, 0) for part in ("train", "holdout")),
            "test_images": main.num_images["test"],
            **({"gallery_images": n} if (n := main.num_images.get("gallery")) else {}),
            "fingerprint": splits.fingerprint,
            "contents": splits.contents(),
        },
        "chosen": main.notes,
        "config": config_to_share(config),
    }
