"""The CPU time of the process for system metrics, and their share of start() and finish()."""

import logging
import sys
import tempfile
import time
import warnings
from statistics import median

import psutil
from measuring import Table

import rankzero

WARM_UP = 5.0
SECONDS = 60.0
CHILDREN = 16
ROUNDS = 30
LIMIT = 1.5


def main() -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("rankzero").setLevel(logging.WARNING)
    every = len(psutil.pids())
    table = Table(f"System metrics of a process with {CHILDREN} children, on a machine with {every} processes")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        sleep = [sys.executable, "-c", f"import time; time.sleep({10 * SECONDS})"]
        children = [psutil.Popen(sleep) for _ in range(CHILDREN)]
        for every in (True, 0.01):
            share = measured_share(directory, every)
            table.show(f"CPU time, {'every 10 s' if every is True else 'as often as possible'}", share, "%", 0.5)
        for child in children:
            child.kill()
            child.wait()
        options: list[dict[str, bool]] = [{}, {"capture_environment": True}, {"system_metrics": True}]
        rounds = [[begin_and_end(directory, **each) for each in options] for _ in range(ROUNDS)]
        (off, ends), (other, _), (on, ends_later) = (
            map(median, zip(*each, strict=True)) for each in zip(*rounds, strict=True)
        )
        print(f"  start() takes {off:.1f} ms, with another process {other:.1f} ms, with system metrics {on:.1f} ms")
        table.show("start() with system metrics, to that with another process", on / other, "×", LIMIT)
        table.show("finish() takes longer by", ends_later - ends, "ms")
    table.exit()


def measured_share(directory: str, every: float | bool) -> float:
    """Return the CPU time of measuring after the start, in percent of a core."""
    run = rankzero.start([], dir=directory, capture_environment=False, system_metrics=every)
    (process,) = (each for each in psutil.Process().children() if "rankzero.capture.system_metrics" in each.cmdline())
    time.sleep(WARM_UP)
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(SECONDS)
    after, took = process.cpu_times(), time.monotonic() - began
    run.finish()
    return 100 * (after.user + after.system - before.user - before.system) / took


def begin_and_end(
    directory: str, *, capture_environment: bool = False, system_metrics: bool = False
) -> tuple[float, float]:
    """Return the milliseconds of starting and finishing a run."""
    options = {"capture_environment": capture_environment, "system_metrics": system_metrics}
    began = time.perf_counter()
    run = rankzero.start([], dir=directory, **options)
    started = time.perf_counter()
    run.finish()
    return 1000 * (started - began), 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
