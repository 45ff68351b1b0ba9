"""The loop: one training step on one screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from linear_eval.system.distributed import barrier, is_main, rank, world_size
from linear_eval.system.errors import RunFailed, StoppedBySignal
from ssl_bf.build import Run, Trained
from ssl_bf.captured.cuda_graph import CapturedStep, Update
from ssl_bf.captured.recorder import Recorder
from ssl_bf.captured.run_health import RunHealth
from ssl_bf.choices.allocator import keep_freed_memory
from ssl_bf.choices.pace import Pace, adapt_threads
from ssl_bf.config import decisive_settings
from ssl_bf.keyed_random import StepContext, key
from ssl_bf.layers.all_reduce import all_reduce_sum
from ssl_bf.methods.batch import Batch
from ssl_bf.methods.measurements import gradient_norm, gradient_norms
from ssl_bf.monitor import Monitor
from ssl_bf.optimizers import set_learning_rates
from ssl_bf.pixels.identity import image_identity
from ssl_bf.ranks.heartbeats import Heartbeats, naming_the_lost
from ssl_bf.ranks.rank_log import log_to_file
from ssl_bf.run.directory import BACKBONE_FILE
from ssl_bf.run.environment import git_commit
from ssl_bf.run.hand_over import backbone_info
from ssl_bf.run.log import RunLog
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
        NonFiniteLoss, UnhealthyRun: it went wrong; the step is captured where that can be.
        ProcessLost: another process of the run is gone.
    """
    if run.device.type == "cpu":
        keep_freed_memory()
    log = RunLog(
        directory,
        plan=run.plan,
        batch_size=run.config.batch_size,
        resume_step=first_step or None,
        trackers=run.config.run.trackers,
        precision=run.choices.precision,
    )
    update, total_steps = update_of(run), run.plan.total_steps
    recorder = Recorder(run, directory, log, lambda step, batch: update(batch, *prepare(run, step)))
    saver = Saver(directory, run.config.run, run.plan)
    left = partial(what_is_left, directory)
    with _leaving_together(), ExitStack() as stack:
        signals = stack.enter_context(StopSignals(left))
        for each in (log, run.loader, saver, naming_the_lost(heartbeats, left), recorder):
            stack.enter_context(each)
        for line in run.notes:
            log.note(line)
        run.model.train()
        after_step = _pace(run, log)
        health = RunHealth(run, directory, log, saver)
        recorder.remember(first_step)
        for step in range(first_step, total_steps):
            started = time.monotonic()
            batch, done = run.loader.batch(step), step + 1
            recorder.before(done)
            loss = update(batch, *prepare(run, step))
            log.watch(done, loss)
            after_step(time.monotonic() - started)
            if done == 1:
                _begin(log, begin)
            recorder.after(step, batch, loss)
            if done == first_step + 1:
                log_to_file(directory)
            # the first step as well: whoever waits sees that it runs, and how fast
            if done % run.config.run.log_every == 0 or done in (1, total_steps):
                values = _values(run, step, loss)
                log.write(done, values)
                recorder.want_after(done, health.look(done, values))
                recorder.remember(done)
            if run.monitor and _ends_epochs(run, done, run.config.run.monitor_every):
                _judge(run.monitor, run.method.kept_backbone, done, log)
            asked = signals.agreed(save_is_due=is_main() and saver.is_due(done))
            if asked.stop or (asked.save and _may_save(run, step, loss, health)):
                _save(run, saver, done, log)
            if asked.stop and done < total_steps:
                saver.wait()
                raise StoppedBySignal(
                    f"stopped at step {done} of {total_steps} and saved; "
                    f"go on with: {start_command()} resume {directory}"
                )
        saver.wait()
        _hand_over(run, directory, log)


@contextmanager
def _leaving_together() -> Iterator[None]:
    """Who left first would have torchrun end the others before they saved."""
    try:
        yield
    except (RunFailed, StoppedBySignal):  # raised by all processes at once
        barrier()
        raise


def _judge(monitor: Monitor, backbone: nn.Module, done: int, log: RunLog) -> None:
    log.check_losses()  # or the monitor would meet a broken network; `write` finds all looked at
    if is_main():
        log.write(done, {"monitor/knn_top1": monitor(backbone)})
        for line in monitor.new_notes():
            log.note(line)


def _hand_over(run: Run, directory: Path, log: RunLog) -> None:
    if is_main():
        step, precision = run.plan.total_steps, run.choices.precision
        info = backbone_info(run.config, commit=git_commit(), step=step, precision=precision)
        for what, path in run.method.hand_over(directory / BACKBONE_FILE, info).items():
            log.note(f"{what}: {path}")
    barrier()


def _begin(log: RunLog, begin: Callable[[], None]) -> None:
    """Write nothing before the first step has succeeded on every process."""
    log.check_losses()
    barrier()
    if is_main():
        begin()
    log.open()
    barrier()


def make_step(trained: Trained, step: int, batch: Batch) -> Tensor:
    """Step number `step`, counted from 0; returns the loss."""
    sharded = trained.sharded
    update = partial(_update, trained) if sharded is None else sharded.update
    return update(batch, *prepare(trained, step))


def prepare(run: Trained, step: int) -> tuple[StepContext, Elapsed]:
    """Make everything in a step a function of (seed, step, shard): what `_update` does not see.

    Returns the step's context, and how far the run is after it, when the slow copies move.
    """
    seed, shard = run.config.seed, rank()
    set_learning_rates(run.optimizer, run.plan, step)
    torch.manual_seed(key(seed, "dropout", step, shard))
    elapsed = step / run.plan.total_steps
    return StepContext(seed, step, shard, elapsed), run.plan.progress(step + 1)


def update_of(run: Run) -> Update:
    """What makes a step of the run; perhaps shard by shard, or on a GPU as one graph."""
    update = partial(_update, run)
    if run.sharded is not None:
        return run.sharded.update
    return CapturedStep(run, update) if run.config.speed.cuda_graph else update


def _update(run: Trained, batch: Batch, context: StepContext, progress: Elapsed) -> Tensor:
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
    """Whether `every` epochs (0: never) or the whole run end after so many steps."""
    is_last = done == run.plan.total_steps
    return every > 0 and (is_last or done % (every * run.plan.steps_per_epoch) == 0)


def _may_save(run: Run, step: int, loss: Tensor, health: RunHealth) -> bool:
    """False while a rule that ends the run suspects something; every process asks."""
    done = step + 1
    if health.needs_look(done):
        health.look(done, _values(run, step, loss))
    return health.may_save or done == run.plan.total_steps


def _values(run: Run, step: int, loss: Tensor) -> dict[str, float | Tensor]:
    # Of the global batch; a process by itself knows its share only.
    mean = all_reduce_sum(loss.detach()) / world_size() if run.sharded is None else loss
    return {
        "loss": mean,
        "learning_rate": run.plan.learning_rate(step),
        **run.method.scheduled_values(run.plan.progress(step)),
        **(run.sharded or run.method).measurements(),
        **gradient_norm(run.method),
        **gradient_norms(run.method.backbone),  # of this step: the next one clears them first
    }


def _save(run: Run, saver: Saver, done: int, log: RunLog) -> None:
    log.check_losses()  # on every process: never a checkpoint of a broken run
    if not is_main():
        return
    state = {
        "world_size": world_size(),
        "shards": run.num_shards,
        **IMAGE_ORDER,
        **image_identity(run.images),
        "settings": decisive_settings(run.config),
        "precision": run.choices.precision,
        "threads": torch.get_num_threads(),  # changed by now, if it is adaptive
    }
    saver.save(done, training_tensors(run.method, run.optimizer), state)
