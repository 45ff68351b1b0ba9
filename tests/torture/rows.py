"""The rows, in the order of the table."""

from tests.torture import fuzzed_configs, hostile_files, mutated_files, mutated_images

ROWS = (
    mutated_files.CHECKPOINTS,
    mutated_files.BACKBONES,
    mutated_files.STORES,
    mutated_images.ROW,
    fuzzed_configs.ROW,
    hostile_files.ROW,
)
