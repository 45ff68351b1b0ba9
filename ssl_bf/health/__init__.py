"""Whether a run still learns: rules over the numbers of its log lines, in words."""
