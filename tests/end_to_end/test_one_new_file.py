"""Adding a method, relation, evaluator or data set is one new file and one line: done, and tried.

A copy of the tree is extended and run by the real commands; the tests of the contract find the new
member by themselves.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import linear_eval

ROOT = Path(linear_eval.__file__).parents[1]
TINY = [
    *("data.train_images=64", "data.holdout=0", "batch_size=32", "epochs=1", "precision=float32"),
    *("optimizer.warmup_epochs=0", "run.log_every=1", "run.tensorboard=false", "speed.threads=1"),
    *("method.projection_dim=16", "method.hidden_dim=16", "run.directory=run"),
]

SIMCLR = '''"""SimCLR: contrast inside the batch, both views through one network.

Source: Chen et al. 2020 (arXiv 2002.05709). Differs: the gradient flows through the queries only.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from ssl_bf.keyed_random import StepContext
from ssl_bf.losses.info_nce import info_nce
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.keys import MethodKeys
from ssl_bf.methods.method import Method, Start
from ssl_bf.methods.ranges import check_ranges
from ssl_bf.layers.batch_norm import set_batch_norm_mode
from ssl_bf.layers.mlp_head import mlp_head
from ssl_bf.parts.negatives import batch_negatives
from ssl_bf.relations.streams import mean_over_stream_pairs, project_and_relate


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig(MethodKeys):
    """Keys of SimCLR."""

    name: Literal["simclr"] = "simclr"
    temperature: float = 0.5
    projection_dim: int = 128
    hidden_dim: int = 2048
    batch_norm: str = "local"

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        check_ranges(self)

    def build(self, start: Start) -> "SimCLR":
        """Make the method."""
        return SimCLR(self, start)


class SimCLR(Method):
    """One network for queries and keys."""

    config: SimCLRConfig

    def __init__(self, config: SimCLRConfig, start: Start) -> None:
        """Build head and relation."""
        super().__init__()
        self.config = config
        self.backbone = start.backbone
        widths = [start.width, config.hidden_dim, config.projection_dim]
        with start.initial_values("projector"):
            self.projector = mlp_head(widths, batch_norm=True, hidden_bias=False, last_bias=True)
        self.relation = start.build_relation(config.projection_dim, has_key_side=False)
        set_batch_norm_mode(self, config.batch_norm)

    def forward(self, batch: Batch, context: StepContext = StepContext()) -> Tensor:
        """Mean of both directions."""
        rules, loss_of = self.relation.rules, partial(info_nce, temperature=self.config.temperature)
        samples = batch.samples
        features = [
            self.features(view, samples, context, n) for n, view in enumerate(batch.views, 1)
        ]
        terms = []
        for number, key_number in ((1, 2), (2, 1)):
            known = {"samples": batch.samples, "context": context}
            relate = partial(self.relation.queries, **known, view=number)
            queries = project_and_relate(features[number - 1], self.projector, relate, rules)
            relate = partial(self.relation.keys, **known, view=key_number)
            keys = project_and_relate(features[key_number - 1], self.projector, relate, rules)
            others = [[batch_negatives(stream, len(stream))] for stream in keys.detach()]
            terms.append(mean_over_stream_pairs(loss_of, queries, keys, rules, others))
            self.projections = queries.detach()
        return (terms[0] + terms[1]) / 2

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """No slow copies."""
        return []
'''

BATCH_MEAN = '''"""Each row moves halfway to the mean of the batch."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from ssl_bf.layers.attention_weights import Attention
from ssl_bf.relations.two_streams import TwoStreamConfig


@dataclass(frozen=True, kw_only=True)
class BatchMeanConfig(TwoStreamConfig):
    """Keys: those of every relation."""

    name: Literal["batch_mean"] = "batch_mean"

    def relating(self, width: int) -> "BatchMean":
        """Make the module; it owns no parameter."""
        del width
        return BatchMean()


class BatchMean(nn.Module):
    """(N, D) -> (N, D)."""

    def forward(
        self,
        features: Tensor,
        order: Tensor | None,
        *,
        dropout: bool,
        attention: list[Attention] | None = None,
    ) -> Tensor:
        """The mean of each row and the mean row; there is no attention."""
        del order, dropout, attention
        return (features + features.mean(dim=0)) / 2
'''


NEAREST_MEAN = '''"""Every test image gets the class whose mean feature is most similar.

Shapes: M images, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from linear_eval.evaluators.classification import checked_classes, classification
from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.evaluator import Asked, Evaluator
from linear_eval.evaluators.headline import Column, Headline


@dataclass(frozen=True, kw_only=True)
class NearestMeanConfig:
    """Keys.

    Attributes:
        centred: whether the mean of all train features is taken off first.
    """

    centred: bool = True


