"""What the benchmarks share: rounds that take turns, and numbers printed beside their limits."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles

NOISE = 1.25
"""How many times as long as the fastest rounds the slowest ones of a quiet machine take."""


class Table:
    """Prints each number beside its limit; its exit status says whether all were kept."""

    def __init__(self, title: str) -> None:
        self.status = 0
        print(title)

    def show(self, what: str, value: float, unit: str, limit: float | None = None, digits: int = 2) -> None:
        verdict = "" if limit is None else f"limit {limit:g} {unit}".ljust(18) + ("ok" if value <= limit else "OVER")
        print(f"  {what:<58} {value:>9.{digits}f} {unit:<3} {verdict}".rstrip(), flush=True)
        if limit is not None and value > limit:
            self.status = 1

    def say_noise(self, rounds: Sequence[float]) -> None:
        """Say so if rounds of the same work took very different times."""
        if noise(rounds) > NOISE:
            load = os.getloadavg()[0]
            print(f"  noisy: rounds of the same bare work differ by {noise(rounds):.2f}× (load {load:.1f})")

    def exit(self) -> None:
        sys.exit(self.status)


def peak() -> float:
    """Return the most memory that this process has needed, in MB; other than rusage's, not its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def by_turns(
    rounds: int, first: Callable[[], Sequence[float]], second: Callable[[], Sequence[float]]
) -> list[tuple[Sequence[float], Sequence[float]]]:
    """Run two kinds of work by turns, so that whatever else the machine does befalls both; who begins alternates."""
    results = []
    for number in range(rounds):
        if number % 2:
            later = second()
            results.append((first(), later))
        else:
            results.append((first(), second()))
    return results


def noise(rounds: Sequence[float]) -> float:
    """Return how many times as long as a fast round a slow one took."""
    deciles = quantiles(rounds, n=10)
    return deciles[-1] / deciles[0]


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the median over rounds of second / first."""
    return median(second / first for first, second in pairs)
