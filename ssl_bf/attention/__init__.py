"""Who attends to whom in a run: one batch looked at, its numbers, its picture."""
