"""The time of `run.log_artifact` and `run.log_checkpoint` with a file of 1 GiB, compared with one of 1 MiB."""

import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

from measuring import Table, in_turns, median_ratio

import rankzero

ROUNDS = 5
LIMIT = 3.0


def measure(table: Table, run: rankzero.Run, verb: str, small: Path, large: Path) -> None:
    log = getattr(run, verb)

    def taken(path: Path) -> list[int]:
        began = time.perf_counter_ns()
        log(path)
        spent = time.perf_counter_ns() - began
        run.flush()
        return [spent]

    rounds = in_turns(ROUNDS, lambda: taken(small), lambda: taken(large))
    pairs = [(first[0], second[0]) for first, second in rounds]
    small_us, large_us = (median(each) / 1000 for each in zip(*pairs, strict=True))
    table.show(f"{verb}: 1 GiB {large_us:.0f} µs, 1 MiB {small_us:.0f} µs", median_ratio(pairs), "×", LIMIT)


def main() -> None:
    warnings.simplefilter("ignore")
    table = Table(f"A call that logs a file, {ROUNDS} rounds")
    with tempfile.TemporaryDirectory() as directory:
        small, large = Path(directory, "small"), Path(directory, "large")
        for path, size in ((small, 1 << 20), (large, 1 << 30)):
            with open(path, "wb") as file:
                file.truncate(size)
        with rankzero.start("csv", project="bench", dir=directory, delivery="off") as run:
            for verb in ("log_artifact", "log_checkpoint"):
                measure(table, run, verb, small, large)
    table.exit()


if __name__ == "__main__":
    main()
