"""Features on disk: one table's folder, its format, appending to it, one writer at a time."""
