"""The time to write a value to an event file: `TensorBoardLogger`, and ``SummaryWriter.add_scalar`` of torch.

bench_tensorboard.py [ROWS]    2,000 rows of ten metrics a round, if not given
"""

import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

from measuring import Table, in_turns, median_ratio
from torch.utils.tensorboard import SummaryWriter

from rankzero.events.run_info import LogContext, MetricsRow, RunInfo
from rankzero_tensorboard import TensorBoardLogger

ROUNDS = 10
BATCH = 200
"""Rows in a batch of a courier."""
FASTER = 5
"""Minimum ratio of values per second, rankzero to ``add_scalar``."""


class Bench:
    """Writes rows of ten metrics in three ways, each to a separate file, which is closed at the end."""

    def __init__(self, directory: str, rows: int) -> None:
        self._directory = Path(directory)
        self._values = {f"metric_{index}": 0.1 * index for index in range(10)}
        self._rows = rows
        self._files = 0

    def summary_writer(self) -> list[float]:
        """Return the seconds per value."""
        directory = self._new_directory()
        start = time.perf_counter()
        writer = SummaryWriter(directory)
        for step in range(self._rows):
            for name, value in self._values.items():
                writer.add_scalar(name, value, step)
        writer.flush()
        writer.close()
        return [self._each(start)]

    def batches(self) -> list[float]:
        """Return the seconds per value, in batches as from a courier."""
        logger = TensorBoardLogger()
        directory = self._new_directory()
        moments = [LogContext(1.7e9 + line, line) for line in range(self._rows)]
        start = time.perf_counter()
        logger.attach(RunInfo("0" * 32, "bench", "bench", str(directory)))
        for first in range(0, self._rows, BATCH):
            logger.log_metrics_batch([MetricsRow(self._values, m.line, m) for m in moments[first : first + BATCH]])
            logger.flush()
        logger.close()
        return [self._each(start)]

    def direct(self) -> list[float]:
        """Return the seconds per value in direct use: each row is written at once."""
        logger = TensorBoardLogger(self._new_directory())
        start = time.perf_counter()
        for step in range(self._rows):
            logger.log_metrics(self._values, step)
            logger.save()
        logger.close()
        return [self._each(start)]

    def _new_directory(self) -> Path:
        self._files += 1
        return self._directory / str(self._files)

    def _each(self, start: float) -> float:
        return (time.perf_counter() - start) / (self._rows * len(self._values))


def main(rows: int) -> None:
    warnings.simplefilter("error")
    table = Table(f"TensorBoard, ten metrics a row, {rows:,} rows, flushed and closed")
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(directory, rows)
        for imports in (bench.batches, bench.summary_writer):
            imports()
        delivered = [(theirs[0], ours[0]) for theirs, ours in in_turns(ROUNDS, bench.summary_writer, bench.batches)]
        direct = [(theirs[0], ours[0]) for theirs, ours in in_turns(ROUNDS, bench.summary_writer, bench.direct)]
    table.show_noise([theirs for theirs, _ in delivered])
    table.show("a value, SummaryWriter.add_scalar", median(theirs for theirs, _ in delivered) * 1e6, "µs")
    for what, pairs in (("delivered by a courier", delivered), ("logged directly", direct)):
        table.show(f"a value, {what}", median(ours for _, ours in pairs) * 1e6, "µs")
        table.show("  of what add_scalar costs", median_ratio(pairs) * 100, "%", limit=100 / FASTER, digits=1)
    table.exit()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
