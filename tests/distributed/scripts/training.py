"""A small model that all ranks train."""

import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def train(run, steps=20, each_step=lambda step: None, each_loss=lambda loss: None):
    """Train a small model with all ranks, log each step, and return the seconds of waiting."""
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
        each_loss(value)
        run.log_metrics({"loss": value}, step)
        logging += time.perf_counter() - began
        each_step(step)
    return logging
