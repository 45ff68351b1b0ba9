"""When a run is saved, and how it goes on meanwhile."""
