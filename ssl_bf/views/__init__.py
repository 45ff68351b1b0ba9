"""How random views of images are made, a batch at a time."""
