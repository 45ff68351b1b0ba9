"""What is fitted to features or images: batched SGD and L-BFGS problems, the whole network."""
