"""One training step held fast: as a CUDA graph, or on the disk, so that it can be made again."""
