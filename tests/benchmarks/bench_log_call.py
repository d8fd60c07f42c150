"""The time of `run.log_metrics` with ten floats, compared with msgspec and `os.write` for the same event."""

import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

import msgspec
from measuring import Table, in_turns, median_ratio, percentile

sys.path.insert(0, str(Path(__file__).parents[1]))
from servers.down_logger import DownLogger

import rankzero
from rankzero.events.structs import Metrics

CALLS = 2000
ROUNDS = 40
P50_LIMIT, P99_LIMIT = 1.5, 3.0
METRICS = {f"train/metric_{index}": index / 3 for index in range(10)}


def measure(table: Table, what: str, directory: str, loggers: object, delivery: str) -> None:
    run = rankzero.start(loggers, project="bench", dir=directory, delivery=delivery)
    fd = os.open(run.dir / "bare.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    encoder, event = msgspec.json.Encoder(), Metrics(time.time(), 123_456, METRICS)
    clock = time.perf_counter_ns

    def bare() -> list[int]:
        taken = []
        for _ in range(CALLS):
            began = clock()
            os.write(fd, encoder.encode(event) + b"\n")
            taken.append(clock() - began)
        return taken

    def logged() -> list[int]:
        taken = []
        for step in range(100_000, 100_000 + CALLS):
            began = clock()
            run.log_metrics(METRICS, step)
            taken.append(clock() - began)
        return taken

    if delivery == "process":
        time.sleep(1.5)  # until the courier runs
    in_turns(4, bare, logged)
    rounds = in_turns(ROUNDS, bare, logged)
    for percent, limit in ((50, P50_LIMIT), (99, P99_LIMIT)):
        pairs = [(percentile(first, percent), percentile(second, percent)) for first, second in rounds]
        bare_us, logged_us = (median(each) / 1000 for each in zip(*pairs, strict=True))
        table.show(f"{what}: p{percent} {logged_us:.2f} µs, bare {bare_us:.2f} µs", median_ratio(pairs), "×", limit)
    table.show_noise([percentile(first, 50) for first, _ in rounds])
    run.finish(timeout=0.0)
    os.close(fd)


def main() -> None:
    warnings.simplefilter("ignore")
    table = Table(f"A log call of ten floats, {ROUNDS} rounds of {CALLS}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        measure(table, "nobody delivers", directory, "csv", "off")
        measure(table, "a courier delivers to CSV", directory, "csv", "process")
        measure(table, "the tracker is down", directory, DownLogger(), "process")
        end_couriers()
    table.exit()


def end_couriers() -> None:
    """Kill the couriers that wait for their tracker."""
    import psutil

    for process in psutil.Process().children():
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
