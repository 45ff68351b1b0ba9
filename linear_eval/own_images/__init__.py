"""One backbone over one's own images: extract, quality, index, query."""
