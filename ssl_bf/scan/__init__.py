"""What a folder of images holds, and a clean, divided, small copy of it."""
