"""What settings mean together, of numbers alone: pure functions.

Learning rates that are outside of what is published with the optimizer are named, not refused.
"""

from __future__ import annotations

from ssl_bf.doctor.finding import Finding

# Per 256 images; the recipes of MoCo-v2, SimSiam (sgd), MoCo-v3 (lars, adamw), and a wide margin.
USUAL = {"sgd": (0.003, 1.0), "lars": (0.03, 3.0), "adamw": (1e-5, 0.03)}
FEW = 16  # images per BatchNorm: below, its statistics are noise
LOST = 0.1  # share of the images that an epoch leaves out


def learning_rate(name: str, base: float, batch_size: int) -> Finding:
    """The peak that follows from the base rate by the linear rule."""
    peak = base * batch_size / 256
    says = f"peak {peak:.4g} = {base:g} x {batch_size} / 256 (linear rule), {name}"
    low, high = USUAL[name]
    if base > high:
        return Finding("look", "learning rate", f"{says}; unusually high, at most {high:g} is")
    if base < low:
        return Finding("look", "learning rate", f"{says}; unusually low, at least {low:g} is")
    return Finding("fine", "learning rate", says)


def batch_norm(batch_size: int, devices: int, mode: str) -> Finding:
    """How many images each BatchNorm sees."""
    local = batch_size // devices
    count = {"synchronised": batch_size}.get(mode, local)
    if mode.startswith("groups:"):
        count = local // int(mode.removeprefix("groups:"))
    says = f"{count} images at a time ({batch_size} on {devices} device(s), {mode})"
    if count >= FEW:
        return Finding("fine", "BatchNorm", says)
    return Finding(
        "look", "BatchNorm", f"{says}, fewer than {FEW}; raise batch_size or synchronise it"
    )


def queue(queue_size: int, images: int, masks_own: bool) -> Finding:
    """How much of the data set a queue holds."""
    share = queue_size / images
    says = f"{queue_size} keys of {images} training images ({share:.2g} epochs)"
    if share <= 0.5:
        return Finding("fine", "queue", says)
    why = "keys are old" if masks_own else "keys of the query's own image are negatives"
    return Finding("look", "queue", f"{says}; {why}, lower method.queue_size to {images // 4}")


def dropped(images: int, batch_size: int) -> Finding:
    """What the last partial batch leaves out in an epoch."""
    steps, rest = divmod(images, batch_size)
    says = f"{steps} steps per epoch, {rest} of {images} images left out in each"
    if rest <= LOST * images:
        return Finding("fine", "batches", says)
    return Finding("look", "batches", f"{says}; choose a batch_size that divides them better")


def warm_up(warmup_epochs: float, epochs: int) -> Finding:
    """How much of the run the learning rate rises."""
    says = f"{warmup_epochs:g} of {epochs} epochs"
    if warmup_epochs <= 0.3 * epochs:
        return Finding("fine", "warm-up", says)
    return Finding("look", "warm-up", f"{says}; lower optimizer.warmup_epochs or raise epochs")


def suspect(rule: str, cause: str) -> Finding:
    """A setting that the method itself suspects of a finding of health."""
    return Finding("look", "method", f"may cause {rule}: {cause}")


def slow_copy(momentum: float, total_steps: int) -> Finding:
    """How long the slow copy remembers."""
    says = f"momentum {momentum:g}, remembers {1 / max(1 - momentum, 1e-9):.0f} steps"
    if momentum == 1:
        return Finding("wrong", "slow copy", f"{says}: never moves; set method.momentum=0.99")
    if 1 / (1 - momentum) > total_steps / 4:
        return Finding(
            "look", "slow copy", f"{says} of {total_steps}; lower method.momentum for a short run"
        )
    return Finding("fine", "slow copy", says)
