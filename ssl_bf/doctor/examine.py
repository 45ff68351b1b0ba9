"""Looks at a run before it is started: settings, images, machine, and a few measured steps."""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from linear_eval.datasets.dataset import ImageSplit
from linear_eval.datasets.splits import open_splits
from linear_eval.datasets.tiny_imagenet import TinyImagenetConfig
from linear_eval.system.device import choose_device
from linear_eval.system.errors import InputError
from ssl_bf.build import Run, build_run, split_data
from ssl_bf.config import PretrainConfig
from ssl_bf.doctor import images, machine, resources, settings
from ssl_bf.doctor.finding import Finding
from ssl_bf.health.memory import memory_there
from ssl_bf.methods.classes import Classes
from ssl_bf.pixels.source import open_source
from ssl_bf.pixels.store import DecodedImages
from ssl_bf.ranks.shards_of_run import shards_of
from ssl_bf.run.build_method import bytes_needed, method_without_memory
from ssl_bf.run.training_state import training_tensors
from ssl_bf.train import make_step

STEPS = 5  # measured, after one that is not


def examine(config: PretrainConfig) -> Iterator[Finding]:
    """Findings one after another; what is wrong first stops what needs it to be right."""
    device = choose_device(config.speed.device)
    version = machine.version_finding()
    yield version
    if version.level == "wrong":
        return
    yield resources.products(machine.milliseconds_of_products(device), config.precision)
    yield from _of_settings(config)
    try:
        train = yield from _of_images(config)
        yield from _of_sizes(config, train, device)
        yield from _of_steps(config)
    except InputError as error:
        yield Finding("wrong", "run", str(error))


def _of_settings(config: PretrainConfig) -> Iterator[Finding]:
    optimizer, method = config.optimizer, config.method
    yield settings.learning_rate(optimizer.name, optimizer.base_learning_rate, config.batch_size)
    yield settings.warm_up(optimizer.warmup_epochs, config.epochs)
    yield settings.batch_norm(config.batch_size, shards_of(config).count, method.batch_norm)


def _of_images(config: PretrainConfig) -> Generator[Finding, None, ImageSplit]:
    """Returns the images to train on, without the hold-out."""
    data = config.data
    if isinstance(data, TinyImagenetConfig):
        yield images.tiny_imagenet_layout(Path(data.root).expanduser())
    source = open_source(data)
    train = source.split
    yield images.fingerprint(data.name, train)
    yield images.unreadable(train, data.max_bad, skips=data.on_bad_image == "skip")
    try:
        yield images.duplicates(train, open_splits(data).test)
    except InputError as error:
        yield Finding("look", "test split", f"{error}; without one there is nothing to judge on")
    return split_data(config, source)[0]


def _of_sizes(config: PretrainConfig, train: ImageSplit, device: torch.device) -> Iterator[Finding]:
    count, classes = len(train), Classes.of(train.class_names, train.labels)
    yield settings.dropped(count, config.batch_size)
    method = method_without_memory(config, classes)
    for rule, cause in method.suspects.items():
        yield settings.suspect(rule, cause)
    if method.queue_size:
        masks_own = "own_image_negatives" not in method.suspects
        yield settings.queue(method.queue_size, count, masks_own)
    if method.momentum is not None:
        steps = config.epochs * (count // config.batch_size)
        yield settings.slow_copy(method.momentum.start, steps)
    yield resources.memory(bytes_needed(config, classes), memory_there(device), device.type)


def _of_steps(config: PretrainConfig) -> Iterator[Finding]:
    short = replace(config, run=replace(config.run, monitor_every=0))
    run = build_run(short)
    with run.loader:
        run.model.train()
        input_seconds, step_seconds = _measured(run)
    kept = config.run.keep_last
    tensors = training_tensors(run.method, run.optimizer).values()
    state = sum(value.numel() * value.element_size() for value in tensors)
    yield resources.disk(state, kept, _free(Path(config.run.directory)))
    yield resources.time(input_seconds + step_seconds, run.plan.total_steps)
    from_files = isinstance(run.loader.images, DecodedImages)
    yield resources.limit(input_seconds, step_seconds, from_files=from_files)


def _measured(run: Run) -> tuple[float, float]:
    """Median seconds of a batch, and of what is done with it."""
    batches, steps = [], []
    for step in range(min(STEPS + 1, run.plan.total_steps)):
        start = time.perf_counter()
        batch = run.loader.batch(step)
        _wait(run.device)
        middle = time.perf_counter()
        make_step(run, step, batch)
        _wait(run.device)
        batches.append(middle - start)
        steps.append(time.perf_counter() - middle)
    middle_of = len(batches[1:] or batches) // 2
    return (
        sorted(batches[1:] or batches)[middle_of],
        sorted(steps[1:] or steps)[middle_of],
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free(directory: Path) -> int:
    place = directory.expanduser().absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
