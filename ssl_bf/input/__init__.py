"""Everything between a split of images and the two views of a training step."""