def evaluate_nearest_mean(asked: Asked[NearestMeanConfig]) -> Evaluation:
    """`nearest_mean/top1`, `/top5` and `/mean_per_class`."""
    tables = asked.tables
    features = torch.cat([table.features for table in tables.whole]).double()
    origin = features.mean(dim=0) if asked.config.centred else torch.zeros(())
    labels = torch.nn.functional.one_hot(tables.whole_labels, checked_classes(tables)).double()
    means = (labels.T @ (features - origin)) / labels.sum(dim=0)[:, None]
    test = tables.test.features.double() - origin
    similar = torch.nn.functional.normalize(test) @ torch.nn.functional.normalize(means).T
    ranked = similar.argsort(dim=1, descending=True)[:, :5]
    return classification("nearest_mean", ranked, tables.test.labels)


EVALUATOR = Evaluator(
    name="nearest_mean",
    config=NearestMeanConfig,
    evaluate=evaluate_nearest_mean,
    headline=Headline(
        columns=(Column("nearest mean", "nearest_mean/top1"),),
        in_results_only=("nearest_mean/top5", "nearest_mean/mean_per_class"),
    ),
    rules="the class whose mean feature is most similar",
    predicts_classes=True,
)
'''

GREYS = '''"""Images of one grey each; light and dark are the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from linear_eval.datasets.dataset import DatasetSettings, ImageSplit, fingerprint_of


@dataclass(frozen=True, kw_only=True)
class GreysConfig(DatasetSettings):
    """Greys.

    Attributes:
        images: of each split.
    """

    name: Literal["greys"] = "greys"
    images: int = 64

    def open_train(self) -> ImageSplit:
        """The even levels."""
        return self._split("train", 0)

    def open_test(self) -> ImageSplit:
        """The odd levels."""
        return self._split("test", 1)

    def _split(self, name: str, first: int) -> ImageSplit:
        levels = (2 * torch.arange(self.images) + first) % 256
        labels = (levels > self.images).long()
        ids = tuple(f"{name}/{level}" for level in levels.tolist())
        return ImageSplit(
            ids=ids,
            labels=labels,
            class_names=("dark", "light"),
            read=lambda row: torch.full((3, 32, 32), int(levels[row]), dtype=torch.uint8),
            fingerprint=fingerprint_of("greys", ids, labels, b""),
        )
'''


def copy_of_the_tree(place: Path) -> Path:
    """Sources, configs and tests, in a folder of their own."""
    leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("linear_eval", "ssl_bf", "configs", "tests"):
        shutil.copytree(ROOT / name, place / name, ignore=leave_out)
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, place / name)
    return place


def add_member(tree: Path, file: str, code: str, *, union: str) -> None:
    """Write a new file, and name its config in the union of its room: nothing else is touched.

    Args:
        tree: from `copy_of_the_tree`.
        file: of the new member, from the top of the tree; must not exist.
        code: with one class whose name ends in Config.
        union: name of the union in the `__init__` beside the file.
    """
    new = add_file(tree, file, code)
    (config,) = re.findall(r"^class (\w+Config)\b", code, flags=re.MULTILINE)
    room = new.parent / "__init__.py"
    text = room.read_text(encoding="utf-8")
    imports = f"from {'.'.join(Path(file).with_suffix('').parts)} import {config}\n"
    members = re.search(rf"^{union} = (\([^)]*\)|.*)$", text, flags=re.MULTILINE)
    assert members is not None, room
    wider = f"{imports}\n{union} = {members[1]} | {config}"
    room.write_text(text.replace(members[0], wider), encoding="utf-8")


def add_file(tree: Path, file: str, code: str) -> Path:
    """Write a file that is not there."""
    new = tree / file
    assert not new.exists(), new
    new.write_text(code, encoding="utf-8")
    return new


def run_in(tree: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """A Python module of the copy, not of what is installed."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHONPATH"))
    }
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def losses_of_a_run(tree: Path, *overrides: str) -> list[float]:
    """Train the smallest quickstart in the copy."""
    done = run_in(tree, "ssl_bf", "pretrain", "quickstart", *TINY, *overrides)
    assert done.returncode == 0, done.stderr
    lines = (tree / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def passing_tests(tree: Path, about: str, *files: str) -> int:
    """How many tests of some files are about something (pytest's `-k`); all of them pass."""
    done = run_in(tree, "pytest", "-q", "-p", "no:cacheprovider", "-k", about, *files)
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout[-4000:]
    assert passed is not None
    return int(passed[1])


CONTRACT = "tests/ssl_bf/methods/test_method.py"


@pytest.mark.slow
def test_a_method_trains_and_is_held_to_its_contract(tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path)
    add_member(tree, "ssl_bf/methods/simclr.py", SIMCLR, union="MethodConfig")
    losses = losses_of_a_run(tree, "method.name=simclr", "method.temperature=0.5")
    assert len(losses) == 2
    assert all(0 < loss < 10 for loss in losses)
    # shipped by a config of its own
    shipped = (tree / "configs/pretrain/simsiam_cifar10.yaml").read_text(encoding="utf-8")
    section = re.search(r"^method:\n(  .*\n)+", shipped, flags=re.MULTILINE)
    assert section is not None
    shipped = shipped.replace(section[0], "method:\n  name: simclr\n").replace(
        "simsiam_", "simclr_"
    )
    (tree / "configs/pretrain/simclr_cifar10.yaml").write_text(shipped, encoding="utf-8")
    about = "simclr or shipped or arms or packaged_configs or rooms"
    others = ["tests/test_configs.py", "tests/test_architecture.py", "tests/ssl_bf/test_cli.py"]
    assert passing_tests(tree, about, CONTRACT, *others) > 100


@pytest.mark.slow
def test_a_relation_trains_and_is_held_to_the_contract_of_each_method(tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path)
    add_member(tree, "ssl_bf/relations/batch_mean.py", BATCH_MEAN, union="RelationConfig")
    plain = losses_of_a_run(tree, "relation.name=none")
    related = losses_of_a_run(tree, "relation.name=batch_mean", "run.overwrite=true")
    assert len(related) == 2
    assert related != plain
    assert passing_tests(tree, "batch_mean", CONTRACT) >= 9  # properties of each method
    done = run_in(tree, "ssl_bf", "pretrain", "quickstart", "relation.name=batch_mean", "--show")
    assert "context" not in done.stdout.partition("relation:")[2].partition("optimizer:")[0]


JUDGE = ["linear_eval", "run", "quickstart", "backbone=random", "architecture=small_conv"]


def judged(tree: Path, *overrides: str) -> tuple[str, dict[str, float]]:
    """What the judge prints, and the metrics it writes."""
    done = run_in(tree, *JUDGE, "output=found.json", "--overwrite", *overrides)
    assert done.returncode == 0, done.stderr
    metrics: dict[str, float] = json.loads((tree / "found.json").read_text())["metrics"]
    return done.stdout, metrics


@pytest.mark.slow
def test_an_evaluator_is_configured_printed_and_held_to_its_record(tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path)
    add_file(tree, "linear_eval/evaluators/nearest_mean.py", NEAREST_MEAN)
    room = tree / "linear_eval/evaluators/__init__.py"
    text = room.read_text(encoding="utf-8")
    line = "from linear_eval.evaluators import nearest_mean\n\nEVALUATORS"
    text = text.replace("\nEVALUATORS", "\n" + line, 1).replace(
        "    retrieval.EVALUATOR,\n", "    retrieval.EVALUATOR,\n    nearest_mean.EVALUATOR,\n"
    )
    room.write_text(text, encoding="utf-8")
    tiny = ["data.train_images=200", "data.test_images=50", "evaluators=[nearest_mean]"]
    printed, metrics = judged(tree, *tiny, "nearest_mean.centred=false")
    assert metrics.keys() == {f"nearest_mean/{name}" for name in ("top1", "top5", "mean_per_class")}
    assert "nearest mean" in printed
    assert f"{metrics['nearest_mean/top1']:.1f}" in printed
    wrong = run_in(tree, *JUDGE, "output=o.json", "nearest_mean.centered=false")
    assert wrong.returncode == 2
    assert "Did you mean 'centred'" in wrong.stderr
    headlines = "tests/linear_eval/evaluators/test_headlines.py"
    assert passing_tests(tree, "nearest_mean or rooms", headlines, "tests/test_architecture.py")


@pytest.mark.slow
def test_a_data_set_is_trained_on_and_judged(tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path)
    add_member(tree, "linear_eval/datasets/greys.py", GREYS, union="DatasetConfig")
    tiny = [each for each in TINY if not each.startswith("data.train_images")]
    done = run_in(tree, "ssl_bf", "pretrain", "quickstart", "data.name=greys", *tiny)
    assert done.returncode == 0, done.stderr
    printed, metrics = judged(tree, "data.name=greys", "evaluators=[knn]", "knn.k=[1]")
    assert "k-NN (k=1)" in printed
    assert metrics.keys() == {"knn/k=1/top1"}
    about = "test_architecture.py"
    assert passing_tests(tree, "rooms or lines or name", "tests/" + about)
