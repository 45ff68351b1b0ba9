"""Searchable indexes of images: made, asked, and shown."""
