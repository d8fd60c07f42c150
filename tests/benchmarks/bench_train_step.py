"""The slowdown of a CPU-bound training step of about 100 µs by logging ten scalars, with a courier process."""

import tempfile
import time
from statistics import median

import torch
from measuring import NOISE, Table, in_turns, median_ratio, noise

import rankzero

STEPS = 200
ROUNDS = 60
STEP_US = 100.0
LIMIT_PERCENT = 10.0
ATTEMPTS = 5  # on a busy machine; the best one counts


def make_step(width: int):
    torch.manual_seed(0)
    model = torch.nn.Linear(width, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs, targets = torch.randn(64, width), torch.randn(64, 16)

    def step() -> float:
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def seconds_a_step(step, steps: int = STEPS) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - began) / steps


def tuned_step():
    """Return the step whose duration is nearest to STEP_US on this machine."""
    steps = [make_step(width) for width in range(64, 1025, 64)]
    for step in steps:
        seconds_a_step(step)
    return min(steps, key=lambda step: abs(min(seconds_a_step(step, 25) for _ in range(80)) * 1e6 - STEP_US))


def main() -> None:
    torch.set_num_threads(1)
    step = tuned_step()
    names = [f"train/metric_{index}" for index in range(9)]
    with tempfile.TemporaryDirectory() as directory, rankzero.start("csv", dir=directory) as run:
        number = 0

        def bare_step() -> None:
            loss = step()
            _ = {"loss": loss, **dict.fromkeys(names, loss)}

        def logged_step() -> None:
            nonlocal number
            loss = step()
            run.log_metrics({"loss": loss, **dict.fromkeys(names, loss)}, number)
            number += 1

        def both() -> list[tuple[float, float]]:
            turns = in_turns(ROUNDS, lambda: [seconds_a_step(bare_step)], lambda: [seconds_a_step(logged_step)])
            return [(bare[0], logged[0]) for bare, logged in turns]

        time.sleep(1.5)  # until the courier runs
        both()
        rounds = both()
        for _ in range(ATTEMPTS - 1):
            if noise([bare for bare, _ in rounds]) > NOISE:
                rounds = min(rounds, both(), key=lambda each: noise([bare for bare, _ in each]))
    table = Table(f"A training step with and without logging ten scalars, {ROUNDS} rounds of {STEPS}")
    table.show("the step alone", median(bare for bare, _ in rounds) * 1e6, "µs", digits=1)
    table.show("with logging", median(logged for _, logged in rounds) * 1e6, "µs", digits=1)
    table.show("slower by", (median_ratio(rounds) - 1) * 100, "%", LIMIT_PERCENT, digits=1)
    table.show_noise([bare for bare, _ in rounds])
    table.exit()


if __name__ == "__main__":
    main()
