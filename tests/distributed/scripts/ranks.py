"""What the scripts here share."""

import json
import os
import sys
import time
from pathlib import Path

import psutil
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

LOADED_ON_RANK_ZERO = ["rankzero.csv_logger", "rankzero.courier", "pluggy"]


def identity(run):
    return [run.id, run.name, run.log_dir]


def report(rank, **what):
    path = Path(os.environ["REPORTS"], f"{rank}.json")
    path.write_text(json.dumps({"rank": rank, "pid": os.getpid(), **what}))


def loaded():
    return [name for name in LOADED_ON_RANK_ZERO if name in sys.modules]


def count_couriers():
    count = 0
    for process in psutil.process_iter():
        try:
            is_ours = process.environ().get("RANKZERO_DIR") == os.environ["RANKZERO_DIR"]
            count += is_ours and "rankzero.courier_process" in process.cmdline()
        except psutil.Error:
            continue
    return count


def train(run, steps=20, each_step=lambda step: None):
    """Train a small model with all ranks, log each step, and return for how many seconds that was waited for."""
    logging = 0.0
    torch.manual_seed(0)
    model = DistributedDataParallel(torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.manual_seed(dist.get_rank())
    for step in range(steps):
        inputs = torch.randn(16, 8)
        loss = ((model(inputs) - inputs.sum(1, keepdim=True)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        value, began = loss.item(), time.perf_counter()
        run.log_metrics({"loss": value}, step)
        logging += time.perf_counter() - began
        each_step(step)
    return logging


def leave():
    """End this process without torch's destructors: gloo's abort now and then, also without rankzero."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
