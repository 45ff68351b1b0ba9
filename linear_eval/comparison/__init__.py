"""Intervals, answers per test image, and the comparison of two results."""
