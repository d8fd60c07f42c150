"""The index: commands on a run of ten million points, and on ten thousand runs, after the first time.

The seconds are those of the processor: a machine that is idle takes as long, and a busy one does not disturb them.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench_read
from measuring import Table

from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Finish, Metrics, Params, Start, encode
from rankzero.reader.index.run_index import index_run
from rankzero.reader.run_data import read_run
from rankzero.rundir.positions import Position, save_position

RUNS = 10_000
MOST_TIMES_READING = 3  # the first time, beside reading all points into memory
MOST_SECONDS_TO_SHOW = 1
MOST_MEGABYTES_TO_SHOW = 200
MOST_SECONDS_TO_UPDATE = 0.1  # after a thousand new lines
MOST_SECONDS_TO_LIST = 1
MOST_SECONDS_TO_FIND_THE_BEST = 2

BEST = "import rankzero; runs = rankzero.read_runs('runs'); print(min(runs, key=lambda run: run.metrics['loss'].min))"


def write_runs(directory):
    for number in range(RUNS):
        run_dir = directory / f"{number:032x}"
        run_dir.mkdir(parents=True)
        info = RunInfo(run_dir.name, f"run-{number}", "bench", str(run_dir), started=1.7e9 + number)
        rows = [Metrics(1.7e9 + step, step, {"loss": number / (step + 1), "acc": step / 100}) for step in range(20)]
        params = Params(1.7e9, {"lr": number / RUNS, "opt": {"name": "sgd", "momentum": 0.9}})
        events = [Start(1.7e9, info, {"csv": {"plugin": "csv"}}), params, *rows, Finish(1.8e9, "success")]
        journal = b"".join(map(encode, events))
        (run_dir / "journal.jsonl").write_bytes(journal)
        save_position(run_dir, "csv", Position(len(journal), len(events), closed=True))


def timed(work):
    """Return the processor seconds that work takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def command(directory, *arguments):
    """Return the processor seconds that a command takes, start of Python included, and the MB of memory it needs."""
    return program(directory, f"from rankzero.cli.app import main; main({arguments!r})")


def program(directory, code):
    """Return the processor seconds and the MB that a program needs."""
    peak = "int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]) / 1024"
    whole = f"{code}\nimport sys, time\nprint(time.process_time(), {peak}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", whole], cwd=directory, check=True, capture_output=True, text=True)
    return tuple(map(float, done.stderr.split()[-2:]))


def one_run(directory, table):
    bench_read.write_journal(directory)
    reading = timed(lambda: read_run(directory))
    first = timed(lambda: index_run(directory))
    table.show("the first time, beside read_run", first / reading, "×", MOST_TIMES_READING)
    size = sum((directory / name).stat().st_size for name in ("index.curves", "index.summary"))
    table.show(
        "size of the index beside the journal", 100 * size / (directory / "journal.jsonl").stat().st_size, "%", 1
    )
    seconds, megabytes = command(directory, "show", ".")
    table.show("rankzero show, after the first time", seconds, "s", MOST_SECONDS_TO_SHOW)
    table.show("its memory", megabytes, "MB", MOST_MEGABYTES_TO_SHOW, 0)
    index = index_run(directory)
    with open(directory / "journal.jsonl", "ab") as journal:
        rows = [Metrics(1.8e9, step, dict.fromkeys(bench_read.NAMES, 1.0)) for step in range(1000)]
        journal.write(b"".join(map(encode, rows)))
    table.show("update after a thousand new lines", timed(index.update), "s", MOST_SECONDS_TO_UPDATE, 3)


def many_runs(directory, table):
    write_runs(directory / "runs")
    first, _ = command(directory, "ls", "runs")
    table.show(f"rankzero ls of {RUNS:,} runs, the first time", first, "s")
    bare = min(timed(lambda: [path.stat() for path in Path(directory).rglob("journal.jsonl")]) for _ in range(3))
    table.show("only finding their journals", bare, "s")
    table.show(
        "rankzero ls, afterwards", min(command(directory, "ls", "runs")[0] for _ in range(3)), "s", MOST_SECONDS_TO_LIST
    )
    best = min(program(directory, BEST)[0] for _ in range(3))
    table.show("the best of them with read_runs", best, "s", MOST_SECONDS_TO_FIND_THE_BEST)


def main():
    table = Table(f"a run of {bench_read.POINTS:,} points and {RUNS:,} runs (load {os.getloadavg()[0]:.1f})")
    with tempfile.TemporaryDirectory() as directory:
        one_run(Path(directory), table)
    with tempfile.TemporaryDirectory() as directory:
        many_runs(Path(directory), table)
    table.exit()


if __name__ == "__main__":
    main()
