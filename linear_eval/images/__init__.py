"""A split as batches for a frozen backbone; augmented passes."""
