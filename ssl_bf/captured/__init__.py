"""One training step on the disk, so that it can be made again: state, batch and outcome."""
