"""Frozen backbone -> table of features, kept on disk by content."""
