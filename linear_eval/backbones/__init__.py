"""Architectures, and the file that hands a backbone over."""
