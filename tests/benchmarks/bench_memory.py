"""The growth of the training process in a million log calls while all trackers are down."""

import sys
import tempfile
import warnings
from pathlib import Path

import psutil
from measuring import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from servers.down_logger import DownLogger, HangingLogger

import rankzero

CALLS = 1_000_000
WARM_UP = 20_000
LIMIT_MB = 5.0
METRICS = {f"train/metric_{index}": index / 3 for index in range(10)}


def main() -> None:
    warnings.simplefilter("ignore")
    table = Table(f"Memory of the training process, {CALLS:,} log calls of ten floats, three trackers down")
    process = psutil.Process()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        loggers = [DownLogger(0), DownLogger(1), HangingLogger()]
        run = rankzero.start(loggers, project="bench", dir=directory)
        for step in range(WARM_UP):
            run.log_metrics(METRICS, step)
        before = process.memory_info().rss
        for step in range(WARM_UP, WARM_UP + CALLS):
            run.log_metrics(METRICS, step)
        grown = (process.memory_info().rss - before) / 1e6
        assert sum(1 for _ in open(run.dir / "journal.jsonl", "rb")) >= CALLS  # noqa: SIM115
        table.show(f"growth, at {before / 1e6:.0f} MB before", grown, "MB", LIMIT_MB)
        run.finish(timeout=0.0)
        for courier in process.children():
            courier.kill()
            courier.wait()
    table.exit()


if __name__ == "__main__":
    main()
