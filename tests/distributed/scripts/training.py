"""A small model that all ranks train."""

import time

import torch
import torch.distributed as dist


def train(run, steps=20, each_step=lambda step: None, each_loss=lambda loss: None):
    """Train a small model with all ranks, log each step, and return the seconds of waiting."""
    logging = 0.0
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 1)
    torch.manual_seed(dist.get_rank())
    for step in range(steps):
        inputs = torch.randn(16, 8)
        loss = ((model(inputs) - inputs.sum(1, keepdim=True)) ** 2).mean()
        model.zero_grad()
        loss.backward()
        # By hand, because the first step of DistributedDataParallel or an optimizer imports as much as torch itself.
        with torch.no_grad():
            for parameter in model.parameters():
                dist.all_reduce(parameter.grad)
                parameter -= 0.01 / dist.get_world_size() * parameter.grad
        value, began = loss.item(), time.perf_counter()
        each_loss(value)
        run.log_metrics({"loss": value}, step)
        logging += time.perf_counter() - began
        each_step(step)
    return logging
