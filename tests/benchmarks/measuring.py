"""Tools for benchmarks: rounds in turns, and a table of numbers with their limits."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

NOISE = 1.25
"""Maximum ratio of the slowest to the fastest rounds on a quiet machine."""


class Table:
    """Prints each number with its limit; `exit` fails if a limit is exceeded."""

    def __init__(self, title: str) -> None:
        self.status = 0
        print(title)

    def show(self, what: str, value: float, unit: str, limit: float | None = None, digits: int = 2) -> None:
        verdict = "" if limit is None else f"limit {limit:g} {unit}".ljust(18) + ("ok" if value <= limit else "OVER")
        print(f"  {what:<58} {value:>9.{digits}f} {unit:<3} {verdict}".rstrip(), flush=True)
        if limit is not None and value > limit:
            self.status = 1

    def show_noise(self, rounds: Sequence[float]) -> None:
        """Print a note if rounds of the same work took very different times."""
        if noise(rounds) > NOISE:
            load = os.getloadavg()[0]
            print(f"  noisy: rounds of the same bare work differ by {noise(rounds):.2f}× (load {load:.1f})")

    def exit(self) -> None:
        sys.exit(self.status)


def peak() -> float:
    """Return the peak memory of this process in MB; unlike rusage, without its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(work: Callable[[], float]) -> None:
    """Print the seconds and the MB of memory that a function takes, and the number that it returns."""
    before = peak()
    began = time.perf_counter()
    number = work()
    print(time.perf_counter() - began, peak() - before, number)


def in_new_process(*arguments: Any) -> list[float]:
    """Run the benchmark with other arguments, without the memory of this process; return the numbers that it prints."""
    command = [sys.executable, *map(str, (sys.argv[0], *arguments))]
    return [float(each) for each in subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.split()]


def in_turns(
    rounds: int, first: Callable[[], Sequence[float]], second: Callable[[], Sequence[float]]
) -> list[tuple[Sequence[float], Sequence[float]]]:
    """Run two kinds of work in turns, so that other load affects both; the first one alternates."""
    results = []
    for number in range(rounds):
        if number % 2:
            later = second()
            results.append((first(), later))
        else:
            results.append((first(), second()))
    return results


def noise(rounds: Sequence[float]) -> float:
    """Return the ratio of a slow to a fast round."""
    deciles = quantiles(rounds, n=10)
    return deciles[-1] / deciles[0]


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the median over rounds of second / first."""
    return median(second / first for first, second in pairs)
