"""A run on the disk: its directory, log, signals, environment, checkpoints, training state."""
