"""The logical shards that a batch is cut into, and the processes that hold them."""
