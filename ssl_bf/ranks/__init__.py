"""Several processes of one run: who is there, who is lost, and where they write."""
