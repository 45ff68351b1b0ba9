"""Ranges of the keys that methods share, and what goes wrong inside of them."""

from typing import Any

from ssl_bf.layers.batch_norm import num_groups

AT_LEAST_ONE = (
    "projection_dim",
    "hidden_dim",
    "hidden_layers",
    "predictor_hidden_dim",
    "queue_size",
)

LAGGING = 0.5  # momentum below which keys are hardly older than queries
WARM = 2.0  # temperature above which the softmax is flat: cosines lie in [-1, 1]


def check_ranges(config: Any, *, may_freeze: bool = False) -> None:
    """Refuse numbers out of range in a method's config; None means a default and passes.

    Args:
        config: of a method.
        may_freeze: whether `batch_norm` may also be `frozen`.

    Raises:
        ValueError: the message begins with the key.
    """
    if not (may_freeze and config.batch_norm == "frozen"):
        num_groups(config.batch_norm)
    for name in AT_LEAST_ONE:
        value = getattr(config, name, None)
        if value is not None and value < 1:
            raise ValueError(f"{name}: must be >= 1, got {value}")
    temperature = getattr(config, "temperature", 1.0)
    if temperature <= 0:
        raise ValueError(f"temperature: must be > 0, got {temperature}")
    momentum = getattr(config, "momentum", 1.0)
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum: must lie in [0, 1], got {momentum}")


def suspects_of_keys(momentum: float, temperature: float) -> dict[str, str]:
    """See `Method.suspects`, for the methods whose keys come from a slow copy."""
    if momentum < LAGGING:
        return {
            "collapse": f"the slow copy does not lag (method.momentum={momentum:g}); raise it to "
            "0.99"
        }
    if momentum == 1:
        return {"no_contrast": "the slow copy never moves (method.momentum=1); lower it to 0.99"}
    if temperature > WARM:
        return {
            "no_contrast": f"method.temperature={temperature:g} makes all candidates alike; "
            "lower it to 0.2"
        }
    return {}
