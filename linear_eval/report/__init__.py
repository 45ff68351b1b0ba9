"""One page that shows what runs and evaluations left, and the same as tables and curves."""
