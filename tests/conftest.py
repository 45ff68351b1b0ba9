"""One thread per process: the tensors are tiny, and threads that wait for a busy core cost most."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also of the processes that tests start

import torch

torch.set_num_threads(1)
