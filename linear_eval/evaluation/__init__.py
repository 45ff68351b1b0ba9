"""`linear-eval run`: contestants, protocols, splits, the flow, the tables."""
