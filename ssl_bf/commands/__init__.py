"""One file per command of `ssl-bf`: its arguments, its help, and the work."""
