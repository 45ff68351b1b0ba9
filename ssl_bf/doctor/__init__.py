"""What would go wrong or be slow in a run, found before hours are spent."""
