"""`ssl-bf worth`: whether pretraining pays on a folder of one's own images."""
