"""Proof by trial: a killed run goes on as if it never was, a captured step repeats itself."""
