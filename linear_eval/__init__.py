"""What a backbone is and what it is worth: data sets, features, k-NN, linear probe, retrieval."""

__version__ = "0.1.0"
