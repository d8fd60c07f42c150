"""The time of a row in `CSVLogger`, in batches as from a courier: at row 1,000,000 the same as at row 1,000.

bench_csv.py [ROWS]    1,000,000 if not given
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from rankzero.events.run_info import LogContext, MetricsRow, RunInfo
from rankzero.loggers.csv.logger import CSVLogger

BATCH = 1000
ROUNDS = 40
LIMIT = 1.5
"""Maximum ratio of the times of late and early rows; the difference is noise."""


class File:
    """A metrics.csv to which batches are added."""

    def __init__(self, directory: str, name: str) -> None:
        self.path = Path(directory, name)
        self.logger = CSVLogger()
        self.logger.attach(RunInfo(name, name, "bench", str(self.path)))
        self.logger.watermark()
        self.rows = 0

    def add(self, values: dict[str, float], rows: int = BATCH) -> float:
        """Add rows, and return the seconds that it took."""
        batch = [
            MetricsRow(values, line, LogContext(1.7e9 + line, line)) for line in range(self.rows, self.rows + rows)
        ]
        start = time.perf_counter()
        self.logger.log_metrics_batch(batch)
        self.logger.flush()
        self.rows += rows
        return time.perf_counter() - start


def main(rows: int) -> int:
    ten_metrics = {f"metric_{i}": 0.1 * i for i in range(10)}
    with tempfile.TemporaryDirectory() as directory:
        short, long = File(directory, "short"), File(directory, "long")
        short.add(ten_metrics)
        while long.rows < rows - ROUNDS * BATCH:
            long.add(ten_metrics)
        # In turns, so that other load affects both.
        seconds = [(short.add(ten_metrics), long.add(ten_metrics)) for _ in range(ROUNDS)]
        new_column = long.add({"new": 1.0}, rows=1)
        megabytes = (long.path / "metrics.csv").stat().st_size / 1e6
    early, late = (median(part) / BATCH * 1e6 for part in zip(*seconds, strict=True))
    print(f"CSV, ten metrics a row, {rows:,} rows, {megabytes:.0f} MB")
    print(f"  a row, from row 1,000 on        {early:6.2f} µs")
    print(f"  a row, up to row {rows:<12,}   {late:6.2f} µs")
    print(f"  ratio                           {late / early:6.2f}       limit {LIMIT}")
    print(f"  a new column, per row before it {new_column / rows * 1e6:6.2f} µs    ({new_column:.2f} s)")
    return int(late / early > LIMIT)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
