"""The whole pretraining run as typed sections; only the last two leave the result alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from linear_eval.backbones.configs import BackboneConfig
from linear_eval.datasets import DatasetConfig
from linear_eval.datasets.imagenet_subset import PACKAGED
from linear_eval.strict_config.intervals import read_interval
from linear_eval.strict_config.places import without_places
from linear_eval.strict_config.reader import to_yaml
from ssl_bf.health.rules import RuleName
from ssl_bf.methods import MethodConfig
from ssl_bf.optimizers import OptimizerConfig
from ssl_bf.pixels.residency import Place, Residency
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.no_relation import NoRelationConfig
from ssl_bf.samplers import SamplerConfig
from ssl_bf.samplers.sampler import EveryImageConfig
from ssl_bf.trackers.choice import TrackerChoice
from ssl_bf.views.recipes import ViewsConfig


@dataclass(frozen=True, kw_only=True)
class TrainingSpeedConfig:
    """How fast it runs; changes the result by rounding at most."""

    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU where there is one
    channels_last: bool = True  # memory layout of convolutions, the faster one nearly everywhere
    # Of torch on the CPU. auto: measured at the start, then kept; adaptive: measured every minute,
    # which changes last digits; null: torch decides (earlier versions).
    threads: Literal["auto", "adaptive"] | int | None = "auto"
    like: str | None = None  # directory of a run: precision and threads, where auto, as it has them
    images: Place = "auto"  # where decoded images are kept; auto: the fastest that they fit in
    store: str | None = None  # folder of a packed store (`ssl-bf pack`), packed if missing
    image_memory_mib: int = 8192  # decoded images take at most so much memory, per process
    cuda_graph: bool = False  # launch each step as a whole; pays for small networks and images
    compile: bool = False  # torch.compile of backbone and views; pays on GPUs, costs on CPUs
    per_view_backward: bool = False  # half the activations of MoCo-v3 and symmetric MoCo-v2
    # of gradients: ordered: in the order of the shards, equal to the bit on any number of processes
    reduction: Literal["fast", "ordered"] = "fast"
    deterministic: bool = False  # equal to the bit from run to run on one machine; slower

    def __post_init__(self) -> None:
        if isinstance(self.threads, int) and self.threads < 1:
            raise ValueError(f"threads: must be >= 1, got {self.threads}")
        if self.threads == "adaptive" and self.deterministic:
            raise ValueError(
                "threads: adaptive changes last digits as the run goes on, which deterministic "
                "forbids; set auto or a number"
            )
        if self.image_memory_mib < 0:
            raise ValueError(f"image_memory_mib: must be >= 0, got {self.image_memory_mib}")

    @property
    def residency(self) -> Residency:
        """Where decoded images are kept."""
        store = None if self.store is None else Path(self.store).expanduser()
        return Residency(images=self.images, store=store, memory_mib=self.image_memory_mib)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where the run is written and how often; never changes the result."""

    directory: str  # that is made, with config, log, checkpoints and in the end the backbone
    overwrite: bool = False  # replace the run that is there
    # auto: start where nothing is, go on where this run is; the same line again after any end
    resume: Literal["never", "auto"] = "never"
    log_every: int = 50  # steps; the first and the last are logged as well
    monitor_every: int = 10  # epochs between k-NN monitors; 0 switches them off
    monitor_images: int = 5000  # at most so many in the gallery, and in the hold-out
    # Between checkpoints: 90s, 10min, 500steps, 5epochs. What comes after the newest is lost when
    # the run is killed; a signal that can be heard saves first.
    save_every: str = "10min"
    keep_last: int = 2  # the newest checkpoints; older ones are deleted
    keep_every: str | None = None  # such as 50epochs: one is saved so often that is never deleted
    collective_timeout: int = 120  # seconds until a process that does not answer is given up
    tensorboard: bool = True  # write events, where tensorboard is installed
    capture_failures: bool = True  # write the step of a failure: docs/health.md
    capture_step: int | None = None  # write this step as well, counted from 1
    stop_on: tuple[RuleName, ...] = ()  # findings that end the run: docs/health.md
    csv: bool = False  # write metrics.csv, a line per number
    wandb: Literal["off", "offline", "online"] = "off"  # Weights & Biases; offline sends nothing

    def __post_init__(self) -> None:
        for name in ("log_every", "monitor_images", "keep_last", "collective_timeout"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be >= 1, got {getattr(self, name)}")
        if self.capture_step is not None and self.capture_step < 1:
            raise ValueError(f"capture_step: must be >= 1, got {self.capture_step}")
        if self.monitor_every < 0:
            raise ValueError(f"monitor_every: must be >= 0, got {self.monitor_every}")
        for name, value in (("save_every", self.save_every), ("keep_every", self.keep_every)):
            try:
                by_time = value is not None and read_interval(value).seconds > 0
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            if by_time and name == "keep_every":
                raise ValueError(f"keep_every: expected steps or epochs, got '{value}'")
        if self.overwrite and self.resume == "auto":
            raise ValueError(
                "resume: auto goes on with the run that is there, and overwrite=true replaces it; "
                "leave one of them out"
            )

    @property
    def trackers(self) -> TrackerChoice:
        """Who is told the numbers besides metrics.jsonl."""
        return TrackerChoice(tensorboard=self.tensorboard, csv=self.csv, wandb=self.wandb)


# Keys that may change while a run goes on: with the same images they leave its result alone.
RESUMABLE = (
    *("speed.", "run.", "data.root", "data.download", "data.on_bad_image", "data.max_bad"),
)
# Of those: nothing to change, for they act at the start.
ONLY_AT_START = ("run.directory", "run.overwrite", "run.resume", "speed.like")


# Keys that say where something lies on the machine that trains.
PLACES = (
    *("data.root", "data.ground_truth", "data.subset", "data.table", "backbone.init"),
    *("speed.store", "speed.like", "run.directory"),
)
_NO_PLACES = ("all", *PACKAGED)  # values of data.subset that are names


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """One pretraining run."""

    data: DatasetConfig  # the images
    sampler: SamplerConfig = field(default_factory=EveryImageConfig)  # which a batch shows
    views: ViewsConfig
    backbone: BackboneConfig  # the network that is trained
    method: MethodConfig  # how it is trained: the loss
    relation: RelationConfig = field(default_factory=NoRelationConfig)  # among a batch's samples
    optimizer: OptimizerConfig  # and the course of its learning rate
    epochs: int  # passes over the images
    batch_size: int  # of all devices together
    # of the batch: what BatchNorm, shuffles and context=local see; auto: as many as processes
    shards: Literal["auto"] | int = "auto"
    accumulate: int = 1  # parts of the batch that the backbone computes one after another
    precision: Literal["auto", "float32", "bf16"] = "auto"  # auto: on a CPU the faster, measured
    seed: int = 0  # of initial values, views, order, dropout
    speed: TrainingSpeedConfig = field(default_factory=TrainingSpeedConfig)
    run: RunConfig

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs: must be >= 1, got {self.epochs}")
        if self.batch_size < 2:
            raise ValueError(
                f"batch_size: must be >= 2 (BatchNorm and contrast need company), "
                f"got {self.batch_size}"
            )
        if self.accumulate < 1:
            raise ValueError(f"accumulate: must be >= 1, got {self.accumulate}")
        if self.shards != "auto" and self.shards < 1:
            raise ValueError(f"shards: must be >= 1, got {self.shards}")
        if self.seed < 0:
            raise ValueError(f"seed: must be >= 0, got {self.seed}")
        if self.speed.like is not None and "auto" not in (self.precision, self.speed.threads):
            raise ValueError(
                "speed.like: says nothing that is asked for, because precision and speed.threads "
                "are given; set one of them to auto, or leave speed.like out"
            )


def decisive_settings(config: PretrainConfig) -> dict[str, Any]:
    """Every other key, dotted, with its value as JSON has it: together they decide the result."""
    settings: dict[str, Any] = {}

    def collect(values: dict[str, Any], prefix: str) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                collect(value, f"{prefix}{name}.")
            elif not f"{prefix}{name}".startswith(RESUMABLE):
                settings[prefix + name] = value

    collect(json.loads(json.dumps(asdict(config))), "")
    return settings


def config_to_share(config: PretrainConfig) -> str:
    """The run as YAML for files that are passed on: `???` for every place on this machine."""
    plain = without_places(yaml.safe_load(to_yaml(config)), PLACES, _NO_PLACES)
    return yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=10_000)
