"""The rows, in the order of the table."""

from tests.torture import (
    checkpoint_entries,
    cost_of_watching,
    drilled_signals,
    extreme_values,
    failing_calls,
    fuzzed_configs,
    hostile_files,
    kills,
    lost_ranks,
    mutated_files,
    mutated_images,
    walks,
)

ROWS = (
    kills.ROW,
    checkpoint_entries.ROW,
    walks.ROW,
    failing_calls.ROW,
    drilled_signals.ROW,
    lost_ranks.KILLED,
    lost_ranks.STOPPED,
    mutated_files.CHECKPOINTS,
    mutated_files.BACKBONES,
    mutated_files.STORES,
    mutated_images.ROW,
    fuzzed_configs.ROW,
    extreme_values.ROW,
    hostile_files.ROW,
    cost_of_watching.ROW,
)
