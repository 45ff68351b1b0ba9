"""YAML -> frozen dataclasses; every wrong key is an error with a suggestion."""
