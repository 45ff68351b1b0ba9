"""What a Python program calls: the same work as the commands, on what the program has at hand."""

from linear_eval.from_python.backbone import Backbone, load
from linear_eval.from_python.evaluating import evaluate
from linear_eval.from_python.features import Features
from linear_eval.from_python.image_index import Index
from linear_eval.from_python.judging import knn, quality, retrieval

__all__ = ["Backbone", "Features", "Index", "evaluate", "knn", "load", "quality", "retrieval"]
