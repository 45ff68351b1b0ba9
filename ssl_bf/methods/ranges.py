"""Ranges of the keys that methods share."""

from typing import Any

from ssl_bf.layers.batch_norm import num_groups

AT_LEAST_ONE = (
    "projection_dim",
    "hidden_dim",
    "hidden_layers",
    "predictor_hidden_dim",
    "queue_size",
)


def check_ranges(config: Any) -> None:
    """Refuse numbers out of range in a method's config; None means a default and passes.

    Raises:
        ValueError: the message begins with the key.
    """
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
