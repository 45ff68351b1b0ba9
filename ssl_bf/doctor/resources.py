"""Memory, disk and time that a run takes, against what is there: pure functions of numbers."""

from __future__ import annotations

from collections.abc import Mapping

from ssl_bf.doctor.finding import Finding

GIB = 2**30
TIGHT = 0.8  # share of what is there
LONG = 48 * 3600.0  # seconds
WORTH = 1.15  # times as fast is worth a word


def memory(needed: int, there: int, where: str) -> Finding:
    """Bytes of weights, gradients, optimizer, queue and batch against those of the machine."""
    says = f"at least {needed / GIB:.2f} GiB of {there / GIB:.1f} GiB ({where})"
    if needed > there:
        return Finding(
            "wrong", "memory", f"{says}; lower batch_size, method.queue_size or a hidden width"
        )
    if needed > TIGHT * there:
        return Finding("look", "memory", f"{says}, and activations come on top; lower batch_size")
    return Finding("fine", "memory", says)


def disk(state: int, kept: int, free: int) -> Finding:
    """Bytes of the checkpoints that lie there at a time against the free ones."""
    needed = state * (kept + 1)
    says = f"{needed / GIB:.2f} GiB for {kept} checkpoints and one being written, of "
    says += f"{free / GIB:.1f} GiB free"
    if needed > free:
        return Finding("wrong", "disk", f"{says}; make room, or set another run.directory")
    return Finding("fine", "disk", says)


def time(seconds_per_step: float, total_steps: int) -> Finding:
    """How long the run takes."""
    total = seconds_per_step * total_steps
    text = f"{total / 3600:.1f} hours" if total >= 3600 else f"{total / 60:.1f} minutes"
    says = f"about {text}: {total_steps} steps of {seconds_per_step:.3g} s"
    if total > LONG:
        return Finding("look", "time", f"{says}; lower epochs, or begin from backbone.init=FILE")
    return Finding("fine", "time", says)


def limit(input_seconds: float, step_seconds: float, *, from_files: bool) -> Finding:
    """Whether making batches or computing takes longer."""
    share = input_seconds / max(input_seconds + step_seconds, 1e-9)
    says = f"batches take {100 * share:.0f} % of a step"
    if share <= 0.5:
        return Finding("fine", "input", f"{says}, computing limits")
    what = "set speed.store=FOLDER" if from_files else "use a faster views.engine or more threads"
    return Finding("look", "input", f"{says}, input limits; {what}")


def products(milliseconds: Mapping[str, float], precision: str) -> Finding:
    """What a processor multiplies fastest, and whether the run uses it."""
    listed = ", ".join(f"{name} {value:.2f} ms" for name, value in milliseconds.items())
    trainable = {k: v for k, v in milliseconds.items() if k != "int8"}
    best = min(trainable, key=lambda name: trainable[name])
    says = f"{listed} (a product of 512 x 512); {best} trains fastest"
    if precision in ("auto", best) or trainable[precision] <= WORTH * trainable[best]:
        return Finding("fine", "precision", says)
    return Finding("look", "precision", f"{says}; set precision=auto in place of {precision}")
