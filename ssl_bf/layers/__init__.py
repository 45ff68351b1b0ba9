"""Modules that networks are built of, and what they compute."""
