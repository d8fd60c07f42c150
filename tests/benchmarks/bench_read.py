"""Read a run of ten million points, compared with decoding every line with msgspec."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from measuring import peak

from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Metrics, Start, encode, encode_lines
from rankzero.reader.run_data import read_run

ROWS = 1_000_000
NAMES = [f"train/metric_{index}" for index in range(10)]
POINTS = ROWS * len(NAMES)

MOST_TIMES_BARE = 3
MOST_BYTES_A_POINT = 12  # 9.6 of them are the numbers themselves: a value, and a tenth of a step and a time
MOST_MB_BESIDES = 40  # numpy, a chunk of the journal


def write_journal(run_dir):
    with open(run_dir / "journal.jsonl", "wb") as file:
        file.write(encode(Start(0.0, RunInfo("a" * 32, "bench", "bench", str(run_dir)))))
        for first in range(0, ROWS, 10_000):
            rows = range(first, first + 10_000)
            file.write(
                encode_lines(
                    [Metrics(1.7e9 + step / 7, step, {n: (step + i) / 3 for i, n in enumerate(NAMES)}) for step in rows]
                )
            )


def bare(journal):
    began = time.perf_counter()
    decode = msgspec.json.Decoder().decode
    with open(journal, "rb") as file:
        for line in file:
            decode(line)
    return time.perf_counter() - began


def read(run_dir):
    """Print the seconds and the MB of memory of reading."""
    before = peak()
    began = time.perf_counter()
    run = read_run(run_dir)
    seconds = time.perf_counter() - began
    assert sum(map(len, run.metrics.values())) == POINTS
    assert run.metrics[NAMES[9]].value[-1] == (ROWS - 1 + 9) / 3
    print(seconds, peak() - before)


def main():
    with tempfile.TemporaryDirectory() as directory:
        run_dir = Path(directory)
        write_journal(run_dir)
        decoding, reading, megabytes = [], [], []
        for _ in range(3):  # in turns, so that other load affects both
            decoding.append(bare(run_dir / "journal.jsonl"))
            done = subprocess.run([sys.executable, __file__, run_dir], capture_output=True, text=True, check=True)
            seconds, memory = map(float, done.stdout.split())
            reading.append(seconds)
            megabytes.append(memory)
    seconds, limit = min(reading), MOST_TIMES_BARE * min(decoding)
    memory, most = max(megabytes), POINTS * MOST_BYTES_A_POINT / 1e6 + MOST_MB_BESIDES
    print(f"reading {POINTS:,} points: {seconds:.2f} s (limit {limit:.2f} s, {MOST_TIMES_BARE} times bare decoding)")
    print(f"                   that is {POINTS / seconds / 1e6:.1f} million points a second")
    print(f"memory for it: {memory:.0f} MB (limit {most:.0f} MB)")
    return int(seconds > limit or memory > most)


if __name__ == "__main__":
    sys.exit(read(sys.argv[1]) if len(sys.argv) > 1 else main())
