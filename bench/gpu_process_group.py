"""One process of torchrun on a GPU: collectives over NCCL, and steps inside DDP.

`python -m torch.distributed.run --standalone --nproc-per-node 1 -m bench.gpu_process_group DEVICE
FILE`: part of `bench.check_gpu`. Runs of one process join no group by themselves, so it does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from bench.gpu_training import METHODS, TOLERANCES, WITH, settings
from bench.parts import Finding
from linear_eval.strict_config.reader import load_config
from ssl_bf.build import Run, build_run
from ssl_bf.config import PretrainConfig
from ssl_bf.run.deterministic import deterministic_algorithms
from ssl_bf.train import _update, prepare

STEPS = 5


def under_torchrun(options: Namespace) -> Finding:
    """Start the process and hand back what it found."""
    with TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", "1", "-m", "bench.gpu_process_group"]
        subprocess.run([*command, options.device, str(answer)], check=True)
        return Finding(**json.loads(answer.read_text(encoding="utf-8")))


def in_the_group(device: str, backend: str) -> Finding:
    """Steps without a group, then in the group that the environment describes."""
    options = Namespace(device=device, tiny=True)
    with deterministic_algorithms():
        alone = few_losses(own_run(options))
        dist.init_process_group(backend)
        try:
            wrong = wrong_collectives(device)
            run = own_run(options)
            # as in ssl_bf.build, which leaves a single process without
            devices = [run.device] if backend == "nccl" else None
            model = DistributedDataParallel(run.method, devices, broadcast_buffers=False)
            grouped = few_losses(replace(run, model=model))
        finally:
            dist.destroy_process_group()
    apart = max(abs(a - b) for a, b in zip(alone, grouped, strict=True))
    if not apart <= TOLERANCES[0][1]:
        wrong.append(f"losses differ by {apart:.1e}")
    return Finding({"backend": backend, "losses apart": apart}, "; ".join(wrong))


def own_run(options: Namespace) -> Run:
    """A few steps of MoCo-v2 with BatchFormer."""
    given = settings(options, *METHODS["moco_v2"], *WITH, directory=Path("unused"))
    config = load_config(PretrainConfig, "quickstart", given, packaged="pretrain").value
    run = build_run(config)
    run.model.train()
    return run


def few_losses(run: Run) -> list[float]:
    """Of the first steps."""
    with run.loader:
        return [
            float(_update(run, run.loader.batch(step), *prepare(run, step)))
            for step in range(STEPS)
        ]


def wrong_collectives(device: str) -> list[str]:
    """Of one process, each gives back what it is given."""
    given = torch.arange(6.0, device=device).view(2, 3)
    summed, sent = given.clone(), given.clone()
    gathered = [torch.zeros_like(given)]
    dist.all_reduce(summed)
    dist.all_gather(gathered, given)
    dist.broadcast(sent, src=0)
    dist.barrier()
    results = {"all_reduce": summed, "all_gather": gathered[0], "broadcast": sent}
    return [f"{name} is wrong" for name, each in results.items() if not torch.equal(each, given)]


if __name__ == "__main__":
    on_gpu = sys.argv[1] == "cuda"
    found = in_the_group(sys.argv[1], "nccl" if on_gpu else "gloo")
    Path(sys.argv[2]).write_text(json.dumps(found._asdict()), encoding="utf-8")
