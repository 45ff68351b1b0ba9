"""What a Python program calls: the same training as the commands, on its own data and modules."""

from ssl_bf.from_python.training import FinishedRun, pretrain, resume
from ssl_bf.relations.own_loop import BatchFormer

__all__ = ["BatchFormer", "FinishedRun", "pretrain", "resume"]
