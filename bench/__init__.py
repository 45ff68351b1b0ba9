"""Side-by-side benchmarks against peers: each prints ratios and writes JSON lines."""
