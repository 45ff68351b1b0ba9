"""Paired pretraining runs, judged together: which arm is better, and how sure that is."""
