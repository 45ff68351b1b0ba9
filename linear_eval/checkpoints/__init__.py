"""Other people's checkpoints read without running code, and files for other tools."""
