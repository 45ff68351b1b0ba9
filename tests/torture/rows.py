"""The rows, in the order of the table."""

from tests.torture import (
    checkpoint_entries,
    fuzzed_configs,
    hostile_files,
    kills,
    mutated_files,
    mutated_images,
)

ROWS = (
    kills.ROW,
    checkpoint_entries.ROW,
    mutated_files.CHECKPOINTS,
    mutated_files.BACKBONES,
    mutated_files.STORES,
    mutated_images.ROW,
    fuzzed_configs.ROW,
    hostile_files.ROW,
)
