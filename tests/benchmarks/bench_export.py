"""Export a run of two million points in each format, compared with pandas, which loads all of it into memory."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench_read
from measuring import Table, peak

from rankzero.reader.exporting.export import export_runs
from rankzero.reader.exporting.registry import make_exporter
from rankzero.reader.run_data import read_run

bench_read.ROWS = 200_000
POINTS = bench_read.ROWS * len(bench_read.NAMES)
FORMATS = ["csv", "jsonl", "parquet", "duckdb", "neptune-parquet"]
MOST_TIMES_PANDAS = 2
MOST_MB = 250  # for a run of any size, including the buffers of pyarrow and DuckDB


def ours(run_dir, name, output):
    result = export_runs([run_dir], make_exporter(name, output))
    assert (result.failed, result.points) == ({}, POINTS)


def pandas(run_dir, name, output):
    frame = read_run(run_dir).to_pandas()
    assert len(frame) == POINTS
    if name == "parquet":
        frame.to_parquet(output)
    else:
        frame.to_csv(output, index=False)


def measure(how, run_dir, name):
    """Return the seconds and the MB of memory of an export in a separate process."""
    done = subprocess.run([sys.executable, __file__, how, run_dir, name], capture_output=True, text=True, check=True)
    return tuple(map(float, done.stdout.split()))


def export(how, run_dir, name):
    from rankzero.plugins.registry import get_plugins

    get_plugins().load_hooks()
    import pandas as _pandas  # imported for both before measuring  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    before = peak()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        {"ours": ours, "pandas": pandas}[how](run_dir, name, Path(directory, "out"))
    print(time.perf_counter() - began, peak() - before)


def main():
    table = Table(f"exporting {POINTS:,} points")
    with tempfile.TemporaryDirectory() as directory:
        run_dir = Path(directory)
        bench_read.write_journal(run_dir)
        pairs = [measure("pandas", run_dir, name) for name in ("csv", "parquet")]
        for name, (seconds, megabytes) in zip(("to_csv", "to_parquet"), pairs, strict=True):
            table.show(f"pandas.{name}, with reading the run", seconds, "s")
            table.show("    memory", megabytes, "MB", digits=0)
        for name in FORMATS:
            seconds, megabytes = measure("ours", run_dir, name)
            bound = {"csv": pairs[0], "parquet": pairs[1]}.get(name)
            table.show(name, seconds, "s", bound and round(bound[0] * MOST_TIMES_PANDAS, 2))
            table.show("    million points a second", POINTS / seconds / 1e6, "")
            table.show("    memory", megabytes, "MB", MOST_MB, digits=0)
    table.exit()


if __name__ == "__main__":
    export(sys.argv[1], Path(sys.argv[2]), sys.argv[3]) if len(sys.argv) > 1 else main()
