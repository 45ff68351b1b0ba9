"""Where the numbers of a run go besides metrics.jsonl: one file each, behind one interface."""
