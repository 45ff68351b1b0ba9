"""Proof by trial that a killed run goes on as if it never was."""
