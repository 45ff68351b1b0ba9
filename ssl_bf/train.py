"""The loop: one training step on one screen."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from linear_eval.system.distributed import barrier, is_main, rank, world_size
from linear_eval.system.errors import StoppedBySignal
from ssl_bf.build import Run
from ssl_bf.captured_step import CapturedStep, Update
from ssl_bf.config import decisive_settings
from ssl_bf.keyed_random import StepContext, key
from ssl_bf.layers.all_reduce import all_reduce_sum
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.measurements import gradient_norms
from ssl_bf.monitor import Monitor
from ssl_bf.optimizers import set_learning_rates
from ssl_bf.pixels.identity import image_identity
from ssl_bf.ranks.heartbeats import Heartbeats, naming_the_lost
from ssl_bf.ranks.rank_log import log_to_file
from ssl_bf.run.allocator import keep_freed_memory
from ssl_bf.run.directory import BACKBONE_FILE
from ssl_bf.run.environment import git_commit
from ssl_bf.run.hand_over import backbone_info
from ssl_bf.run.log import RunLog
from ssl_bf.run.pace import Pace, adapt_threads
from ssl_bf.run.saved_config import IMAGE_ORDER
from ssl_bf.run.signals import StopSignals
from ssl_bf.run.training_state import training_tensors
from ssl_bf.saving.going_on import start_command, what_is_left
from ssl_bf.saving.saver import Saver
from ssl_bf.schedules import Elapsed


def train(
    run: Run,
    directory: Path,
    *,
    first_step: int = 0,
    begin: Callable[[], None] = lambda: None,
    heartbeats: Heartbeats | None = None,
) -> None:
    """Train from `first_step` to the end and write the stripped backbone.

    Args:
        run: from `build_run`, its state restored when `first_step` > 0.
        directory: the run directory; exists.
        first_step: updates already done.
        begin: readies the directory for a new run, once its first step was made and is sound.
        heartbeats: of several processes.

    Raises:
        StoppedBySignal: a signal asked for it; a checkpoint was saved first.
        NonFiniteLoss: the loss is NaN or infinite; names the step.
        ProcessLost: another process of the run is gone.
    """
    plan = run.plan
    if run.device.type == "cpu":
        keep_freed_memory()
    log = RunLog(
        directory,
        plan=plan,
        batch_size=run.config.batch_size,
        resume_step=first_step or None,
        trackers=run.config.run.trackers,
        precision=run.choices.precision,
    )
    saver = Saver(directory, run.config.run, plan)
    left = partial(what_is_left, directory)
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals(left))
        for each in (log, run.loader, saver):
            stack.enter_context(each)
        stack.enter_context(naming_the_lost(heartbeats, left))
        for line in run.notes:
            log.note(line)
        run.model.train()
        update = _update_of(run)
        after_step = _pace(run, log)
        for step in range(first_step, plan.total_steps):
            started = time.monotonic()
            loss = update(run.loader.batch(step), *prepare(run, step))
            done = step + 1
            log.watch(done, loss)
            after_step(time.monotonic() - started)
            if done == 1:
                _begin(log, begin)
            if done == first_step + 1:
                log_to_file(directory)
            # the first step as well: whoever waits sees that it runs, and how fast
            if done % run.config.run.log_every == 0 or done in (1, plan.total_steps):
                log.write(done, _values(run, step, loss))
            if run.monitor and _ends_epochs(run, done, run.config.run.monitor_every):
                _judge(run.monitor, run.method.kept_backbone, done, log)
            asked = signals.agreed(save_is_due=is_main() and saver.is_due(done))
            if asked.stop or asked.save:
                _save(run, saver, done, log)
            if asked.stop and done < plan.total_steps:
                saver.wait()
                barrier()  # who left first would have torchrun end the others before they saved
                raise StoppedBySignal(
                    f"stopped at step {done} of {plan.total_steps} and saved; "
                    f"go on with: {start_command()} resume {directory}"
                )
        saver.wait()
        _hand_over(run, directory, log)


def _judge(monitor: Monitor, backbone: nn.Module, done: int, log: RunLog) -> None:
    log.check_losses()  # or the monitor would meet the broken network first
    if is_main():
        log.write(done, {"monitor/knn_top1": monitor(backbone)})
        for line in monitor.new_notes():
            log.note(line)


def _hand_over(run: Run, directory: Path, log: RunLog) -> None:
    if is_main():
        _write_files(run, directory, log)
    barrier()


def _write_files(run: Run, directory: Path, log: RunLog) -> None:
    info = backbone_info(
        run.config,
        commit=git_commit(),
        step=run.plan.total_steps,
        precision=run.choices.precision,
    )
    for what, path in run.method.hand_over(directory / BACKBONE_FILE, info).items():
        log.note(f"{what}: {path}")


def _begin(log: RunLog, begin: Callable[[], None]) -> None:
    """Write nothing before the first step has succeeded on every process."""
    log.check_losses()
    barrier()
    if is_main():
        begin()
    log.open()
    barrier()


def seconds_per_step(run: Run, *, warm_up: int = 3, steps: int = 12) -> float:
    """Median seconds of a few steps from the beginning of a run, which is spent by that.

    Args:
        run: from `build_run`; nothing of it is written.
        warm_up: steps that are not counted.
        steps: that are; fewer where the run has fewer.
    """
    run.model.train()
    update, seconds = _update_of(run), []
    with run.loader:
        for step in range(min(warm_up + steps, run.plan.total_steps)):
            started = time.monotonic()
            loss = update(run.loader.batch(step), *prepare(run, step))
            loss.item()  # waits for the device
            seconds.append(time.monotonic() - started)
    return statistics.median(seconds[warm_up:] or seconds)


def prepare(run: Run, step: int) -> tuple[StepContext, Elapsed]:
    """Make everything in a step a function of (seed, step, shard): what `_update` does not see.

    Returns:
        The context of the step, and how far the run is after it: the slow copies follow the
        update, and the next step's keys use them.
    """
    seed, shard = run.config.seed, rank()
    set_learning_rates(run.optimizer, run.plan, step)
    torch.manual_seed(key(seed, "dropout", step, shard))
    elapsed = step / run.plan.total_steps
    return StepContext(seed, step, shard, elapsed), run.plan.progress(step + 1)


def _update_of(run: Run) -> Update:
    update = partial(_update, run)
    return CapturedStep(run, update) if run.config.speed.cuda_graph else update


def _update(run: Run, batch: Batch, context: StepContext, progress: Elapsed) -> Tensor:
    """Change everything that is trained; for a CUDA graph, all numbers come as tensors."""
    run.optimizer.zero_grad()
    in_bf16 = run.choices.precision == "bf16"
    with torch.autocast(run.device.type, torch.bfloat16, enabled=in_bf16):
        loss: Tensor = run.model(batch, context)
    loss.backward()
    run.optimizer.step()
    run.method.after_step(progress)
    return loss


def _pace(run: Run, log: RunLog) -> Callable[[float], None]:
    """What takes the duration of each step; on a GPU, where steps only begin here, a no-op."""
    if run.device.type != "cpu":
        return lambda _: None
    adapts = run.config.speed.threads == "adaptive"
    adapt = partial(adapt_threads, run.config, run.choices.precision) if adapts else None
    return Pace(log.note, adapt).after


def _ends_epochs(run: Run, done: int, every: int) -> bool:
    """Whether `every` epochs (0: never) or the whole run end with this many finished steps."""
    is_last = done == run.plan.total_steps
    return every > 0 and (is_last or done % (every * run.plan.steps_per_epoch) == 0)


def _values(run: Run, step: int, loss: Tensor) -> dict[str, float | Tensor]:
    return {
        # Of the global batch; a process by itself knows its share only.
        "loss": all_reduce_sum(loss.detach()) / world_size(),
        "learning_rate": run.plan.learning_rate(step),
        **run.method.scheduled_values(run.plan.progress(step)),
        **run.method.measurements(),
        **gradient_norms(run.method.backbone),  # of this step: the next one clears them first
    }


def _save(run: Run, saver: Saver, done: int, log: RunLog) -> None:
    log.check_losses()  # on every process: never a checkpoint of a broken run
    if not is_main():
        return
    state = {
        "world_size": world_size(),
        "seed": run.config.seed,
        **IMAGE_ORDER,
        **image_identity(run.images),
        "settings": decisive_settings(run.config),
        "precision": run.choices.precision,
        "threads": torch.get_num_threads(),  # changed by now, if it is adaptive
    }
    saver.save(done, training_tensors(run.method, run.optimizer), state)
