"""Exact and approximate neighbours; scores of ranked lists; all of faiss."""
