"""Import a million points from a log of Neptune's 1.x client, compared with decoding every line with msgspec."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from measuring import peak

from rankzero.importers.writing import import_run
from rankzero_neptune.importing.importer import NeptuneImporter

STEPS = 100_000
NAMES = [f"metric_{index}" for index in range(10)]
POINTS = STEPS * len(NAMES)

MOST_TIMES_BARE = 10
MOST_MB = 40


def write_log(directory):
    """Write the log of a client that gets each value separately, with a separate time."""
    directory.mkdir(parents=True)
    version = 0
    with open(directory / "data-1.log", "w") as file:
        for step in range(STEPS):
            for index, name in enumerate(NAMES):
                version += 1
                point = {"value": (step + index) / 3, "step": step, "ts": 1.7e9 + step / 7 + index * 1e-5}
                operation = {"type": "LogFloats", "path": ["train", name], "values": [point]}
                file.write(json.dumps({"obj": operation, "version": version, "at": point["ts"]}) + "\n")


def bare(directory):
    began = time.perf_counter()
    decode = msgspec.json.Decoder().decode
    with open(directory / "data-1.log", "rb") as file:
        for line in file:
            decode(line)
    return time.perf_counter() - began


def rescue(project, runs):
    """Print the seconds and the MB of memory of the import."""
    (found,) = NeptuneImporter().find([str(project)])
    before = peak()
    began = time.perf_counter()
    imported = import_run(found, Path(runs), "bench")
    seconds = time.perf_counter() - began
    assert imported.values == POINTS
    print(seconds, peak() - before)


def main():
    with tempfile.TemporaryDirectory() as place:
        log = Path(place, ".neptune", "offline", "run__11111111-2222-3333-4444-555555555555__1__abcdefgh")
        write_log(log)
        decoding, rescuing, megabytes = [], [], []
        for turn in range(3):  # in turns, so that other load affects both
            decoding.append(bare(log))
            command = [sys.executable, __file__, place, f"{place}/runs-{turn}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, memory = map(float, done.stdout.split())
            rescuing.append(seconds)
            megabytes.append(memory)
    seconds, limit, memory = min(rescuing), MOST_TIMES_BARE * min(decoding), max(megabytes)
    print(f"importing {POINTS:,} points: {seconds:.2f} s (limit {limit:.2f} s, {MOST_TIMES_BARE} times bare decoding)")
    print(f"                  that is {POINTS / seconds:,.0f} points a second")
    print(f"memory for it: {memory:.0f} MB (limit {MOST_MB} MB)")
    return int(seconds > limit or memory > MOST_MB)


if __name__ == "__main__":
    sys.exit(rescue(*sys.argv[1:]) if len(sys.argv) > 1 else main())
